"""Score one ranking by the ranks of its right pictures.

Ranks are counted from 0, after ignored pictures (junk, sometimes the query) have left the ranking.
Definitions: the published evaluation rules of Oxford5k, Holidays and UKB.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ties = Literal["image id", "best", "worst"]

NS_DEPTH = 4
"""UKB scores the first four pictures, as an object has four."""


def order_by_score(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return image ids (N,) by score, falling, then by image id, rising.

    Args:
        scores: (N,) float64; the place in the array is the image id.
    """
    return np.lexsort((np.arange(len(scores)), -scores)).astype(np.int64)


def first_by_score(scores: NDArray[np.float64], depth: int) -> NDArray[np.int64]:
    """Return the first image ids of `order_by_score`, without sorting the others.

    Args:
        scores: (N,) float64, no NaN; the place in the array is the image id.
        depth: how many, at most N.
    """
    if depth == 0:
        return np.empty(0, np.int64)
    bar = np.partition(scores, len(scores) - depth)[len(scores) - depth]
    within = np.flatnonzero(scores >= bar)  # all that are equal to the last one, too
    return within[order_by_score(scores[within])[:depth]]


def ranks_of(
    scores: NDArray[np.float64],
    positive_ids: NDArray[np.int64],
    ignored_ids: NDArray[np.int64] | None = None,
    ties: Ties = "image id",
) -> NDArray[np.int64]:
    """Return the ranks (P,), rising, of the positive images, without the ignored ones.

    Equal to looking the positives up in `order_by_score` without the ignored, but sorts values
    only, which matters in a sweep.

    Args:
        scores: (N,) float64; the place in the array is the image id.
        positive_ids: (P,) distinct image ids.
        ignored_ids: distinct image ids that leave the ranking; none of them positive.
        ties: among equal scores: by image id, or with the positives first or last, which bounds the
            score of any tie rule.

    Raises:
        ValueError: a score is not a number, or an image is both positive and ignored.
    """
    if np.isnan(scores).any():
        raise ValueError(f"image {int(np.argmax(np.isnan(scores)))} has no number as its score")
    kept = np.ones(len(scores), dtype=np.bool_)
    if ignored_ids is not None:
        kept[ignored_ids] = False
    if not kept[positive_ids].all():
        raise ValueError("an image is both positive and ignored; it can be one of them")
    rising = np.sort(scores[kept])
    found = scores[positive_ids]
    above = len(rising) - np.searchsorted(rising, found, side="right")
    equal = len(rising) - above - np.searchsorted(rising, found, side="left")
    ranks = above.astype(np.int64)
    for place in np.flatnonzero(equal > 1):
        same = found == found[place]
        before = int(np.count_nonzero(same & (positive_ids < positive_ids[place])))
        if ties == "image id":
            tied = kept & (scores == found[place])
            before = int(np.count_nonzero(tied[: positive_ids[place]]))
        elif ties == "worst":
            before += int(equal[place]) - int(np.count_nonzero(same))
        ranks[place] += before
    return np.sort(ranks)


def average_precision(ranks: NDArray[np.int64], positives: int) -> float:
    """Return the area under precision and recall by trapezoids, 0 to 1.

    At each positive the mean of the precision just before and just after it, over the number of
    positives; before the first picture precision counts as 1 (compute_ap of Oxford5k,
    holidays_map of Holidays; not the finite sum that others call average precision).

    >>> average_precision(np.array([0, 2]), 3)  # ((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2) / 3
    0.5277777777777778

    Args:
        ranks: (P,) ranks of the returned positives, from 0, distinct.
        positives: how many there are, returned or not.

    Raises:
        ValueError: no positives, more ranks than positives, or ranks not distinct or negative.
    """
    _check(ranks, positives)
    rising = np.sort(ranks).astype(np.float64)
    found = np.arange(len(rising), dtype=np.float64)
    before = np.divide(found, rising, out=np.ones_like(rising), where=rising > 0)
    after = (found + 1) / (rising + 1)
    return float(((before + after) / 2).sum() / positives)


def average_precisions(ranks: NDArray[np.int64], positives: int) -> NDArray[np.float64]:
    """Return `average_precision` of each of G rankings of one query, (G,) float64, to the bit.

    Args:
        ranks: (G, P), each row rising and distinct, from 0.
        positives: how many there are, returned or not, at least 1 and P.
    """
    rising = ranks.astype(np.float64)
    found = np.arange(rising.shape[1], dtype=np.float64)
    before = np.divide(found, rising, out=np.ones_like(rising), where=rising > 0)
    after = (found + 1) / (rising + 1)
    summed: NDArray[np.float64] = ((before + after) / 2).sum(axis=1)
    return summed / positives


def average_precision_by_rectangles(ranks: NDArray[np.int64], positives: int) -> float:
    """Return average precision as trec_eval and ir-measures (`AP`) define it, 0 to 1.

    The precision at each positive, over the number of positives.

    >>> average_precision_by_rectangles(np.array([0, 2]), 3)  # (1 / 1 + 2 / 3) / 3
    0.5555555555555555

    Args and raises as `average_precision`.
    """
    _check(ranks, positives)
    rising = np.sort(ranks).astype(np.float64)
    return float((np.arange(1, len(rising) + 1) / (rising + 1)).sum() / positives)


