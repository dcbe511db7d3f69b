"""Where one image stands in several rankings of one query: exact ranks over the whole index."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float64s, Int64s
from lamella.pipeline.search.exact import similarities
from lamella.pipeline.search.fuse import fuse
from lamella.pipeline.search.query_layers import match_layer
from lamella.pipeline.search.score import Candidates
from lamella.pipeline.search.segment import QueryBatch, SegmentData
from lamella.schemas.query import FusionSpec


@dataclass(frozen=True, eq=False)
class Beside:
    """Images beside another one in a ranking, best first.

    Attributes:
        image_ids: (m,) int64.
        scores: (m,) float64.
        similarities: (C, m) float64.
    """

    image_ids: Int64s
    scores: Float64s
    similarities: Float64s

    @classmethod
    def nobody(cls, layers: int) -> Self:
        """Return no image."""
        return cls(np.empty(0, np.int64), np.empty(0), np.empty((layers, 0)))

    def __len__(self) -> int:
        """The number of images."""
        return len(self.image_ids)

    def joined(self, other: Self, kept: slice) -> "Beside":
        """Return the images of both, in order, and of these the ones kept."""
        ids = np.concatenate([self.image_ids, other.image_ids])
        scores = np.concatenate([self.scores, other.scores])
        order = np.lexsort((ids, -scores))[kept]
        table = np.concatenate([self.similarities, other.similarities], axis=1)
        return Beside(ids[order], scores[order], table[:, order])


@dataclass(frozen=True, eq=False)
class Placed:
    """Where an image stands.

    Attributes:
        similarities: (C,) float64, S of each layer of the last ranking.
        ranks, scores: one a ranking.
        above, below: the images beside it in the last ranking.
    """

    similarities: Float64s
    ranks: tuple[int, ...]
    scores: tuple[float, ...]
    above: Beside
    below: Beside


def place_image(
    segments: Sequence[SegmentData],
    query: QueryBatch,
    rankings: Sequence[FusionSpec],
    image_id: int,
    beside: int,
) -> Placed:
    """Return where an image stands in each ranking of a query.

    Every image is scored in float64, a segment at a time: memory holds the similarities of one.
    Ties are ordered by image id, as in every ranking.

    Args:
        segments: all of a snapshot.
        query: one.
        rankings: the last has all layers that the others have.
        image_id: of an indexed image.
        beside: at least 1: how many images above and below it are named, in the last ranking.

    Raises:
        ValueError: not one query, nobody beside it, or the image is in no segment.
    """
    if len(query) != 1 or beside < 1:
        raise ValueError(
            f"an image is placed for one query, with at least one image beside it; got "
            f"{len(query)} and {beside}"
        )
    layers = [entry.layer for entry in rankings[-1].layers]
    taken = [[layers.index(entry.layer) for entry in each.layers] for each in rankings]
    own = _similarities_of(segments, query, layers, image_id)
    scores = [fuse(own[rows], spec)[0] for rows, spec in zip(taken, rankings, strict=True)]
    before = np.zeros(len(rankings), np.int64)
    above = below = Beside.nobody(len(layers))
    for segment in segments:
        ids, table = segment.image_ids, similarities(segment, query, layers)[:, 0]
        better: NDArray[np.bool_] = np.zeros(len(ids), np.bool_)
        found = np.zeros(len(ids))
        for number, (rows, spec) in enumerate(zip(taken, rankings, strict=True)):
            found = fuse(table[rows], spec)
            better = (found > scores[number]) | ((found == scores[number]) & (ids < image_id))
            before[number] += np.count_nonzero(better)
        # Both are now those of the last ranking.
        worse = ~better & (ids != image_id)
        above = above.joined(_some(ids, found, table, better), slice(-beside, None))
        below = below.joined(_some(ids, found, table, worse), slice(beside))
    ranks = tuple((before + 1).tolist())
    return Placed(own[:, 0], ranks, tuple(map(float, scores)), above, below)


def _some(ids: Int64s, scores: Float64s, table: Float64s, of: NDArray[np.bool_]) -> Beside:
    return Beside(ids[of], scores[of], table[:, of])


def _similarities_of(
    segments: Sequence[SegmentData], query: QueryBatch, layers: Sequence[str], image_id: int
) -> Float64s:
    """Return S of an image in each layer, (C, 1)."""
    for segment in segments:
        row = int(np.searchsorted(segment.image_ids, image_id))
        if row < len(segment) and segment.image_ids[row] == image_id:
            one = Candidates(np.array([0, 1]), np.array([row]))
            matches = [match_layer(segment, query, name) for name in layers]
            return np.stack([match.similarities_of(one) for match in matches])
    raise ValueError(f"no segment has image {image_id}")
