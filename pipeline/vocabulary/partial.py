"""What one task learns about the words from its rows, and how such knowledge is added up."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.vocabulary.assign import Assignment
from pipeline.vocabulary.compare import Float32s, Float64s
from pipeline.vocabulary.compiled import compiled
from pipeline.vocabulary.refill import SampleKey, Spares, draw_spares, join_spares


@dataclass(frozen=True)
class Partial:
    """Sums over some rows of a round, for the words these rows touched.

    Attributes:
        words: uint32 (m,), rising.
        sums: float64 (m, D), of the descriptors of each word.
        counts: int64 (m,), descriptors of each word, at least 1.
        squared_error: sum of the squared distances of the rows to their words.
        rows: how many rows there were.
        spares: distinct far rows, on which an empty word may be put.
    """

    words: npt.NDArray[np.uint32]
    sums: Float64s
    counts: npt.NDArray[np.int64]
    squared_error: float
    rows: int
    spares: Spares

    def __post_init__(self) -> None:
        if not len(self.words) == len(self.sums) == len(self.counts):
            raise ValueError(
                f"a partial has one sum and one count a word; got {len(self.words)} words, "
                f"{len(self.sums)} sums, {len(self.counts)} counts"
            )
        if np.any(self.words[1:] <= self.words[:-1]):
            raise ValueError("the words of a partial rise; these do not")
        if int(self.counts.sum()) != self.rows:
            raise ValueError(
                f"the counts of a partial add up to its rows; "
                f"got {int(self.counts.sum()):,} for {self.rows:,} rows"
            )


def partial_of(
    descriptors: Float32s, assignment: Assignment, key: SampleKey, spares: int = 0
) -> Partial:
    """Return the sums of a task's rows, added in order of the rows.

    Args:
        descriptors: (n, D) float32, the rows that take part, in the task's order.
        assignment: their words.
        key: names the random numbers that choose the spares.
        spares: how many far rows to keep at most.

    Raises:
        ValueError: not one word a row.
    """
    if len(descriptors) != len(assignment.words):
        raise ValueError(
            f"one word a descriptor; got {len(assignment.words):,} for {len(descriptors):,}"
        )
    words, places = np.unique(assignment.words, return_inverse=True)
    sums = np.zeros((len(words), descriptors.shape[1]), np.float64)
    _add_rows(sums, places.astype(np.int64), np.ascontiguousarray(descriptors))
    return Partial(
        words=words,
        sums=sums,
        counts=np.bincount(places, minlength=len(words)).astype(np.int64),
        squared_error=_sum(assignment.squared_distances),
        rows=len(descriptors),
        spares=draw_spares(descriptors, assignment.squared_distances, key, spares),
    )


def merge_partials(partials: Sequence[Partial], spares: int = 0) -> Partial:
    """Return the sums over the rows of all partials, added in the order given.

    Whoever computed them, the same partials in the same order give the same bits, and merging
    the first few beforehand changes nothing. Other cuts of the same rows into tasks add the same
    numbers in another order and may differ in the last bits, so a job fixes the cut.

    Args:
        partials: at least one, of equal dimensions.
        spares: how many far rows to keep at most; as many as each partial could keep.

    Raises:
        ValueError: no partial, or partials of different dimensions.
    """
    if not partials:
        raise ValueError("at least one partial is merged; got none")
    dimensions = sorted({partial.sums.shape[1] for partial in partials})
    if len(dimensions) > 1:
        raise ValueError(f"partials of equal dimensions are merged; got {dimensions}")
    words = np.unique(np.concatenate([partial.words for partial in partials]))
    sums = np.zeros((len(words), dimensions[0]), np.float64)
    counts = np.zeros(len(words), np.int64)
    squared_error = 0.0
    for partial in partials:
        places = np.searchsorted(words, partial.words)
        sums[places] += partial.sums  # no word stands twice in a partial
        counts[places] += partial.counts
        squared_error += partial.squared_error
    return Partial(
        words=words,
        sums=sums,
        counts=counts,
        squared_error=squared_error,
        rows=sum(partial.rows for partial in partials),
        spares=join_spares([partial.spares for partial in partials], spares),
    )


@compiled
def _add_rows(sums: Float64s, places: npt.NDArray[np.int64], descriptors: Float32s) -> None:
    for row in range(descriptors.shape[0]):
        for axis in range(descriptors.shape[1]):
            sums[places[row], axis] += np.float64(descriptors[row, axis])


@compiled
def _sum(values: Float64s) -> float:
    total = 0.0
    for value in values:
        total += value
    return total