def average_precision_over_ties(
    scores: NDArray[np.float64],
    positive_ids: NDArray[np.int64],
    ignored_ids: NDArray[np.int64] | None,
    positives: int,
) -> tuple[float, float, float]:
    """Return the least, the expected and the greatest average precision over all tie orders.

    The expectation is exact. Take a run of n equal scores, m of them positive, after b pictures of
    which a are positive. Place j is positive with probability m / n, and then has on average j (m -
    1) / (n - 1) positives of the run before it; precision is linear in that.
    """
    expected = 0.0
    for run in tied_runs(scores, positive_ids, ignored_ids):
        place = np.arange(run.size, dtype=np.float64)
        already = run.positives_before + place * (run.positives - 1) / max(run.size - 1, 1)
        rank = run.before + place
        before = np.divide(already, rank, out=np.ones_like(rank), where=rank > 0)
        after = (already + 1) / (rank + 1)
        expected += float(((before + after) / 2).sum()) * run.positives / run.size
    least = average_precision(ranks_of(scores, positive_ids, ignored_ids, "worst"), positives)
    greatest = average_precision(ranks_of(scores, positive_ids, ignored_ids, "best"), positives)
    return least, expected / positives, greatest


def first_over_ties(
    scores: NDArray[np.float64],
    positive_ids: NDArray[np.int64],
    ignored_ids: NDArray[np.int64] | None,
    positives: int,
    k: int,
) -> float:
    """Return the expected average precision over the first k pictures over all orders of ties.

    By rectangles, as Google Landmarks defines it; exact, as in `average_precision_over_ties`.
    """
    expected = 0.0
    for run in tied_runs(scores, positive_ids, ignored_ids):
        place = np.arange(min(run.size, max(k - run.before, 0)), dtype=np.float64)
        already = run.positives_before + place * (run.positives - 1) / max(run.size - 1, 1)
        precision = (already + 1) / (run.before + place + 1)
        expected += float(precision.sum()) * run.positives / run.size
    return expected / min(positives, k)


def ns_over_ties(
    scores: NDArray[np.float64],
    positive_ids: NDArray[np.int64],
    ignored_ids: NDArray[np.int64] | None,
) -> float:
    """Return the expected N-S over all orders of equal scores; exact.

    Of a run of n equal scores after b pictures, min(n, 4 - b) places are among the first four, and
    each is positive with probability m / n.
    """
    return sum(
        (
            run.positives / run.size * min(run.size, max(NS_DEPTH - run.before, 0))
            for run in tied_runs(scores, positive_ids, ignored_ids)
        ),
        start=0.0,
    )


class TiedRun(NamedTuple):
    """A run of equal scores that has positives, and how many pictures stand before it."""

    size: int
    positives: int
    before: int
    positives_before: int


def tied_runs(
    scores: NDArray[np.float64],
    positive_ids: NDArray[np.int64],
    ignored_ids: NDArray[np.int64] | None,
) -> Iterator[TiedRun]:
    """Yield the runs of equal scores that have positives, best first, without ignored pictures."""
    kept = np.ones(len(scores), dtype=np.bool_)
    if ignored_ids is not None:
        kept[ignored_ids] = False
    rising = np.sort(scores[kept])
    values, counts = np.unique(scores[positive_ids], return_counts=True)
    below = np.searchsorted(rising, values, side="left")
    above = len(rising) - np.searchsorted(rising, values, side="right")
    positives_before = 0
    for run in range(len(values) - 1, -1, -1):
        size = len(rising) - int(above[run]) - int(below[run])
        yield TiedRun(size, int(counts[run]), int(above[run]), positives_before)
        positives_before += int(counts[run])


def ns_score(ranks: NDArray[np.int64]) -> float:
    """Return how many positives are among the first four, 0 to 4 (UKB's N-S, or 4 x recall at 4).

    The query is one of the four and counts.
    """
    return float(np.count_nonzero(ranks < NS_DEPTH))


def recall_at(ranks: NDArray[np.int64], positives: int, k: int) -> float:
    """Return the share of the positives among the first k.

    Raises:
        ValueError: as in `average_precision`, or k below 1.
    """
    _check(ranks, positives)
    if k < 1:
        raise ValueError(f"recall looks at 1 picture or more; got k = {k}")
    return float(np.count_nonzero(ranks < k)) / positives


def _check(ranks: NDArray[np.int64], positives: int) -> None:
    if positives < 1 or len(ranks) > positives:
        raise ValueError(
            f"a query has at least 1 positive and no more ranks than positives; "
            f"got {len(ranks)} ranks, {positives} positives"
        )
    if len(np.unique(ranks)) != len(ranks) or (ranks < 0).any():
        raise ValueError(f"ranks are distinct and count from 0; got {ranks.tolist()}")
