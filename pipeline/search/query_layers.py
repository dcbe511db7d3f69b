"""One layer of a segment, paired with the queries in it."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float32s, Float64s, Int32s, Int64s, read_only
from lamella.pipeline.errors import UnknownLayer
from lamella.pipeline.index.bags import BagsOfWords, select
from lamella.pipeline.index.residuals import Residuals
from lamella.pipeline.index.residuals import select as select_residuals
from lamella.pipeline.search import score
from lamella.pipeline.search.residual_score import (
    check_asked,
    residual_similarities,
    residual_similarities_of,
    start_scan,
)
from lamella.pipeline.search.score import Candidates
from lamella.pipeline.search.segment import (
    DenseLayer,
    Features,
    Layer,
    LocalLayer,
    QueryBatch,
    ResidualLayer,
    SegmentData,
    inverse_of,
)


class Scan(Protocol):
    """Some queries on their way through the blocks of a local layer.

    Attributes:
        errors: (Q,) float64: a similarity may be below its bound S by this times S ** (2 / 3),
            beside rounding to float32.
        payloads, payloads_read: see `topk.Effort`.
    """

    errors: Float64s
    payloads: int
    payloads_read: int

    def begin_block(self, first: int, out: Float32s, in_steps: bool) -> bool:
        """Write upper bounds of the similarities of the next block of rows, (Q, b), into `out`.

        Return whether `end_block` must follow, which may be only with `in_steps`.
        """
        ...

    def end_block(self, first: int, out: Float32s, rows: Int32s, kept: Int64s) -> None:
        """Write closer bounds for some rows of the block.

        Args:
            rows: (Q, b), of each query the first `kept` (Q,) count.
        """
        ...


@dataclass(eq=False)
class BagScan:
    """Query bags on their way through posting lists; see `Scan`."""

    layer: LocalLayer
    bags: BagsOfWords
    norms: Float64s
    terms: score.Terms
    errors: Float64s
    payloads: int = 0
    payloads_read: int = 0

    def begin_block(self, first: int, out: Float32s, in_steps: bool) -> bool:
        """Write the similarities of the next block, rounded to float32; nothing follows."""
        layer = self.layer
        if layer.folded is None:
            score.add_block(
                self.bags, layer.postings, self.terms, self.norms, layer.norms, first, out
            )
        else:
            score.propose_block(
                self.bags, layer.folded, self.terms, layer.inverse_norms, first, out
            )
        return False

    def end_block(self, first: int, out: Float32s, rows: Int32s, kept: Int64s) -> None:
        """See `Scan.end_block`: there is nothing closer."""


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

    def similarities_of(self, candidates: Candidates, alone: bool = False) -> NDArray[np.float64]:
        """Return the similarities with chosen rows, (m,) float64; `alone` in the calling thread."""
        layer = self.layer
        return score.bag_similarities_of(
            self.bags, candidates, layer.bags, layer.weights, self.norms, layer.norms, alone
        )

    def scan(self, queries: slice, first: int = 0) -> Scan:
        """Return some queries at a row of the segment."""
        layer = self.layer
        bags = select(self.bags, np.arange(queries.start, queries.stop))
        norms = self.norms[queries]
        terms = score.start_terms(bags, layer.postings, layer.weights, first, len(layer))
        if layer.folded is not None:
            shares = np.repeat(inverse_of(norms), np.diff(bags.offsets))
            terms = replace(terms, factors=terms.factors * shares)
        return BagScan(layer, bags, norms, terms, np.zeros(len(bags)))


@dataclass(frozen=True, eq=False)
class ResidualMatch:
    """A layer of residuals, and those of Q queries."""

    layer: ResidualLayer
    residuals: Residuals

    def similarities(self) -> NDArray[np.float64]:
        """Return all similarities, (Q, n) float64."""
        return residual_similarities(self.residuals, self.layer)

    def similarities_of(self, candidates: Candidates, alone: bool = False) -> NDArray[np.float64]:
        """Return the similarities with chosen rows, (m,) float64; `alone` in the calling thread."""
        return residual_similarities_of(self.residuals, candidates, self.layer, alone)

    def scan(self, queries: slice, first: int = 0) -> Scan:
        """Return some queries at a row of the segment."""
        numbers = np.arange(queries.start, queries.stop)
        return start_scan(select_residuals(self.residuals, numbers), self.layer, first)


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

    def similarities_of(self, candidates: Candidates, alone: bool = False) -> NDArray[np.float64]:
        """Return the similarities with chosen rows, (m,) float64; `alone` in the calling thread."""
        return score.dense_similarities_of(
            self.vectors, candidates, self.layer.vectors, self.norms, self.layer.norms, alone
        )


Match = LocalMatch | ResidualMatch | DenseMatch
"""A layer of any kind, paired with its queries."""


def match_layer(
    segment: SegmentData, queries: QueryBatch, name: str, like: Match | None = None
) -> Match:
    """Return a layer of the segment, paired with its queries.

    Args:
        like: the same layer of another segment; its query norms are reused if the weights are the
            same.

    Raises:
        UnknownLayer: the segment or the batch has no such layer.
        ValueError: layer and queries are not of one kind, vectors or residuals of another length,
            or a query that is not finite or holds a word outside the vocabulary.
    """
    for what, known in (("segment", list(segment.layers)), ("batch", list(queries.layers))):
        if name not in known:
            raise UnknownLayer(f"the {what} has no layer {name}; it has {', '.join(known)}")
    layer, asked = segment.layers[name], queries.layers[name]
    if isinstance(layer, LocalLayer) and isinstance(asked, BagsOfWords):
        if isinstance(like, LocalMatch) and _is_same(like.layer.weights, layer.weights):
            return LocalMatch(layer, asked, like.norms)
        return LocalMatch(layer, asked, score.bag_norms(asked, layer.weights))
    if isinstance(layer, ResidualLayer) and isinstance(asked, Residuals):
        check_asked(asked, layer)
        return ResidualMatch(layer, asked)
    if not isinstance(layer, DenseLayer) or isinstance(asked, BagsOfWords | Residuals):
        raise ValueError(f"layer {name} holds {_kind(layer)}, its queries are {_kind(asked)}")
    vectors = read_only(asked, np.float32, f"queries of {name}", ndim=2)
    if vectors.shape[1] != layer.vectors.shape[1]:
        raise ValueError(
            f"layer {name} has vectors of {layer.vectors.shape[1]} values, "
            f"the queries of {vectors.shape[1]}"
        )
    norms = like.norms if isinstance(like, DenseMatch) else score.dense_norms(vectors)
    return DenseMatch(layer, vectors, norms)


def _kind(value: Layer | Features) -> str:
    if isinstance(value, LocalLayer | BagsOfWords):
        return "bags of words"
    return "residuals" if isinstance(value, ResidualLayer | Residuals) else "vectors"


def _is_same(left: NDArray[np.float64], right: NDArray[np.float64]) -> bool:
    """Return whether two contiguous arrays are one in memory."""
    return len(left) == len(right) and left.ctypes.data == right.ctypes.data
