"""Cells over the words: coarse quantisation for very many words.

Words are put into cells, some 2 sqrt(K) of them, by k-means over the words themselves. A
descriptor is compared with the centres first and then with the words of its nearest cells alone
(an inverted file over the words: Jegou et al. 2011, section IV). The same cells give each word the
words near it.
"""

import math
from dataclasses import dataclass

import numpy as np

from lamella.pipeline.arrays import Float32s, Float64s, Int64s, UInt32s
from lamella.pipeline.signs import signed
from lamella.pipeline.vocabulary.assign import Assignment, ExactAssigner, Nearest, check_count
from lamella.pipeline.vocabulary.compare import Compared, checked_vectors, squared_norms_of
from lamella.pipeline.vocabulary.ivf_kernels import (
    grouped,
    nearest_in_cells,
    nearest_in_lists,
    select_nearest,
)
from lamella.pipeline.vocabulary.partial import add_rows
from lamella.pipeline.vocabulary.refine import Products

FIRST_ROUNDS = 4
"""Rounds of k-means over the words for the first cells; later cells start from these."""

BLOCK_ROWS = 16_384
"""Rows compared at a time: more of them share the reading of a list, fewer stay in cache."""


@dataclass(frozen=True)
class Cells:
    """Words by cell.

    Attributes:
        centres: float32 (C, D).
        offsets: int64 (C + 1,), members: uint32 (K,): cell c holds the words
            members[offsets[c]:offsets[c + 1]], rising. Each word is in one cell.
    """

    centres: Float32s
    offsets: Int64s
    members: UInt32s

    def __post_init__(self) -> None:
        if len(self.offsets) != len(self.centres) + 1 or self.offsets[-1] != len(self.members):
            raise ValueError(
                f"cells have one list a centre; got {len(self.centres)} centres, offsets "
                f"{self.offsets.shape} to {self.offsets[-1]} for {len(self.members)} words"
            )
        if self.offsets[0] != 0 or np.any(self.offsets[1:] < self.offsets[:-1]):
            raise ValueError("lists of cells begin where the one before ends, the first at 0")
        if not np.array_equal(np.sort(self.members), np.arange(len(self.members))):
            raise ValueError("each word is in one cell")

    def __len__(self) -> int:
        return len(self.centres)

    def words(self, cell: int) -> UInt32s:
        """Return the words of a cell."""
        return self.members[self.offsets[cell] : self.offsets[cell + 1]]


@dataclass(frozen=True)
class Placed:
    """Words that were put on far rows, (m,) uint32, and the words that these rows had, (m,)."""

    words: UInt32s
    hosts: UInt32s


@dataclass(frozen=True)
class Reach:
    """How far from a word its neighbours are sought.

    Attributes:
        words: neighbours of a word, itself among them, that a row of that word is compared with.
        cells: cells near a cell's centre in which the neighbours of its words are sought.
    """

    words: int
    cells: int


NEAR = Reach(words=64, cells=24)
"""Finds some 9 of 10 nearest words, while words still move far and of finished words."""

FAR = Reach(words=256, cells=48)
"""Finds 98 of 100 nearest words, for the rounds in which words settle."""


def count_cells(words: int) -> int:
    """Return the number of cells of K words: 2 sqrt(K), at most one a word."""
    return max(1, min(words, round(2 * math.sqrt(words))))


def first_cells(centroids: Float32s) -> Cells:
    """Return new cells over words, by k-means seeded with every n-th word."""
    chosen = np.linspace(0, len(centroids) - 1, count_cells(len(centroids))).astype(np.int64)
    centres = centroids[chosen]
    for _ in range(FIRST_ROUNDS - 1):
        centres = next_cells(centroids, centres).centres
    return next_cells(centroids, centres)


def next_cells(centroids: Float32s, centres: Float32s) -> Cells:
    """Return the cells of words that have moved a little, starting from these centres.

    Words go to the nearest centre, then centres to the mean of their words; an empty one stays.
    """
    owners = ExactAssigner(centres).assign(centroids).words
    order, offsets = grouped(owners, len(centres))
    sums = np.zeros(centres.shape, np.float64)
    add_rows(sums, owners, centroids)
    sizes = np.diff(offsets)[:, None]
    means = np.where(sizes > 0, sums / np.maximum(sizes, 1), centres).astype(np.float32)
    return Cells(means, offsets, order.astype(np.uint32))


