"""Measures by name: those of the protocols, and all others by ir-measures.

Names are those of ir-measures (`nDCG@10`, `R@100`, `RR`, `AP`, `P@10`), with four of our own:

- `mAP`: average precision by trapezoids, as Oxford and Holidays define it; `AP` is trec_eval's.
- `N-S`: right pictures among the first four, 0 to 4, as UKB defines it.
- `mAP@k`: average precision of the first k by rectangles, as Google Landmarks defines it.
- `mP@k`: precision at k of revisited Oxford and Paris, where k is no more than the rank of the last
  right picture.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.evaluate.metrics import (
    NS_DEPTH,
    average_precision,
    average_precision_by_rectangles,
    ns_score,
    recall_at,
)

LAB = "pip install 'lamella[lab]'"

Ranks = NDArray[np.int64]


def share_right(ranks: Ranks, k: int) -> float:
    """Return how many of the first k are right, as a share of k (`P@k` of trec_eval)."""
    return float(np.count_nonzero(ranks < k)) / k


def revisited_precision(ranks: Ranks, positives: int, k: int) -> float:
    """Return precision at k as revisited Oxford and Paris define it (their mP@k, one query of it).

    Where the last right picture stands before rank k, only the ranks up to it count: three right
    pictures in front have precision 1 at any k. One that was not returned stands after k.

    >>> revisited_precision(np.array([0, 2]), 2, 10)  # 2 right ones among the first 3
    0.6666666666666666
    """
    all_returned = len(ranks) == positives
    return share_right(ranks, min(k, int(ranks.max()) + 1) if all_returned else k)


def precision_of_first(ranks: Ranks, positives: int, k: int) -> float:
    """Return average precision over the first k pictures as Google Landmarks defines it (mAP@k).

    By rectangles, over the number of right pictures or k, whichever is less: a query with more than
    k of them can reach 1.

    >>> precision_of_first(np.array([0, 2, 100]), 3, 100)  # (1 / 1 + 2 / 3 + 0) / 3
    0.5555555555555555
    """
    first = ranks[ranks < k]
    return float((np.arange(1, len(first) + 1) / (first + 1)).sum() / min(positives, k))


def reciprocal_rank(ranks: Ranks) -> float:
    """Return 1 over the rank, from 1, of the first right picture; 0 where none was returned."""
    return 1.0 / (int(ranks.min()) + 1) if len(ranks) else 0.0


WHOLE: dict[str, Callable[[Ranks, int], float]] = {
    "mAP": average_precision,
    "N-S": lambda ranks, positives: ns_score(ranks),
    "AP": average_precision_by_rectangles,
    "RR": lambda ranks, positives: reciprocal_rank(ranks),
}
AT_K: dict[str, Callable[[Ranks, int, int], float]] = {
    "mAP": precision_of_first,
    "mP": revisited_precision,
    "P": lambda ranks, positives, k: share_right(ranks, k),
    "R": recall_at,
}


@dataclass(frozen=True)
class Measure:
    """A measure.

    Attributes:
        name: as it is shown.
        cutoff: how many ranks it looks at; None for all.
        ours: its value from the ranks of a query's right pictures, rising, from 0, and the number
            of right pictures, found or not; None where ir-measures computes it.
    """

    name: str
    cutoff: int | None
    ours: Callable[[Ranks, int], float] | None = None


@dataclass(frozen=True)
class Judged:
    """A query's ranking and its judgements, without the pictures that leave it.

    Attributes:
        ranked: names, best first.
        relevance: by name; above 0 is right.
    """

    ranked: tuple[str, ...]
    relevance: dict[str, int]


def listed(text: str) -> list[str]:
    """Return the names in a list with commas between; those within brackets are of one name.

    >>> listed("mAP, AP(rel=2,judged_only=True),P@5")
    ['mAP', 'AP(rel=2,judged_only=True)', 'P@5']
    """
    parts = re.split(r",(?![^(]*\))", text)
    return [part.strip() for part in parts if part.strip()]


def parse_measures(names: Iterable[str]) -> tuple[Measure, ...]:
    """Return the measures of these names, each once.

    Raises:
        InputError: there is no such measure, or it needs ir-measures, which is not installed.
    """
    found = (parse_measure(name) for name in names)
    return tuple({measure.name: measure for measure in found}.values())


def parse_measure(name: str) -> Measure:
    """Return the measure of a name. Raises InputError as `parse_measures`."""
    text = name.strip()
    if text in WHOLE:
        return Measure(text, NS_DEPTH if text == "N-S" else None, WHOLE[text])
    at = re.fullmatch(r"(mAP|mP|P|R)@([1-9][0-9]{0,8})", text)
    if at:
        k, measured = int(at[2]), AT_K[at[1]]
        return Measure(text, k, lambda ranks, positives: measured(ranks, positives, k))
    parsed = _foreign(text)
    cutoff = parsed.params.get("cutoff")
    # Among judged pictures alone the first k may stand anywhere in the ranking.
    within = isinstance(cutoff, int) and not parsed.params.get("judged_only")
    return Measure(str(parsed), cutoff if within else None)


def has_lab() -> bool:
    """Return whether ir-measures is installed."""
    from importlib.util import find_spec

    return find_spec("ir_measures") is not None


def _foreign(text: str) -> Any:
    """Return the measure of ir-measures of this name, which one of its providers computes here."""
    said = one_line(repr(text), 60)
    try:
        import ir_measures
    except ImportError:
        raise InputError(
            "measures are mAP, N-S, AP, RR, mAP@k, mP@k, P@k, R@k, and those of ir-measures, which "
            f"is not installed; got {said}: {LAB}"
        ) from None
    try:
        parsed = ir_measures.parse_measure(text)
        known = ir_measures.DefaultPipeline.supports(parsed)
    except (ValueError, NameError, TypeError, AttributeError, SyntaxError, RecursionError):
        known = False
    if not known:
        raise InputError(
            "measures are mAP, N-S, mAP@k, mP@k, and those of ir-measures, such as nDCG@10, R@100, "
            f"RR, AP and P@10; got {said}: see https://ir-measur.es for their names"
        )
    return parsed


def foreign_scores(measures: Sequence[Measure], queries: Sequence[Judged]) -> NDArray[np.float64]:
    """Return what ir-measures gives each query, (M, Q) float64; 0 for an empty ranking.

    It takes a dictionary of every ranking, so many queries are given in parts.

    Args:
        measures: M measures that are not ours.
        queries: Q of them.
    """
    import ir_measures

    parsed = [ir_measures.parse_measure(measure.name) for measure in measures]
    rows = {measure: row for row, measure in enumerate(parsed)}
    scores = np.zeros((len(parsed), len(queries)))
    # Scores that fall strictly: ir-measures then keeps the order, whatever the ties.
    falling = [-float(rank) for rank in range(max(len(query.ranked) for query in queries))]
    run = {
        str(place): dict(zip(query.ranked, falling, strict=False))
        for place, query in enumerate(queries)
        if query.ranked
    }
    qrels = {str(place): query.relevance for place, query in enumerate(queries)}
    for found in ir_measures.iter_calc(parsed, qrels, run):
        if found.query_id in run:
            scores[rows[found.measure], int(found.query_id)] = found.value
    return scores
