"""The inverted file of a segment: for each visual word, the images that hold it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import read_only
from lamella.pipeline.compiled import compiled
from lamella.pipeline.index.bags import BagsOfWords, check_offsets, first_fault, greatest_of_runs


@dataclass(frozen=True, eq=False)
class Postings:
    """The posting lists of K words: word w holds entries offsets[w] to offsets[w + 1].

    Attributes:
        offsets: (K + 1,) int64.
        rows: (m,) uint32, positions of images inside the segment, rising within a word.
        counts: (m,) how often the image holds the word: uint8 where all are below 256, else
            uint16 or uint32, for they are read as often as rows.

    Raises:
        ValueError: the arrays do not fit together. `check_rows` checks the rows.
    """

    offsets: NDArray[np.int64]
    rows: NDArray[np.uint32]
    counts: NDArray[Any]

    def __post_init__(self) -> None:
        if self.counts.dtype not in (np.uint8, np.uint16, np.uint32):
            raise ValueError(f"counts of postings must be unsigned; got {self.counts.dtype}")
        counts = self.counts.dtype.type
        for name, dtype in (("offsets", np.int64), ("rows", np.uint32), ("counts", counts)):
            array = read_only(getattr(self, name), dtype, f"{name} of postings", ndim=1)
            object.__setattr__(self, name, array)
        check_offsets(self.offsets, len(self.rows), "postings")
        if len(self.rows) != len(self.counts):
            raise ValueError(f"one count a row; got {len(self.counts)} for {len(self.rows)}")

    def check_rows(self, images: int) -> None:
        """Check that rows are below `images`, rise within a word, and have counts of at least 1:
        searches use these numbers unchecked.

        Raises:
            ValueError: one of these does not hold.
        """
        fault = first_fault(self.offsets, self.rows, self.counts)
        if fault is not None:
            word, entry = fault
            raise ValueError(
                f"rows of a posting list must rise and be counted; that of word {word} has row "
                f"{self.rows[entry]} with a count of {self.counts[entry]} at entry {entry}"
            )
        greatest = greatest_of_runs(self.offsets, self.rows)
        if greatest >= images:
            raise ValueError(f"rows of {images:,} images end at {images - 1:,}; got {greatest:,}")

    @property
    def words(self) -> int:
        """K, the size of the vocabulary."""
        return len(self.offsets) - 1


def invert(bags: BagsOfWords, words: int) -> Postings:
    """Return the posting lists of a vocabulary of `words` words over these images.

    Raises:
        ValueError: a bag holds a word outside the vocabulary.
    """
    bags.check_words(words)
    offsets = np.zeros(words + 1, dtype=np.int64)
    np.cumsum(np.bincount(bags.words, minlength=words), out=offsets[1:])
    rows = np.empty(len(bags.words), dtype=np.uint32)
    counts = np.empty(len(bags.words), np.min_scalar_type(int(bags.counts.max(initial=0))))
    _scatter(bags.offsets, bags.words, bags.counts, offsets[:-1].copy(), rows, counts)
    return Postings(offsets=offsets, rows=rows, counts=counts)


COUNT_BITS = 8
"""Bits of a folded posting that hold the count; the others hold the row."""


def fold(postings: Postings) -> NDArray[np.uint32] | None:
    """Return each posting as one number, row << `COUNT_BITS` | count, (m,) uint32.

    A scan then reads one array, in which a run ends where numbers reach those of the next block.
    None where a count or a row needs more bits.
    """
    if postings.counts.dtype != np.uint8 or postings.rows.max(initial=0) >> (32 - COUNT_BITS):
        return None
    folded = np.empty(len(postings.rows), np.uint32)
    _fold(postings.rows, postings.counts, folded)
    folded.flags.writeable = False
    return folded


def document_frequencies(postings: Postings) -> NDArray[np.int64]:
    """Return how many images of the segment hold each word, (K,) int64.

    Frequencies of segments add up, in any order, as they are integers.
    """
    return np.diff(postings.offsets)


@compiled
def _fold(rows: NDArray[np.uint32], counts: NDArray[np.uint8], folded: NDArray[np.uint32]) -> None:
    for entry in range(len(rows)):
        folded[entry] = rows[entry] << np.uint32(COUNT_BITS) | np.uint32(counts[entry])


@compiled
def _scatter(
    offsets: NDArray[np.int64],
    words: NDArray[np.uint32],
    counts: NDArray[np.uint32],
    places: NDArray[np.int64],
    rows_out: NDArray[np.uint32],
    counts_out: NDArray[Any],
) -> None:
    for image in range(len(offsets) - 1):
        for entry in range(offsets[image], offsets[image + 1]):
            word = words[entry]
            rows_out[places[word]] = image
            counts_out[places[word]] = counts[entry]
            places[word] += 1