def neighbours_of(
    centroids: Float32s,
    cells: Cells,
    reach: Reach = NEAR,
    first: int = 0,
    stop: int | None = None,
) -> UInt32s:
    """Return the words near each word of some cells, rising; itself among them if few equal it.

    They are the nearest among the words of the `reach.cells` cells nearest to the centre of the
    word's own cell, or of more where those hold too few.

    Args:
        centroids: (K, D) float32.
        reach: how many neighbours, and how far they are sought.
        first, stop: the cells, from `first` to before `stop`; all by default.

    Returns:
        uint32 (m, min(K, reach.words)), a row a word of these cells in the order of `members`.
    """
    stop = len(cells) if stop is None else stop
    words = Compared.of(centroids, "centroids")
    vectors, squared_norms = words.vectors, squared_norms_of(words.vectors)
    windows, with_words = words.windows(squared_norms), Products(words)
    count = min(len(centroids), reach.words)
    sizes = np.diff(cells.offsets)
    found = [np.empty((0, count), np.uint32)]
    for cell in signed((first + np.flatnonzero(sizes[first:stop])).tolist()):
        away = squared_norms_of(cells.centres - cells.centres[cell])
        away[cell] = -1.0
        near = np.argsort(away, kind="stable")
        enough = int(np.searchsorted(np.cumsum(sizes[near]), count)) + 1
        candidates = np.sort(
            np.concatenate([cells.words(one) for one in near[: max(reach.cells, enough)].tolist()])
        )
        mine = cells.words(cell)
        products = np.empty((len(mine), len(candidates)), np.float32)
        with_words.write(vectors[mine], squared_norms[mine], products, count, candidates)
        found.append(
            select_nearest(
                vectors[mine],
                products,
                words.half_norms[candidates],
                windows[mine],
                candidates,
                vectors,
                count,
            )
        )
    return np.concatenate(found)


