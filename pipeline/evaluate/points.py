"""Score many settings of a fusion for one query, without fusing all pictures for each.

A score needs the ranks of the right pictures alone, so nothing is sorted: each other picture is
counted before the right ones that it beats. Powers take nearly all of the time, and most are not
needed: f rises, so its values at the ends of a bin bound a picture's fused score, and only where a
right picture's score lies between these bounds is the picture's own computed. What is compared has
the bits of `fuse`, so the ranks are those of `ranks_of`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.compiled import compiled
from lamella.pipeline.evaluate.measures import precision_of_first
from lamella.pipeline.evaluate.metrics import NS_DEPTH, average_precisions
from lamella.pipeline.evaluate.truth import MetricName, ResolvedQuery
from lamella.schemas.query import FusionSpec

BINS = 1024
"""Bins of a similarity, from 0 to 1, at whose ends each map is computed."""

BLOCK = 1024
"""Pictures bounded together, so that what is read for every point stays in the cache."""

MARGIN = 1e-12
"""Added to bounds, for each unit of weight: far above the rounding of powers and sums."""


@dataclass(frozen=True)
class Points:
    """Settings to score, over C layers from high to low.

    Attributes:
        t, p, weights: (G, C) float64; a layer that a point leaves out has the weight 0.
        maps: (G, C) int64, the row of `edges` that belongs to the map.
        edges: (M, BINS + 1) float64, the mapped similarity at the edges of the bins, of each map.
    """

    t: NDArray[np.float64]
    p: NDArray[np.float64]
    weights: NDArray[np.float64]
    maps: NDArray[np.int64]
    edges: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.t)

    @classmethod
    def of(cls, layers: Sequence[str], specs: Sequence[FusionSpec]) -> "Points":
        """Return the settings of some fusions.

        Args:
            layers: of the tables of similarities, from high to low.
            specs: each of some of the layers, in their order.

        Raises:
            ValueError: a fusion has another layer.
        """
        t, p = np.ones((2, len(specs), len(layers)))
        weights = np.zeros((len(specs), len(layers)))
        for row, spec in enumerate(specs):
            for entry in spec.layers:
                column = list(layers).index(entry.layer)
                t[row, column], p[row, column] = entry.t, entry.p
                weights[row, column] = entry.weight
        pairs, maps = np.unique(
            np.stack([t.reshape(-1), p.reshape(-1)]), axis=1, return_inverse=True
        )
        edges = np.empty((pairs.shape[1], BINS + 1))
        _map_edges(pairs[0], pairs[1], edges)
        return cls(t, p, weights, maps.reshape(t.shape).astype(np.int64), edges)


def score_points(
    metric_name: MetricName, query: ResolvedQuery, table: NDArray[np.float64], points: Points
) -> NDArray[np.float64]:
    """Return the score of one query at each point, (G,) float64, with ties by image id.

    Equal to the bit to `score_query` of `fuse` for each point, over the layers that it has.

    Args:
        table: (C, N) float64 in [0, 1], similarities of all pictures in each layer.
    """
    ignored = np.zeros(table.shape[1], dtype=np.bool_)
    ignored[query.ignored_ids] = True
    right = np.asarray(query.positive_ids, dtype=np.int64)
    table = np.ascontiguousarray(table, dtype=np.float64)
    ranks = np.empty((len(points), len(right)), np.int64)
    settings = (points.t, points.p, points.weights, points.maps, points.edges)
    _rank(table, right, ignored, *settings, ranks)
    match metric_name:
        case "N-S":
            first_four: NDArray[np.float64] = np.sum(ranks < NS_DEPTH, axis=1, dtype=np.float64)
            return first_four
        case "mAP":
            return average_precisions(ranks, query.relevant)
        case "mAP@100":
            return np.array([precision_of_first(row, query.relevant, 100) for row in ranks])


@compiled
def _map_edges(t: NDArray[np.float64], p: NDArray[np.float64], edges: NDArray[np.float64]) -> None:
    for each in range(len(t)):
        for b in range(edges.shape[1]):
            edges[each, b] = _mapped(b / (edges.shape[1] - 1), t[each], p[each])


@compiled
def _mapped(value: float, t: float, p: float) -> float:
    """Return f(S), in the operations of `fuse.map_similarity`."""
    if t < 1.0 and p < 1.0 and value > t:
        value = t + (1.0 - t) * ((value - t) / (1.0 - t)) ** p
    return value


@compiled
def _fused(
    table: NDArray[np.float64],
    image: int,
    t: NDArray[np.float64],
    p: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> float:
    """Return the fused score of a picture, added in the order of the layers."""
    total = 0.0
    for c in range(len(t)):
        if weights[c] > 0.0:
            total += weights[c] * _mapped(table[c, image], t[c], p[c])
    return total


@compiled
def _rank(
    table: NDArray[np.float64],
    right: NDArray[np.int64],
    ignored: NDArray[np.bool_],
    t: NDArray[np.float64],
    p: NDArray[np.float64],
    weights: NDArray[np.float64],
    maps: NDArray[np.int64],
    edges: NDArray[np.float64],
    ranks: NDArray[np.int64],
) -> None:
    """Write the ranks (G, P), rising, of the right pictures without the ignored ones."""
    (layers, images), points, count = table.shape, len(t), len(right)
    last = edges.shape[1] - 2
    counted = ~ignored
    for image in right:
        counted[image] = False
    scores, ids = np.empty((points, count)), np.empty((points, count), np.int64)
    for g in range(points):
        for i in range(count):
            scores[g, i] = _fused(table, right[i], t[g], p[g], weights[g])
            ids[g, i] = right[i]
        _sort(scores[g], ids[g])
    before = np.zeros((points, count + 1), np.int64)  # others by how many right ones beat them
    bins = np.empty((layers, BLOCK), np.int64)
    low, high = np.empty(BLOCK), np.empty(BLOCK)
    for first in range(0, images, BLOCK):
        block = min(BLOCK, images - first)
        for c in range(layers):
            for k in range(block):
                bins[c, k] = min(int(table[c, first + k] * (last + 1)), last)
        for g in range(points):
            margin = MARGIN * weights[g].sum()
            low[:], high[:] = -margin, margin
            for c in range(layers):
                weight, bounds, values = weights[g, c], edges[maps[g, c]], table[c]
                if weight == 0.0:
                    continue
                if t[g, c] >= 1.0 or p[g, c] >= 1.0:
                    for k in range(block):
                        low[k] += weight * values[first + k]
                        high[k] += weight * values[first + k]
                else:
                    for k in range(block):
                        low[k] += weight * bounds[bins[c, k]]
                        high[k] += weight * bounds[bins[c, k] + 1]
            for k in range(block):
                if count == 0 or high[k] < scores[g, count - 1] or not counted[first + k]:
                    continue
                place = _above(scores[g], high[k])
                if scores[g, place] >= low[k]:
                    score = _fused(table, first + k, t[g], p[g], weights[g])
                    place = _above(scores[g], score)
                    while place < count and scores[g, place] == score and ids[g, place] < first + k:
                        place += 1
                before[g, place] += 1
    for g in range(points):
        passed = 0
        for i in range(count):
            passed += before[g, i]
            ranks[g, i] = i + passed


@compiled
def _above(scores: NDArray[np.float64], value: float) -> int:
    """Return how many of the scores, which fall, are greater than a value."""
    low, high = 0, len(scores)
    while low < high:
        middle = (low + high) // 2
        if scores[middle] > value:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _sort(scores: NDArray[np.float64], ids: NDArray[np.int64]) -> None:
    """Sort by score, falling, then by image id, rising, in place."""
    order = np.argsort(-scores, kind="mergesort")  # the ids rise already, and equal ones stay so
    scores[:] = scores[order]
    ids[:] = ids[order]
