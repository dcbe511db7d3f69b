"""The best bounds found so far, and the pairs of query and row that are still in."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Self

import numpy as np

from lamella.pipeline.arrays import Float64s, Int64s
from lamella.pipeline.search import bound_kernels


@dataclass
class Effort:
    """Counts of pairs of query and image: all, closely bounded, and scored in float64.

    Of residuals it counts pairs of one word in both: all (`payloads`), and those that were read to
    bound a similarity (`payloads_read`).
    """

    pairs: int = 0
    narrowed: int = 0
    decided: int = 0
    payloads: int = 0
    payloads_read: int = 0


@dataclass(frozen=True, eq=False)
class Best:
    """The k best lower bounds of each query so far, over all segments.

    Threads may read it and add to it at once.

    Attributes:
        heaps: float64 (Q, k), smallest first.
        filled: int64 (Q,), how many are there.
        floors: float64 (Q,), lower bounds of the k-th best from other servers.
    """

    heaps: Float64s
    filled: Int64s
    floors: Float64s
    _guard: Lock = field(default_factory=Lock)

    @classmethod
    def of(cls, queries: int, k: int, floors: Float64s | None = None) -> Self:
        """Return nothing found yet."""
        floors = np.full(queries, -np.inf) if floors is None else floors
        return cls(np.empty((queries, k)), np.zeros(queries, np.int64), floors)

    def bars(self, queries: slice) -> Float64s:
        """Return the score an image must reach to be among the best, for some queries."""
        with self._guard:
            full = self.filled[queries] == self.heaps.shape[1]
            lowest = np.where(full, self.heaps[queries, 0], -np.inf)
        return np.maximum(lowest, self.floors[queries])

    def keep(self, queries: slice, offsets: Int64s, values: Float64s) -> None:
        """Add lower bounds of images that were not added before, flat by query."""
        with self._guard:
            bound_kernels.keep_all(self.heaps[queries], self.filled[queries], offsets, values)


@dataclass(frozen=True, eq=False)
class Reached:
    """Pairs of query and row that may be among the best.

    Attributes:
        query_of, rows: int64 (m,).
        uppers: float64 (m,), upper bounds of F.
    """

    query_of: Int64s
    rows: Int64s
    uppers: Float64s

    @classmethod
    def join(cls, parts: Sequence["Reached"]) -> Self:
        """Return all pairs of some parts."""
        return cls(
            np.concatenate([np.empty(0, np.int64), *(part.query_of for part in parts)]),
            np.concatenate([np.empty(0, np.int64), *(part.rows for part in parts)]),
            np.concatenate([np.empty(0), *(part.uppers for part in parts)]),
        )

    def above(self, bars: Float64s) -> "Reached":
        """Return the pairs whose upper bound reaches the bar of their query, (Q,), by query."""
        kept = np.flatnonzero(self.uppers >= bars[self.query_of])
        kept = kept[np.argsort(self.query_of[kept], kind="stable")]
        return Reached(self.query_of[kept], self.rows[kept], self.uppers[kept])
