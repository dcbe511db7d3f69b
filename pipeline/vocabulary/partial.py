"""Partial sums of one task's rows by word, and how they are merged.

Descriptors are float16, so each number is a multiple of 2**-24, and float64 adds them without
rounding as long as no sum reaches 2**29. Descriptors of unit length stay below that up to half a
billion rows a word; squared errors are added as whole numbers. So a sum is the same in any order,
however rows are cut into tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lamella.pipeline.arrays import Float32s, Float64s
from lamella.pipeline.compiled import compiled
from lamella.pipeline.vocabulary.empty_clusters import Spares, join_spares

ERROR_SCALE = 2.0**30
"""Squared distances are added as multiples of 2**-30, each rounded to the nearest."""

LONGEST_TRAINED = 4096.0
"""Longest descriptor that is trained on: its squared error in that scale fits into 64 bits."""


@dataclass(frozen=True)
class Tally:
    """Totals of a task's rows besides the sums of its words.

    Attributes:
        rows: rows of the round.
        squared_error: sum of their squared distances to their words, in units of 1 / ERROR_SCALE.
        checked: rows that were also compared with every word; nearest: how many of them had the
            nearest.
    """

    rows: int = 0
    squared_error: int = 0
    checked: int = 0
    nearest: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.rows + other.rows,
            self.squared_error + other.squared_error,
            self.checked + other.checked,
            self.nearest + other.nearest,
        )

    @property
    def objective(self) -> float:
        """Mean squared distance; 0 without rows."""
        return self.squared_error / ERROR_SCALE / self.rows if self.rows else 0.0

    @property
    def recall(self) -> float:
        """Share of the rows checked that had the nearest word; 1 if none was."""
        return self.nearest / self.checked if self.checked else 1.0


@dataclass(frozen=True)
class WordSums:
    """Sums of rows by word, for some of the words.

    Attributes:
        words: uint32 (m,), rising.
        sums: float64 (m, D), of the descriptors of each word.
        counts: int64 (m,), descriptors of each word, at least 1.
    """

    words: npt.NDArray[np.uint32]
    sums: Float64s
    counts: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if not len(self.words) == len(self.sums) == len(self.counts):
            raise ValueError(
                f"there is one sum and one count a word; got {len(self.words)} words, "
                f"{len(self.sums)} sums, {len(self.counts)} counts"
            )
        if np.any(self.words[1:] <= self.words[:-1]):
            raise ValueError("the words of sums rise; these do not")


@dataclass(frozen=True)
class Partial:
    """A task's result in a round: dense sums of all words, the tally, and far rows.

    Attributes:
        sums: float64 (K, D); counts: int64 (K,).
        tally: totals of its rows.
        spares: distinct far rows, new places for empty words.
    """

    sums: Float64s
    counts: npt.NDArray[np.int64]
    tally: Tally
    spares: Spares

    def part(self, first: int, stop: int) -> WordSums:
        """Return the sums of the words from `first` to before `stop` that have rows."""
        words = first + np.flatnonzero(self.counts[first:stop])
        return WordSums(words.astype(np.uint32), self.sums[words], self.counts[words])


def merge_sums(
    parts: Sequence[WordSums], first: int, stop: int, dimensions: int
) -> tuple[Float64s, npt.NDArray[np.int64]]:
    """Return sums (m, D) and counts (m,) of the m words from `first` to before `stop`.

    Raises:
        ValueError: a part has other dimensions, or a word outside.
    """
    sums = np.zeros((stop - first, dimensions), np.float64)
    counts = np.zeros(stop - first, np.int64)
    for part in parts:
        if part.sums.shape[1] != dimensions:
            raise ValueError(f"sums have {dimensions} dimensions; got {part.sums.shape[1]}")
        if len(part.words) and not first <= part.words[0] <= part.words[-1] < stop:
            raise ValueError(
                f"words are from {first:,} to before {stop:,}; got {part.words[0]:,} to "
                f"{part.words[-1]:,}"
            )
        places = part.words.astype(np.int64) - first
        sums[places] += part.sums  # no word stands twice in a part
        counts[places] += part.counts
    return sums, counts


def merge_tallies(
    tallies: Sequence[Tally], spares: Sequence[Spares], limit: int
) -> tuple[Tally, Spares]:
    """Return the merged tallies of a round's tasks, and the best `limit` of their spares."""
    return sum(tallies, Tally()), join_spares(spares, limit)


@compiled
def add_rows(sums: Float64s, words: npt.NDArray[np.uint32], descriptors: Float32s) -> None:
    """Add each descriptor (n, D) to the sum of its word, in order of the rows."""
    for row in range(descriptors.shape[0]):
        for axis in range(descriptors.shape[1]):
            sums[words[row], axis] += np.float64(descriptors[row, axis])


@compiled
def _whole_errors(squared_distances: Float64s) -> npt.NDArray[np.int64]:
    """Return the sums of the high and low 32 bits of each distance in units of 1 / ERROR_SCALE."""
    sums = np.zeros(2, np.int64)
    for value in squared_distances:
        whole = np.int64(np.rint(value * 2.0**30))
        sums[0] += whole >> 32
        sums[1] += whole & 0xFFFFFFFF
    return sums


def whole_error(squared_distances: Float64s) -> int:
    """Return the sum of squared distances in units of 1 / ERROR_SCALE, the same in any order."""
    high, low = _whole_errors(squared_distances)
    return (int(high) << 32) + int(low)
