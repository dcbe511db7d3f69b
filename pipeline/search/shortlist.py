"""The best proposed images of each query in one layer, over any number of segments."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from lamella.pipeline.arrays import Bools, Float64s, Int64s
from lamella.pipeline.search import shortlist_kernels

SEGMENT_BITS = 32
"""A place is the number of a segment in the snapshot, shifted by this, and a row in it."""

ROWS = (1 << SEGMENT_BITS) - 1
"""The bits of a place that are the row."""


@dataclass(frozen=True, eq=False)
class Shortlist:
    """The `size` best images of Q queries so far, by score, falling, then by id, rising.

    What is kept does not depend on the order in which images come, each once. There is room for
    twice as many, so that lists are seldom cut; `cut` ends that.

    Attributes:
        scores: (Q, 2 size) float64; (Q, size) once nothing more is to be kept.
        ids: likewise, int64.
        places: likewise, int64, see `SEGMENT_BITS`.
        held: (Q,) int64, how many of each row are there; the rest of the row has no meaning.
        bars: (Q,) float64, what an image must reach to be kept; -inf at first.
        size: at least 1.
    """

    scores: Float64s
    ids: Int64s
    places: Int64s
    held: Int64s
    bars: Float64s
    size: int

    @classmethod
    def of(cls, queries: int, size: int) -> Self:
        """Return nothing proposed yet."""
        shape = (queries, 2 * size)
        return cls(
            np.empty(shape), np.empty(shape, np.int64), np.empty(shape, np.int64),
            np.zeros(queries, np.int64), np.full(queries, -np.inf), size,
        )  # fmt: skip

    @classmethod
    def best_of(cls, parts: Sequence["Shortlist"]) -> "Shortlist":
        """Return the best of several lists of the same queries and size, no image in two."""
        if len(parts) == 1:
            parts[0].cut()
            return parts[0]
        best = cls.of(len(parts[0].held), parts[0].size)
        for part in parts:
            there = part.there()
            query_of = np.nonzero(there)[0]
            shortlist_kernels.keep_scored(
                query_of, part.ids[there], part.scores[there], part.places[there], best.arrays()
            )
        best.cut()
        return best

    @classmethod
    def join(cls, parts: Sequence["Shortlist"]) -> Self:
        """Return the lists of all queries of some parts, in order; cut, and without more room."""
        size = parts[0].size
        for part in parts:
            part.cut()
        return cls(
            np.concatenate([part.scores[:, :size] for part in parts]),
            np.concatenate([part.ids[:, :size] for part in parts]),
            np.concatenate([part.places[:, :size] for part in parts]),
            np.concatenate([part.held for part in parts]),
            np.concatenate([part.bars for part in parts]),
            size,
        )

    def cut(self) -> None:
        """Keep no more than `size` images of each query."""
        shortlist_kernels.cut(self.arrays())

    def arrays(self) -> tuple[Float64s, Int64s, Int64s, Int64s, Float64s, int]:
        """Return the arrays as compiled loops take them."""
        return self.scores, self.ids, self.places, self.held, self.bars, self.size

    def there(self) -> Bools:
        """Return which entries hold an image, of the shape of `scores`."""
        there: Bools = np.arange(self.scores.shape[1]) < self.held[:, None]
        return there

    def pairs(self) -> tuple[Int64s, Int64s]:
        """Return the query and the place of each image held, (m,) each, by query."""
        there = self.there()
        return np.nonzero(there)[0], self.places[there]
