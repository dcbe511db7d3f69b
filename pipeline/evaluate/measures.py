"""Measures by name: those of the protocols, and all others by ir-measures.

Names are those of ir-measures (`nDCG@10`, `R@100`, `RR`, `AP`, `P@10`), with three of our own:

- `mAP`: average precision by trapezoids, as Oxford and Holidays define it; `AP` is trec_eval's.
- `N-S`: right pictures among the first four, 0 to 4, as UKB defines it.
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
    precision_at,
    recall_at,
    reciprocal_rank,
    revisited_precision,
)

LAB = "pip install 'lamella[lab]'"

AT_ONCE = 2_000
"""Queries that ir-measures is given together: it wants a dictionary of every ranking."""

Ranks = NDArray[np.int64]

WHOLE: dict[str, Callable[[Ranks, int], float]] = {
    "mAP": average_precision,
    "N-S": lambda ranks, positives: ns_score(ranks),
    "AP": average_precision_by_rectangles,
    "RR": lambda ranks, positives: reciprocal_rank(ranks),
}
AT_K: dict[str, Callable[[Ranks, int, int], float]] = {
    "mP": revisited_precision,
    "P": lambda ranks, positives, k: precision_at(ranks, k),
    "R": recall_at,
}


@dataclass(frozen=True)
class Measure:
    """A measure.

    Attributes:
        name: as it is shown.
        cutoff: how many ranks it looks at; None for all.
        ours: its value from the ranks of a query's right pictures, from 0, and their number,
            whether they were found or not; None where ir-measures computes it.
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
    at = re.fullmatch(r"(mP|P|R)@([1-9][0-9]{0,8})", text)
    if at:
        k, measured = int(at[2]), AT_K[at[1]]
        return Measure(text, k, lambda ranks, positives: measured(ranks, positives, k))
    parsed = _foreign(text)
    cutoff = parsed.params.get("cutoff")
    return Measure(str(parsed), cutoff if isinstance(cutoff, int) else None)


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
            f"measures are mAP, N-S, AP, RR, mP@k, P@k and R@k, and those of ir-measures, which is "
            f"not installed; got {said}: {LAB}"
        ) from None
    try:
        parsed = ir_measures.parse_measure(text)
        known = ir_measures.DefaultPipeline.supports(parsed)
    except (ValueError, NameError, TypeError, AttributeError, SyntaxError, RecursionError):
        known = False
    if not known:
        raise InputError(
            "measures are mAP, N-S, mP@k, and those of ir-measures, such as nDCG@10, R@100, RR, "
            f"AP and P@10; got {said}: see https://ir-measur.es for their names"
        )
    return parsed


def foreign_scores(
    measures: Sequence[Measure], queries: Iterable[Judged], count: int
) -> NDArray[np.float64]:
    """Return what ir-measures gives each query, (M, Q) float64; 0 for an empty ranking.

    Args:
        measures: M measures that are not ours.
        queries: Q of them.
        count: Q.
    """
    import ir_measures

    parsed = [ir_measures.parse_measure(measure.name) for measure in measures]
    rows = {measure: row for row, measure in enumerate(parsed)}
    scores = np.zeros((len(parsed), count))
    falling: list[float] = []
    place, left = 0, iter(queries)
    while place < count:
        qrels: dict[str, dict[str, int]] = {}
        run: dict[str, dict[str, float]] = {}
        for number in range(place, min(place + AT_ONCE, count)):
            query = next(left)
            qrels[str(number)] = query.relevance
            if query.ranked:
                falling.extend(-float(rank) for rank in range(len(falling), len(query.ranked)))
                # Scores that fall strictly: ir-measures then keeps the order, whatever the ties.
                run[str(number)] = dict(zip(query.ranked, falling, strict=False))
        for found in ir_measures.iter_calc(parsed, qrels, run):
            if found.query_id in run:
                scores[rows[found.measure], int(found.query_id)] = found.value
        place += AT_ONCE
    return scores
