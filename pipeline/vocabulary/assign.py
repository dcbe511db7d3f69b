"""Assign each descriptor its nearest visual word: the interface, and the exact assigner."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lamella.pipeline.arrays import Float32s, Float64s, UInt32s
from lamella.pipeline.vocabulary.compare import Compared, checked_vectors, decide
from lamella.pipeline.vocabulary.ivf_kernels import least_distances, select_nearest
from lamella.pipeline.vocabulary.refine import Products


@dataclass(frozen=True)
class Assignment:
    """The word of each descriptor.

    Attributes:
        words: uint32 (n,), row of the centroid.
        squared_distances: float64 (n,), to that centroid.
    """

    words: npt.NDArray[np.uint32]
    squared_distances: Float64s

    def __post_init__(self) -> None:
        if self.words.shape != self.squared_distances.shape or self.words.ndim != 1:
            raise ValueError(
                f"one distance a word; got {self.words.shape} and {self.squared_distances.shape}"
            )


@dataclass(frozen=True)
class Nearest:
    """The nearest words of each descriptor.

    Attributes:
        words: uint32 (n, count), rising.
        squared_distances: float64 (n,), to the nearest of them.
    """

    words: UInt32s
    squared_distances: Float64s

    @classmethod
    def one(cls, found: Assignment) -> "Nearest":
        """Return the one nearest word of each descriptor."""
        return cls(found.words[:, None], found.squared_distances)

    @classmethod
    def of(cls, descriptors: Float32s, centroids: Float32s, words: UInt32s) -> "Nearest":
        """Return words (n, count) of descriptors (n, D) with the least distance of each."""
        return cls(words, least_distances(descriptors, centroids, words))


class Assigner(Protocol):
    """Assigns words to descriptors."""

    def assign(self, descriptors: Float32s) -> Assignment:
        """Return the word of each descriptor, (n, D) float32.

        A descriptor's word does not depend on the other descriptors, on threads, or on repetition.

        Raises:
            ValueError: another shape or dtype, a number that is not finite, a norm above 1e15.
        """
        ...

    def nearest(self, descriptors: Float32s, count: int) -> Nearest:
        """Return the `count` nearest words of each descriptor.

        Raises:
            ValueError: as `assign`, or there are fewer words.
        """
        ...


def check_count(count: int, words: int) -> None:
    """Check that a descriptor may have this many words.

    Raises:
        ValueError: it may not.
    """
    if not 1 <= count <= words:
        raise ValueError(f"a descriptor has from 1 to all {words:,} words; got {count:,}")


class ExactAssigner:
    """Compares each descriptor with every word.

    The word is the one with the least float64 sum of squared differences, added in order of the
    dimensions; the lowest word among equals. A matrix product finds candidates (`refine.Products`):
    each word within twice the rounding error of the best (`error_bounds`) is compared in float64.
    """

    def __init__(self, centroids: Float32s, block_rows: int | None = None) -> None:
        """Take the centroids, (K, D) float32.

        Args:
            centroids: at least one.
            block_rows: descriptors compared at a time, for speed only; left out, the products
                of a block take about 8 MB.

        Raises:
            ValueError: no centroid, or as `assign`.
        """
        self._words = Compared.of(centroids, "centroids")
        self._products = Products(self._words)
        self._block_rows = block_rows or int(np.clip((1 << 21) // len(centroids), 64, 4096))

    def assign(self, descriptors: Float32s) -> Assignment:
        """Return the nearest word of each descriptor; see `Assigner.assign`."""
        centroids = self._words.vectors
        rows, squared_norms = checked_vectors(descriptors, "descriptors", centroids.shape[1])
        windows = self._words.windows(squared_norms)
        words = np.empty(len(rows), np.uint32)
        distances = np.empty(len(rows), np.float64)
        room = np.empty((min(len(rows), self._block_rows), len(centroids)), np.float32)
        for start in range(0, len(rows), self._block_rows):
            block = slice(start, start + self._block_rows)
            products = room[: len(rows[block])]
            self._products.write(rows[block], squared_norms[block], products)
            decide(
                rows[block],
                centroids,
                products,
                self._words.half_norms,
                windows[block],
                words[block],
                distances[block],
            )
        return Assignment(words, distances)

    def nearest(self, descriptors: Float32s, count: int) -> Nearest:
        """Return the nearest words of each descriptor; see `Assigner.nearest`."""
        centroids = self._words.vectors
        check_count(count, len(centroids))
        if count == 1:  # its comparisons are faster
            return Nearest.one(self.assign(descriptors))
        rows, squared_norms = checked_vectors(descriptors, "descriptors", centroids.shape[1])
        windows = self._words.windows(squared_norms)
        words = np.empty((len(rows), count), np.uint32)
        everyone = np.arange(len(centroids), dtype=np.uint32)
        room = np.empty((min(len(rows), self._block_rows), len(centroids)), np.float32)
        for start in range(0, len(rows), self._block_rows):
            block = slice(start, start + self._block_rows)
            products = room[: len(rows[block])]
            self._products.write(rows[block], squared_norms[block], products, count)
            words[block] = select_nearest(
                rows[block],
                products,
                self._words.half_norms,
                windows[block],
                everyone,
                centroids,
                count,
            )
        return Nearest.of(rows, centroids, words)


def measure_recall(approximate: Assigner, exact: Assigner, descriptors: Float32s) -> float:
    """Return the share of descriptors for which the first found a nearest word; 1.0 for none.

    Words equally near count as found.
    """
    if len(descriptors) == 0:
        return 1.0
    found = approximate.assign(descriptors).squared_distances
    return float(np.mean(found <= exact.assign(descriptors).squared_distances))
