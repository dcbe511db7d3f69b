"""Group the queries that share a right answer, and cross-validate settings between groups."""

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.evaluate.truth import ResolvedTruth

MOST_FOLDS = 10
"""With no more groups than this, each is a fold of its own."""


@dataclass(frozen=True)
class CrossScores:
    """What settings score on queries that had no part in choosing them.

    Attributes:
        scores: (Q,) float64, of each query by the setting chosen for its fold.
        folds: (Q,) int64, the fold of each query.
        chosen: of each fold, the number of the setting that the other folds chose.
    """

    scores: NDArray[np.float64]
    folds: NDArray[np.int64]
    chosen: tuple[int, ...]

    def score_of(self, fold: int) -> float:
        """Return the mean score of a fold."""
        return float(self.scores[self.folds == fold].mean())


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


def folds_of(groups: NDArray[np.int64], most: int = MOST_FOLDS) -> NDArray[np.int64] | None:
    """Return the fold of each query, (Q,) int64 from 0; None where all queries are of one group.

    Groups stay whole: settings chosen on other queries of a group would have seen its answers. In
    order, each joins the fold that has the fewest queries so far, so there are as many folds as
    groups, or `most`.

    Args:
        groups: (Q,) int64, the group of each query, as of `groups_of`.
        most: the most folds, at least 2.
    """
    sizes = Counter(groups.tolist())  # in order of first query
    if len(sizes) < 2:
        return None
    filled = [0] * min(len(sizes), most)
    fold_of: dict[int, int] = {}
    for group, queries in sizes.items():
        fold = min(range(len(filled)), key=filled.__getitem__)
        fold_of[group] = fold
        filled[fold] += queries
    return np.array([fold_of[group] for group in groups.tolist()], dtype=np.int64)


def cross_validate(groups: NDArray[np.int64], swept: NDArray[np.float64]) -> CrossScores | None:
    """Return what settings chosen on the other folds score; None with one group, or no setting.

    The setting of a fold is the first of the highest mean over all other queries.

    Args:
        groups: (Q,) int64, the group of each query.
        swept: (G, Q) float64, the score of each query at each setting.
    """
    folds = folds_of(groups) if len(swept) else None
    if folds is None:
        return None
    scores, chosen = np.empty(swept.shape[1]), []
    for fold in range(int(folds.max()) + 1):
        tested = folds == fold
        best = int(np.argmax(swept[:, ~tested].mean(axis=1)))
        scores[tested] = swept[best, tested]
        chosen.append(best)
    return CrossScores(scores, folds, tuple(chosen))
