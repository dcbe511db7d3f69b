"""The words that a round begins with, and what its rows are compared with."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice

import numpy as np

from pipeline.vocabulary.assign import Assigner, Assignment, exact_assigner
from pipeline.vocabulary.cells import Cells, CellsAssigner, NeighboursAssigner, Placed
from pipeline.vocabulary.compare import Float32s
from pipeline.vocabulary.lists import Int64s, UInt32s, widen
from pipeline.vocabulary.sample import Sample

UNSEEN = np.uint32(0xFFFFFFFF)
"""The word of a row that no round has seen."""

FIRST_PROBES = 2
"""Cells that a row is compared with when it is first seen: the next rounds follow it from there."""

CHUNK_ROWS = 8_192
"""Rows widened and compared at a time by one thread."""


@dataclass(frozen=True)
class RoundWords:
    """Centroids (K, D) float32; and, where not all are compared, cells and neighbours (K, m).

    `placed` are the words that were just put on far rows: none near the words these rows had.
    """

    centroids: Float32s
    cells: Cells | None = None
    neighbours: UInt32s | None = None
    placed: Placed | None = None

    @cached_property
    def exact(self) -> Assigner:
        """What compares with every word."""
        return exact_assigner(self.centroids)

    @cached_property
    def _entry(self) -> Assigner:
        if self.cells is None:
            return self.exact
        return CellsAssigner(self.centroids, self.cells, FIRST_PROBES)

    @cached_property
    def _near(self) -> NeighboursAssigner:
        assert self.cells is not None
        assert self.neighbours is not None
        return NeighboursAssigner(self.centroids, self.cells, self.neighbours, self.placed)

    def assign(
        self, sample: Sample, rows: Int64s, lasts: UInt32s, threads: int = 1
    ) -> Iterator[tuple[Int64s, Float32s, Assignment]]:
        """Yield some rows of a sample chunk by chunk, with their descriptors and their words.

        Args:
            rows: which rows take part.
            lasts: uint32 (n,) for all rows of the sample: their last word, or `UNSEEN`.
            threads: chunks compared at once; changes no bit.
        """
        followed = np.empty(0, np.int64)
        if self.cells is not None:
            seen = lasts[rows] != UNSEEN
            followed, rows = rows[seen], rows[~seen]
        if len(followed):
            followed = followed[self._near.order(lasts[followed])]
        entry = self._entry  # made here, once, rather than in every thread

        def follow(chunk: Int64s) -> tuple[Int64s, Float32s, Assignment]:
            descriptors = widen(sample.bits, chunk)
            return chunk, descriptors, self._near.assign(descriptors, lasts[chunk])

        def enter(chunk: Int64s) -> tuple[Int64s, Float32s, Assignment]:
            descriptors = widen(sample.bits, chunk)
            return chunk, descriptors, entry.assign(descriptors)

        work = [partial(follow, chunk) for chunk in _chunks(followed, CHUNK_ROWS)]
        work += [partial(enter, chunk) for chunk in _chunks(rows, 2 * CHUNK_ROWS)]
        if threads == 1:
            for step in work:
                yield step()
            return
        with ThreadPoolExecutor(threads) as pool:
            waiting = iter(work)
            running = deque(pool.submit(step) for step in islice(waiting, threads + 1))
            while running:
                yield running.popleft().result()
                running.extend(pool.submit(step) for step in islice(waiting, 1))


def _chunks(rows: Int64s, size: int) -> Iterator[Int64s]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
