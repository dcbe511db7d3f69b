"""Compare descriptors with words: float32 finds candidates, float64 decides."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lamella.pipeline.arrays import Float32s, Float64s
from lamella.pipeline.compiled import compiled

LARGEST_NORM = 1e15
"""The longest descriptor or centroid allowed: products of two stay far inside float32."""


def checked_vectors(
    vectors: Float32s, name: str, dimensions: int | None = None
) -> tuple[Float32s, Float64s]:
    """Return the vectors, contiguous, and their squared norms, float64 (n,).

    Raises:
        ValueError: not float32 (n, D), other dimensions than required, a number that is not finite,
            or a norm above `LARGEST_NORM`.
    """
    if vectors.ndim != 2 or vectors.dtype != np.float32:
        raise ValueError(
            f"{name} are float32 (n, D); got {vectors.dtype} with shape {vectors.shape}"
        )
    if dimensions not in (None, vectors.shape[1]):
        raise ValueError(
            f"{name} have the {dimensions} dimensions of the words; got {vectors.shape[1]}"
        )
    vectors = np.ascontiguousarray(vectors)
    squared_norms = squared_norms_of(vectors)
    bad = np.flatnonzero(~(squared_norms <= LARGEST_NORM**2))
    if len(bad):
        raise ValueError(
            f"{name} are finite with norms up to {LARGEST_NORM:g}; row {bad[0]:,} is not"
        )
    return vectors, squared_norms


def error_bounds(norms: Float64s, longest: float, dimensions: int) -> Float64s:
    """Return error bounds of |c|^2 / 2 - x.c in float32, for each |x| and any |c| <= longest.

    A dot product of D float32 terms, added in any order, is off by at most g |x| |c| with
    g = D u / (1 - D u), u = 2**-24 (Higham, Accuracy and Stability of Numerical Algorithms, 2002,
    section 3.1). The bound covers the dot product, the half norm and their difference; products
    below float32's normal numbers; and the rounding of the float64 sum that decides.
    """
    terms = dimensions + 4
    rounded = 1.01 * terms * 2.0**-24 * longest * (norms + longest)
    vanished = terms * 2.0**-126
    decided = terms * 2.0**-52 * (norms + longest) ** 2
    bounds: Float64s = rounded + vanished + decided
    return bounds


@dataclass(frozen=True)
class Compared:
    """Vectors to compare rows with, and their norms.

    Attributes:
        vectors: (K, D) float32, contiguous and checked.
        half_norms: (K,) float32, half their squared norms.
        longest: the greatest norm.
    """

    vectors: Float32s
    half_norms: Float32s
    longest: float

    @classmethod
    def of(cls, vectors: Float32s, name: str) -> "Compared":
        """Return vectors prepared for comparisons.

        Raises:
            ValueError: there are none, or as `checked_vectors`.
        """
        vectors, squared_norms = checked_vectors(vectors, name)
        if len(vectors) == 0:
            raise ValueError("a vocabulary has at least 1 word; got 0")
        half_norms = (squared_norms / 2).astype(np.float32)
        return cls(vectors, half_norms, float(np.sqrt(squared_norms.max())))

    def some(self, rows: npt.NDArray[np.uint32]) -> "Compared":
        """Return some of the vectors, (m,), with the longest of all."""
        return Compared(self.vectors[rows], self.half_norms[rows], self.longest)

    def windows(self, squared_norms: Float64s) -> Float64s:
        """Return how far above the least score the nearest vector may score, for rows (n,)."""
        return 2 * error_bounds(np.sqrt(squared_norms), self.longest, self.vectors.shape[1])


@compiled
def squared_norms_of(vectors: Float32s) -> Float64s:
    """Return the squared norms, float64 (n,), added in order of the dimensions."""
    norms = np.zeros(vectors.shape[0], np.float64)
    for row in range(vectors.shape[0]):
        for axis in range(vectors.shape[1]):
            norms[row] += np.float64(vectors[row, axis]) * np.float64(vectors[row, axis])
    return norms


@compiled
def squared_distance(left: Float32s, right: Float32s) -> float:
    """Return the squared distance in float64, added in order of the dimensions."""
    total = 0.0
    for axis in range(left.shape[0]):
        difference = np.float64(left[axis]) - np.float64(right[axis])
        total += difference * difference
    return total


@compiled
def least_product(half_norms: Float32s, products: Float32s, lanes: Float32s) -> float:
    """Return the least half norm less product; `lanes` is a buffer for 32 parallel minima.

    A minimum is the same in any order, and 32 in parallel take a third of the time.
    """
    lanes[:] = np.inf
    whole = half_norms.shape[0] // 32 * 32
    for start in range(0, whole, 32):
        for lane in range(32):
            value = half_norms[start + lane] - products[start + lane]
            lanes[lane] = value if value < lanes[lane] else lanes[lane]
    for word in range(whole, half_norms.shape[0]):
        lanes[0] = min(lanes[0], half_norms[word] - products[word])
    return float(lanes.min())


@compiled
def decide(
    descriptors: Float32s,
    centroids: Float32s,
    products: Float32s,
    half_norms: Float32s,
    windows: Float64s,
    words: npt.NDArray[np.uint32],
    distances: Float64s,
) -> None:
    """Write the nearest word of each descriptor and its squared distance; the lowest of equals.

    Args:
        descriptors: (n, D), and centroids: (K, D), float32.
        products: (n, K) float32, their products.
        half_norms: (K,) float32, half the squared norms of the centroids.
        windows: (n,) float64, how far above the least score the nearest word may score.
        words: (n,) uint32, and distances: (n,) float64, written.
    """
    count = centroids.shape[0]
    lanes = np.empty(32, np.float32)
    for row in range(descriptors.shape[0]):
        exact_limit = least_product(half_norms, products[row], lanes) + windows[row]
        limit = np.float32(exact_limit + abs(exact_limit) * 2.0**-22 + 2.0**-140)  # never below
        nearest = np.inf
        for start in range(0, count, 32):
            stop = min(start + 32, count)
            hits = 0
            for word in range(start, stop):
                hits += half_norms[word] - products[row, word] <= limit
            if hits == 0:
                continue
            for word in range(start, stop):
                if half_norms[word] - products[row, word] <= limit:
                    distance = squared_distance(descriptors[row], centroids[word])
                    if distance < nearest:
                        nearest = distance
                        words[row] = word
        distances[row] = nearest


@compiled
def decide_among(
    descriptors: Float32s,
    centroids: Float32s,
    proposals: npt.NDArray[np.int64],
    words: npt.NDArray[np.uint32],
    distances: Float64s,
) -> None:
    """Write the nearest of each descriptor's proposed words, (n, P) int64, as `decide` does."""
    for row in range(descriptors.shape[0]):
        nearest = np.inf
        for word in proposals[row]:
            if word < 0:  # FAISS found fewer than were requested
                continue
            distance = squared_distance(descriptors[row], centroids[word])
            if distance < nearest or (distance == nearest and word < words[row]):
                nearest = distance
                words[row] = word
        distances[row] = nearest