class CellsAssigner:
    """Compares each descriptor with the words of its nearest cells, then with words near the best.

    The word is the one with the least float64 squared distance among the words of the `probes`
    cells whose centres are nearest in float64, and, where neighbours are given, among the
    neighbours of that word; the lowest of equals each time.
    """

    def __init__(
        self,
        centroids: Float32s,
        cells: Cells,
        probes: int,
        neighbours: UInt32s | None = None,
    ) -> None:
        """Take the centroids, (K, D) float32, their cells, and how many cells to probe.

        Args:
            neighbours: from `neighbours_of`, for all cells.

        Raises:
            ValueError: cells of other words, fewer than 1 probe, or as `ExactAssigner`.
        """
        if len(cells.members) != len(centroids) or probes < 1:
            raise ValueError(
                f"cells are of all words and 1 is looked into at least; got "
                f"{len(cells.members):,} words in cells for {len(centroids):,}, {probes} probes"
            )
        self._words = Compared.of(centroids, "centroids")
        self._cells = cells
        self._centres = Compared.of(cells.centres, "centres")
        self._to_centres = Products(self._centres)
        self._probes = min(probes, len(cells))
        self._near = None
        if neighbours is not None:
            self._near = NeighboursAssigner(centroids, cells, neighbours)

    def assign(self, descriptors: Float32s) -> Assignment:
        """Return the word of each descriptor; see `Assigner.assign`."""
        rows, squared_norms = checked_vectors(
            descriptors, "descriptors", self._words.vectors.shape[1]
        )
        words = np.full(len(rows), np.iinfo(np.uint32).max, np.uint32)
        distances = np.full(len(rows), np.inf)
        for start in range(0, len(rows), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            self._block(rows[block], squared_norms[block], words[block], distances[block])
        if self._near is None:
            return Assignment(words, distances)
        found = self._near.assign(rows, words)
        # The word itself is among its neighbours, unless very many equal it.
        nearer = found.squared_distances <= distances
        return Assignment(
            np.where(nearer, found.words, words),
            np.where(nearer, found.squared_distances, distances),
        )

    def nearest(self, descriptors: Float32s, count: int) -> Nearest:
        """Return the nearest words of each descriptor, among the words that `assign` looks at."""
        centroids = self._words.vectors
        check_count(count, len(centroids))
        assigned = self.assign(descriptors)
        best = assigned.words
        if count == 1:
            return Nearest.one(assigned)
        rows, squared_norms = checked_vectors(descriptors, "descriptors", centroids.shape[1])
        windows = self._words.windows(squared_norms)
        found = np.empty((len(rows), count), np.uint32)
        for start in range(0, len(rows), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            near = best[block, None] if self._near is None else self._near.words_near(best[block])
            found[block] = nearest_in_cells(
                rows[block],
                windows[block],
                self._probed(rows[block], squared_norms[block]),
                self._cells.offsets,
                self._cells.members,
                near,
                centroids,
                self._words.half_norms,
                count,
            )
        few = np.flatnonzero(found[:, -1] == 0)  # `count` words that rise end above 0
        if len(few):
            found[few] = ExactAssigner(centroids).nearest(rows[few], count).words
        return Nearest.of(rows, centroids, found)

    def _probed(self, rows: Float32s, squared_norms: Float64s) -> UInt32s:
        """Return the cells that each row is compared with, (n, probes)."""
        products = np.empty((len(rows), len(self._cells)), np.float32)
        self._to_centres.write(rows, squared_norms, products, self._probes)
        return select_nearest(
            rows,
            products,
            self._centres.half_norms,
            self._centres.windows(squared_norms),
            np.arange(len(self._cells), dtype=np.uint32),
            self._centres.vectors,
            self._probes,
        )

    def _block(
        self, rows: Float32s, squared_norms: Float64s, words: UInt32s, distances: Float64s
    ) -> None:
        probed = self._probed(rows, squared_norms)
        pairs, starts = grouped(probed.reshape(-1), len(self._cells))
        nearest_in_lists(
            rows,
            squared_norms,
            self._words.windows(squared_norms),
            pairs // self._probes,
            starts,
            np.arange(len(self._cells)),
            self._cells.offsets,
            self._cells.members,
            self._words.vectors,
            self._words.half_norms,
            words,
            distances,
        )
        if np.isinf(distances).any():  # all cells probed were empty: compare with every word
            lost = np.flatnonzero(np.isinf(distances))
            found = ExactAssigner(self._words.vectors).assign(rows[lost])
            words[lost], distances[lost] = found.words, found.squared_distances


class NeighboursAssigner:
    """Compares each row with the neighbours of its last word, following words as they move.

    As in k2-means (Agustsson, Timofte, Van Gool 2017): in a round words move little, so a row's
    next word is nearly always among the neighbours of its last.
    """

    def __init__(
        self,
        centroids: Float32s,
        cells: Cells,
        neighbours: UInt32s,
        placed: Placed | None = None,
    ) -> None:
        """Take centroids (K, D) float32, their cells, and the neighbours of all words.

        A `placed` word is far from its host, so it is no neighbour; but the row it was put on
        belongs to the host, and can find it only here.
        """
        _check_words(len(centroids), neighbours, placed)
        if len(neighbours) != len(centroids) or len(cells.members) != len(centroids):
            raise ValueError(
                f"{len(centroids):,} words have cells of {len(cells.members):,} and neighbours of "
                f"{len(neighbours):,}"
            )
        self._words = Compared.of(centroids, "centroids")
        self._places = np.empty(len(centroids), np.uint32)
        self._places[cells.members] = np.arange(len(centroids), dtype=np.uint32)
        self._members = np.ascontiguousarray(neighbours).reshape(-1)
        self._offsets = np.arange(len(centroids) + 1, dtype=np.int64) * neighbours.shape[1]
        if placed is not None:
            after = self._places[placed.hosts].astype(np.int64) + 1
            self._members = np.insert(self._members, self._offsets[after], placed.words)
            more = np.bincount(after, minlength=len(self._offsets))
            self._offsets = self._offsets + np.cumsum(more)

    def order(self, lasts: UInt32s) -> Int64s:
        """Return the rows sorted by last word, so that neighbours are read in order."""
        return grouped(self._places[lasts], len(self._places))[0]

    def words_near(self, words: UInt32s) -> UInt32s:
        """Return the neighbours of some words, (n, m); for words of which none was just placed."""
        return self._members.reshape(len(self._places), -1)[self._places[words]]

    def assign(self, descriptors: Float32s, lasts: UInt32s) -> Assignment:
        """Return the word of each descriptor (n, D), given its last word (n,)."""
        rows, squared_norms = checked_vectors(
            descriptors, "descriptors", self._words.vectors.shape[1]
        )
        order, starts = grouped(self._places[lasts], len(self._places))
        there = np.flatnonzero(np.diff(starts))
        words = np.full(len(rows), np.iinfo(np.uint32).max, np.uint32)
        distances = np.full(len(rows), np.inf)
        nearest_in_lists(
            rows,
            squared_norms,
            self._words.windows(squared_norms),
            order,
            np.append(starts[there], len(rows)),
            there,
            self._offsets,
            self._members,
            self._words.vectors,
            self._words.half_norms,
            words,
            distances,
        )
        return Assignment(words, distances)


def _check_words(count: int, neighbours: UInt32s, placed: Placed | None) -> None:
    """Check that neighbours and placed words are of `count` words."""
    named = [neighbours] if placed is None else [neighbours, placed.words, placed.hosts]
    for words in named:
        if words.size and int(words.max()) >= count:
            raise ValueError(f"word {words.max():,} is named, and there are {count:,} words")
