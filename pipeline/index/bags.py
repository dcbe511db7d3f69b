"""Bags of words: how often each image holds each visual word, image by image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import read_only
from lamella.pipeline.compiled import compiled


def check_offsets(offsets: NDArray[np.int64], entries: int, what: str) -> None:
    """Check that offsets cut `entries` entries into runs: from 0, never falling, to the end.

    Raises:
        ValueError: they do not.
    """
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != entries:
        ends = f"{offsets[0]} to {offsets[-1]}" if len(offsets) else "nothing"
        raise ValueError(f"offsets of {what} must go from 0 to {entries}; got {ends}")
    if np.any(offsets[1:] < offsets[:-1]):
        raise ValueError(f"offsets of {what} must not fall")


def first_fault(
    offsets: NDArray[np.int64], values: NDArray[np.uint32], counts: NDArray[Any]
) -> tuple[int, int] | None:
    """Return the first run, and the entry in it, that does not rise or has a count of 0, if any.

    Arrays read from a file are checked this way before anything uses them as indices. It takes one
    pass over each array at the speed of memory: runs rise if values fall only where a run starts.
    """
    falls = _falls(values)
    if falls == _falls_between(offsets, values) and (not len(counts) or counts.min() > 0):
        return None
    run, entry = _find_fault(offsets, values, counts)
    return int(run), int(entry)


def greatest_of_runs(offsets: NDArray[np.int64], values: NDArray[np.uint32]) -> int:
    """Return the greatest value of rising runs, reading only their last values; -1 without any."""
    ends = offsets[1:][np.diff(offsets) > 0] - 1
    return int(values[ends].max()) if len(ends) else -1


@compiled
def _falls(values: NDArray[np.uint32]) -> int:
    """Return how many values are not above the one before."""
    falls = 0
    for entry in range(1, len(values)):
        falls += values[entry] <= values[entry - 1]
    return falls


@compiled
def _falls_between(offsets: NDArray[np.int64], values: NDArray[np.uint32]) -> int:
    """Return how many runs begin with a value that is not above the last of the run before."""
    falls, last = 0, 0
    for start in offsets:
        if last < start < len(values):
            falls += values[start] <= values[start - 1]
            last = start
    return falls


@compiled
def _find_fault(
    offsets: NDArray[np.int64], values: NDArray[np.uint32], counts: NDArray[Any]
) -> tuple[int, int]:
    for run in range(len(offsets) - 1):
        last = np.int64(-1)
        for entry in range(offsets[run], offsets[run + 1]):
            value = np.int64(values[entry])
            if value <= last or counts[entry] == 0:
                return run, entry
            last = value
    return -1, -1


@dataclass(frozen=True, eq=False)
class BagsOfWords:
    """The words of n images: image i holds entries offsets[i] to offsets[i + 1].

    Attributes:
        offsets: (n + 1,) int64.
        words: (m,) uint32, rising within an image.
        counts: (m,) uint32, at least 1: how often an image holds a word, or its weight in fixed
            point (`describe.weighed`).

    Raises:
        ValueError: the arrays do not fit together; the message says which rule.
    """

    offsets: NDArray[np.int64]
    words: NDArray[np.uint32]
    counts: NDArray[np.uint32]

    def __post_init__(self) -> None:
        for name, dtype in (("offsets", np.int64), ("words", np.uint32), ("counts", np.uint32)):
            array = read_only(getattr(self, name), dtype, f"{name} of bags", ndim=1)
            object.__setattr__(self, name, array)
        check_offsets(self.offsets, len(self.words), "bags")
        if len(self.words) != len(self.counts):
            raise ValueError(f"one count a word; got {len(self.counts)} for {len(self.words)}")
        fault = first_fault(self.offsets, self.words, self.counts)
        if fault is not None:
            image, entry = fault
            if self.counts[entry] == 0:
                raise ValueError("a word in a bag is counted at least once; got a count of 0")
            raise ValueError(
                f"words must rise within an image; image {image} has {self.words[entry - 1]} "
                f"before {self.words[entry]}"
            )

    def __len__(self) -> int:
        """The number of images."""
        return len(self.offsets) - 1

    def check_words(self, words: int) -> None:
        """Check that every word belongs to a vocabulary of this many words.

        Raises:
            ValueError: a word is not.
        """
        greatest = greatest_of_runs(self.offsets, self.words)
        if greatest >= words:
            raise ValueError(
                f"words of a vocabulary of {words} end at {words - 1}; got {greatest}: "
                "the bags were made with another vocabulary"
            )


def bags_from_words(offsets: NDArray[np.int64], words: NDArray[np.uint32]) -> BagsOfWords:
    """Return the bags of images given the word of each of their descriptors.

    Words 7, 2, 7 of one image become words 2, 7 with counts 1, 2.

    Args:
        offsets: (n + 1,) int64; image i holds words offsets[i] to offsets[i + 1].
        words: (m,) uint32, in any order.

    Raises:
        ValueError: the offsets do not cut the words.
    """
    offsets = read_only(offsets, np.int64, "offsets of words", ndim=1)
    words = read_only(words, np.uint32, "words", ndim=1)
    check_offsets(offsets, len(words), "words")
    images = np.repeat(np.arange(len(offsets) - 1, dtype=np.uint64), np.diff(offsets))
    keys, counts = np.unique((images << np.uint64(32)) | words, return_counts=True)
    bounds = np.arange(len(offsets), dtype=np.uint64) << np.uint64(32)
    return BagsOfWords(
        offsets=np.searchsorted(keys, bounds).astype(np.int64),
        words=(keys & np.uint64(0xFFFFFFFF)).astype(np.uint32),
        counts=counts.astype(np.uint32),
    )


def concatenate(parts: Sequence[BagsOfWords]) -> BagsOfWords:
    """Return the images of all parts, one part after the other. No part gives no image."""
    offsets, entries = [np.zeros(1, dtype=np.int64)], 0
    for part in parts:
        offsets.append(part.offsets[1:] + entries)
        entries += len(part.words)
    nothing = np.empty(0, dtype=np.uint32)
    return BagsOfWords(
        offsets=np.concatenate(offsets),
        words=np.concatenate([nothing, *(part.words for part in parts)]),
        counts=np.concatenate([nothing, *(part.counts for part in parts)]),
    )


def select(bags: BagsOfWords, rows: NDArray[np.int64]) -> BagsOfWords:
    """Return the bags of the given rows, in the given order; a row may be given twice."""
    entries = entries_of(bags.offsets, rows)
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(np.diff(bags.offsets)[rows], out=offsets[1:])
    return BagsOfWords(offsets=offsets, words=bags.words[entries], counts=bags.counts[entries])


def entries_of(offsets: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the entries of the given runs, one run after the other, (m,) int64."""
    sizes = np.diff(offsets)[rows]
    ends = np.cumsum(sizes)
    entries: NDArray[np.int64] = np.arange(ends[-1] if len(ends) else 0) + np.repeat(
        offsets[:-1][rows] - ends + sizes, sizes
    )
    return entries
