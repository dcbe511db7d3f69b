"""Halve the queries of a ground truth, so that the halves share no right answer."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.evaluate.truth import ResolvedTruth
from lamella.schemas.report import CrossValidated, SweepPoint


def halves_of(truth: ResolvedTruth) -> NDArray[np.bool_] | None:
    """Return (Q,) bool, True for the first half; None where the queries cannot be halved.

    Queries that share a picture (a right answer, or the query itself) stay together: the five
    Oxford queries of a landmark, the four pictures of a UKB object. Otherwise settings chosen on
    one half would have seen answers of the other. Sets of such queries join, in order, the half
    that is smaller so far.
    """
    set_of_image: dict[int, int] = {}
    parent = list(range(len(truth.queries)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for place, (query, query_id) in enumerate(zip(truth.queries, truth.query_ids, strict=True)):
        for image_id in [query_id, *query.positive_ids.tolist()]:
            other = root(set_of_image.setdefault(image_id, place))
            mine = root(place)
            parent[max(other, mine)] = min(other, mine)
    roots = [root(place) for place in range(len(parent))]
    first_half: dict[int, bool] = {}
    sizes = {True: 0, False: 0}
    for name, queries in Counter(roots).items():  # in order of first query
        side = sizes[True] <= sizes[False]
        first_half[name] = side
        sizes[side] += queries
    halves = np.array([first_half[name] for name in roots], dtype=np.bool_)
    return halves if sizes[False] else None


def cross_validate(
    truth: ResolvedTruth, settings: Sequence[tuple[float, float]], swept: NDArray[np.float64]
) -> CrossValidated | None:
    """Return the score of settings chosen on the other half of the queries; None without halves.

    Args:
        truth: Q queries.
        settings: G pairs (t, p).
        swept: (G, Q) float64, the score of each query at each setting.
    """
    first = halves_of(truth) if settings else None
    if first is None:
        return None
    total, chosen = 0.0, []
    for tested in (first, ~first):
        best = int(np.argmax(swept[:, ~tested].mean(axis=1)))
        t, p = settings[best]
        chosen.append(SweepPoint(t=t, p=p, score=float(swept[best, tested].mean())))
        total += float(swept[best, tested].sum())
    return CrossValidated(score=total / swept.shape[1], chosen=(chosen[0], chosen[1]))
