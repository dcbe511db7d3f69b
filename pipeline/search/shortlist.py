"""The best proposed images of each query in one layer, over any number of segments."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from lamella.pipeline.arrays import Bools, Float64s, Int64s
from lamella.pipeline.search import shortlist_kernels

SEGMENT_BITS = 32
"""A place is the number of a segment in the snapshot, shifted by this, and a row in it."""

PLACE_BITS = 52
"""Bits of a place: of 1,048,576 segments at most."""

ROWS = (1 << SEGMENT_BITS) - 1
"""The bits of a place that are the row."""


@dataclass(frozen=True, eq=False)
class Shortlist:
    """The `size` best images of Q queries so far, by score, falling, then by id, rising.

    What is kept does not depend on the order in which images come, each once. There is room for
    twice as many, so that lists are seldom cut; `cut` ends that.

    Attributes:
        scores: (Q, 2 size) float64.
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


@dataclass(frozen=True, eq=False)
class Proposed:
    """The images that a layer proposes, as pairs of a query and an image.

    Attributes:
        query_of: (m,) int64.
        ids: (m,) int64, of the image.
        places: (m,) int64, see `SEGMENT_BITS`.
        scores: (m,) float64, by which the layer ranks them.
        estimates: (m,) float64, what is known of F.
    """

    query_of: Int64s
    ids: Int64s
    places: Int64s
    scores: Float64s
    estimates: Float64s

    @classmethod
    def of(cls, lists: Shortlist, first: int = 0) -> Self:
        """Return what a list holds, once cut, of the queries from `first` on, by query."""
        lists.cut()
        there = lists.there()
        scores = lists.scores[there]
        which = np.nonzero(there)[0] + first
        return cls(which, lists.ids[there], lists.places[there], scores, scores)

    @classmethod
    def join(cls, parts: Sequence["Proposed"]) -> "Proposed":
        """Return the pairs of all parts, one part after the other."""
        if len(parts) == 1:
            return parts[0]
        names = ("query_of", "ids", "places", "scores", "estimates")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def best(self, queries: int, size: int, by: Float64s) -> "Proposed":
        """Return the `size` best pairs of each query by numbers (m,), falling, then by id.

        Args:
            queries: Q.
            size: at least 1.
        """
        return self.take(best_pairs(self.query_of, self.ids, by, queries, size))

    def decided_on(self, queries: int, size: int, lists: int) -> tuple[Int64s, Int64s]:
        """Return query and place, rising, of the `size` best images of each query by estimate.

        Args:
            queries: Q.
            size: at least 1.
            lists: in how many an image may be; the best estimate that it has there counts.
        """
        best = self.best(queries, size, self.estimates)
        pairs = best._sorted()
        if (pairs[1:] == pairs[:-1]).any():  # seldom: of two layers, one leaves out what one has
            few = self.best(queries, size * lists, self.estimates)
            order = np.argsort(-few.estimates, kind="stable")
            few = few.take(order[few.take(order)._first()])
            pairs = few.best(queries, size, few.estimates)._sorted()
        return pairs >> PLACE_BITS, pairs & ((1 << PLACE_BITS) - 1)

    def _keys(self) -> Int64s:
        """Return query and place as one number of 63 bits, (m,)."""
        return self.query_of << PLACE_BITS | self.places

    def _sorted(self) -> Int64s:
        return np.sort(self._keys())

    def _first(self) -> Int64s:
        """Return the number of the first of equal pairs, for each pair."""
        return np.unique(self._keys(), return_index=True)[1]

    def take(self, pairs: Int64s) -> "Proposed":
        """Return some pairs, by their numbers."""
        return Proposed(
            self.query_of[pairs], self.ids[pairs], self.places[pairs], self.scores[pairs],
            self.estimates[pairs],
        )  # fmt: skip

    def known(self, estimates: Float64s) -> "Proposed":
        """Return the same pairs with other estimates."""
        return replace(self, estimates=estimates)


def best_pairs(query_of: Int64s, ids: Int64s, by: Float64s, queries: int, size: int) -> Int64s:
    """Return the numbers, rising, of the `size` best pairs of each query: by falling `by`, then id.

    Args:
        query_of: (m,) int64, in any order.
        ids: (m,) int64, an image once a query.
        by: (m,) float64.
        queries: Q.
        size: at least 1.
    """
    most = int(np.bincount(query_of).max(initial=0))
    if most <= size:
        return np.arange(len(query_of))
    best = Shortlist.of(queries, size)
    shortlist_kernels.keep_scored(query_of, ids, by, best.arrays())
    best.cut()
    return np.sort(best.places[best.there()])
