"""The best proposed images of each query in one layer, over any number of segments."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from lamella.pipeline.arrays import Float64s, Int64s
from lamella.pipeline.search import shortlist_kernels

SEGMENT_BITS = 32
"""A place is the number of a segment in the snapshot, shifted by this, and a row in it."""


@dataclass(frozen=True, eq=False)
class Shortlist:
    """The `size` best images of Q queries so far, by score, falling, then by id, rising.

    What is kept does not depend on the order in which images come, each once.

    Attributes:
        scores: (Q, size) float64.
        ids: (Q, size) int64.
        places: (Q, size) int64, see `SEGMENT_BITS`.
        held: (Q,) int64, how many of each row are there; the rest of the row has no meaning.
    """

    scores: Float64s
    ids: Int64s
    places: Int64s
    held: Int64s

    @classmethod
    def of(cls, queries: int, size: int) -> Self:
        """Return nothing proposed yet."""
        shape = (queries, size)
        return cls(
            np.empty(shape), np.empty(shape, np.int64), np.empty(shape, np.int64),
            np.zeros(queries, np.int64),
        )  # fmt: skip

    @classmethod
    def best_of(cls, parts: Sequence["Shortlist"]) -> "Shortlist":
        """Return the best of several lists of the same queries and size, no image in two."""
        if len(parts) == 1:
            return parts[0]
        best = cls.of(*parts[0].scores.shape)
        for part in parts:
            shortlist_kernels.keep_lists(*part.arrays(), *best.arrays())
        return best

    @classmethod
    def join(cls, parts: Sequence["Shortlist"]) -> Self:
        """Return the lists of all queries of some parts, in order."""
        return cls(
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.places for part in parts]),
            np.concatenate([part.held for part in parts]),
        )

    def arrays(self) -> tuple[Float64s, Int64s, Int64s, Int64s]:
        """Return the arrays as compiled loops take them."""
        return self.scores, self.ids, self.places, self.held

    def pairs(self) -> tuple[Int64s, Int64s, Int64s]:
        """Return the query, the id and the place of each image held, (m,) each, by query."""
        there = np.arange(self.scores.shape[1]) < self.held[:, None]
        return np.nonzero(there)[0], self.ids[there], self.places[there]
