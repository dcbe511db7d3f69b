"""The words at the start of a round, and how its rows find theirs."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice, pairwise

import numpy as np

from lamella.pipeline.arrays import Float32s, Int64s, UInt32s
from lamella.pipeline.vocabulary.assign import Assigner, Assignment
from lamella.pipeline.vocabulary.choose import exact_assigner
from lamella.pipeline.vocabulary.ivf import (
    FAR,
    NEAR,
    Cells,
    CellsAssigner,
    NeighboursAssigner,
    Placed,
    Reach,
)
from lamella.pipeline.vocabulary.ivf_kernels import widen
from lamella.pipeline.vocabulary.sample import Sample
from lamella.schemas.vocabulary import RoundReport

UNSEEN = np.uint32(0xFFFFFFFF)
"""The word of a row that no round has seen."""

FIRST_PROBES = 2
"""Cells a row is compared with when first seen; later rounds follow it from there."""

SETTLING = 0.005
"""Words settle once a round over all rows lowers the objective by less than this share."""

CHUNK_ROWS = 8_192
"""Rows widened and compared at a time by one thread."""


def reach_of_round(reports: Sequence[RoundReport]) -> Reach:
    """Return how far neighbours are sought for the round that follows these reports.

    Near while words move far, as a row that is missed now is found in a later round; far once words
    settle, because a row missed then stays: with near neighbours alone a training ended 1.6 % above
    the objective of one by all words, and with far ones .3 % above (b11 of EfficientNet-Lite0,
    160,000 rows, 5,000 words).
    """
    settling = any(
        before.share == after.share == 1.0 and after.objective > (1.0 - SETTLING) * before.objective
        for before, after in pairwise(reports)
    )
    return FAR if settling else NEAR


@dataclass(frozen=True)
class RoundWords:
    """Centroids (K, D) float32; and, where not all are compared, cells and neighbours (K, m).

    `placed` are centroids just reseeded on distant rows; not neighbours of those rows' old words.
    """

    centroids: Float32s
    cells: Cells | None = None
    neighbours: UInt32s | None = None
    placed: Placed | None = None

    @cached_property
    def exact(self) -> Assigner:
        """The exact assigner."""
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
        entry = self._entry  # made once here, not in every thread

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
