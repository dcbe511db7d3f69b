"""One layer of a segment, paired with the queries in it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import read_only
from lamella.pipeline.errors import UnknownLayer
from lamella.pipeline.index.bags import BagsOfWords
from lamella.pipeline.search import score
from lamella.pipeline.search.score import Candidates
from lamella.pipeline.search.segment import DenseLayer, LocalLayer, QueryBatch, SegmentData


@dataclass(frozen=True, eq=False)
class LocalMatch:
    """A local layer, Q query bags and their norms (Q,)."""

    layer: LocalLayer
    bags: BagsOfWords
    norms: NDArray[np.float64]

    def similarities(self) -> NDArray[np.float64]:
        """Return all similarities, (Q, n) float64."""
        layer = self.layer
        return score.bag_similarities(
            self.bags, layer.postings, layer.weights, self.norms, layer.norms
        )

    def similarities_of(self, candidates: Candidates) -> NDArray[np.float64]:
        """Return the similarities with chosen rows, (m,) float64."""
        layer = self.layer
        return score.bag_similarities_of(
            self.bags, candidates, layer.bags, layer.weights, self.norms, layer.norms
        )


@dataclass(frozen=True, eq=False)
class DenseMatch:
    """A dense layer, Q query vectors (Q, D) and their norms (Q,)."""

    layer: DenseLayer
    vectors: NDArray[np.float32]
    norms: NDArray[np.float64]

    def similarities(self) -> NDArray[np.float64]:
        """Return all similarities, (Q, n) float64."""
        return score.dense_similarities(
            self.vectors, self.layer.vectors, self.norms, self.layer.norms
        )

    def similarities_of(self, candidates: Candidates) -> NDArray[np.float64]:
        """Return the similarities with chosen rows, (m,) float64."""
        return score.dense_similarities_of(
            self.vectors, candidates, self.layer.vectors, self.norms, self.layer.norms
        )


def match_layer(
    segment: SegmentData,
    queries: QueryBatch,
    name: str,
    like: LocalMatch | DenseMatch | None = None,
) -> LocalMatch | DenseMatch:
    """Return a layer of the segment, paired with its queries.

    Args:
        like: the same layer of another segment; its query norms are reused if the weights are the
            same.

    Raises:
        UnknownLayer: the segment or the batch has no such layer.
        ValueError: one holds bags and the other vectors, vectors of another length, or a
            query that is not finite or holds a word outside the vocabulary.
    """
    for what, known in (("segment", list(segment.layers)), ("batch", list(queries.layers))):
        if name not in known:
            raise UnknownLayer(f"the {what} has no layer {name}; it has {', '.join(known)}")
    layer, asked = segment.layers[name], queries.layers[name]
    if isinstance(layer, LocalLayer) and isinstance(asked, BagsOfWords):
        if isinstance(like, LocalMatch) and _is_same(like.layer.weights, layer.weights):
            return LocalMatch(layer, asked, like.norms)
        return LocalMatch(layer, asked, score.bag_norms(asked, layer.weights))
    if isinstance(layer, LocalLayer) or isinstance(asked, BagsOfWords):
        raise ValueError(f"layer {name} holds bags on one side and vectors on the other")
    vectors = read_only(asked, np.float32, f"queries of {name}", ndim=2)
    if vectors.shape[1] != layer.vectors.shape[1]:
        raise ValueError(
            f"layer {name} has vectors of {layer.vectors.shape[1]} values, "
            f"the queries of {vectors.shape[1]}"
        )
    norms = like.norms if isinstance(like, DenseMatch) else score.dense_norms(vectors)
    return DenseMatch(layer, vectors, norms)


def _is_same(left: NDArray[np.float64], right: NDArray[np.float64]) -> bool:
    """Return whether two contiguous arrays are one in memory."""
    return len(left) == len(right) and left.ctypes.data == right.ctypes.data
