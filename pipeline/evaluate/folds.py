"""Group the queries that share a right answer, and halve a ground truth between groups."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.evaluate.truth import ResolvedTruth
from lamella.schemas.report import SweepPoint


def groups_of(truth: ResolvedTruth) -> NDArray[np.int64]:
    """Return the group of each query, (Q,) int64, numbered from 0 in the order of first queries.

    Queries that share a picture (a right answer, or the query itself) are in one group: the five
    Oxford queries of a landmark, the four pictures of a UKB object.
    """
    return grouped(
        [query_id, *query.positive_ids.tolist()]
        for query, query_id in zip(truth.queries, truth.query_ids, strict=True)
    )


def grouped(pictures: Iterable[Iterable[Hashable]]) -> NDArray[np.int64]:
    """Return groups as `groups_of`, by the pictures of each query: ids or names."""
    set_of_picture: dict[Hashable, int] = {}
    parent: list[int] = []

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for place, shown in enumerate(pictures):
        parent.append(place)
        for picture in shown:
            other = root(set_of_picture.setdefault(picture, place))
            mine = root(place)
            parent[max(other, mine)] = min(other, mine)
    roots = [root(place) for place in range(len(parent))]  # a root is the group's first query
    return np.unique(roots, return_inverse=True)[1].astype(np.int64)


def halves_of(groups: NDArray[np.int64]) -> NDArray[np.bool_] | None:
    """Return (Q,) bool, True for the first half; None where the queries cannot be halved.

    Groups stay whole: settings chosen on one half would else have seen answers of the other. In
    order, each joins the half that is smaller so far.

    Args:
        groups: (Q,) int64, the group of each query, as of `groups_of`.
    """
    first_half: dict[int, bool] = {}
    sizes = {True: 0, False: 0}
    for group, queries in Counter(groups.tolist()).items():  # in order of first query
        side = sizes[True] <= sizes[False]
        first_half[group] = side
        sizes[side] += queries
    halves = np.array([first_half[group] for group in groups.tolist()], dtype=np.bool_)
    return halves if sizes[False] else None


def cross_validate(
    groups: NDArray[np.int64], settings: Sequence[tuple[float, float]], swept: NDArray[np.float64]
) -> tuple[NDArray[np.float64], tuple[SweepPoint, SweepPoint]] | None:
    """Return what settings chosen on the other half of the queries score; None without halves.

    Args:
        groups: (Q,) int64, the group of each query.
        settings: G pairs (t, p).
        swept: (G, Q) float64, the score of each query at each setting.

    Returns:
        The score of each query, (Q,) float64, and for each half what the other chose for it.
    """
    first = halves_of(groups) if settings else None
    if first is None:
        return None
    scores, chosen = np.empty(swept.shape[1]), []
    for tested in (first, ~first):
        best = int(np.argmax(swept[:, ~tested].mean(axis=1)))
        t, p = settings[best]
        scores[tested] = swept[best, tested]
        chosen.append(SweepPoint(t=t, p=p, score=float(scores[tested].mean())))
    return scores, (chosen[0], chosen[1])
