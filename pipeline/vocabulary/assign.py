"""The nearest visual word of each descriptor: exactly, or by a graph that proposes a few."""

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from pipeline.vocabulary.compare import (
    Float32s,
    Float64s,
    checked_vectors,
    decide,
    decide_among,
    error_bounds,
)
from schemas.vocabulary import AssignerKind, VocabularySpec

EXACT_UP_TO = 16_384
"""Largest vocabulary for which `auto` compares with every word; see `choose_assigner`."""

LINKS, BUILD_BREADTH, SEARCH_BREADTH, PROPOSALS = 64, 100, 64, 4
"""The graph: links of a word, words kept while building, while searching, and handed on.

With 32 links the graph falls apart where words crowd around few sources: 500 words of rows from
300 sources had a recall of .79 to .93, with 64 links 1.00.
"""


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


class Assigner(Protocol):
    """Whatever gives descriptors their words."""

    def assign(self, descriptors: Float32s) -> Assignment:
        """Return the word of each descriptor, (n, D) float32.

        A descriptor's word does not depend on the others, on threads or on how often it is asked.

        Raises:
            ValueError: another shape or dtype, a number that is not finite, a norm above 1e15.
        """
        ...


class ExactAssigner:
    """Compares each descriptor with every word.

    The word is the one with the least float64 sum of squared differences, added in order of the
    dimensions; the lowest word among equals. A float32 matrix product finds who may be it: each
    word within twice the rounding error of the best (`error_bounds`) is compared in float64.
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
        self._centroids, squared_norms = checked_vectors(centroids, "centroids")
        if len(self._centroids) == 0:
            raise ValueError("a vocabulary has at least 1 word; got 0")
        self._half_norms = (squared_norms / 2).astype(np.float32)
        self._longest = float(np.sqrt(squared_norms.max()))
        self._block_rows = block_rows or int(np.clip((1 << 21) // len(centroids), 64, 4096))

    def assign(self, descriptors: Float32s) -> Assignment:
        """Return the nearest word of each descriptor; see `Assigner.assign`."""
        dimensions = self._centroids.shape[1]
        rows, squared_norms = checked_vectors(descriptors, "descriptors", dimensions)
        windows = 2 * error_bounds(np.sqrt(squared_norms), self._longest, dimensions)
        words = np.empty(len(rows), np.uint32)
        distances = np.empty(len(rows), np.float64)
        room = np.empty((min(len(rows), self._block_rows), len(self._centroids)), np.float32)
        for start in range(0, len(rows), self._block_rows):
            block = slice(start, start + self._block_rows)
            products = room[: len(rows[block])]
            np.matmul(rows[block], self._centroids.T, out=products)
            decide(
                rows[block],
                self._centroids,
                products,
                self._half_norms,
                windows[block],
                words[block],
                distances[block],
            )
        return Assignment(words, distances)


class ApproximateAssigner:
    """Asks a graph over the words for the four nearest, and lets float64 decide among them.

    HNSW (Malkov and Yashunin 2018) as FAISS builds it, on one thread, since the graph depends on
    the order in which words enter. It is built once a round and handed on as bytes. Between kinds
    of processors FAISS may round a distance otherwise, and a graph built twice may differ; read
    from the same bytes it is the same.
    """

    def __init__(self, centroids: Float32s) -> None:
        """Build the graph over the centroids, (K, D) float32.

        Raises:
            ValueError: as `ExactAssigner`.
        """
        import faiss

        self._centroids, _ = checked_vectors(centroids, "centroids")
        if len(self._centroids) == 0:
            raise ValueError("a vocabulary has at least 1 word; got 0")
        self._index: Any = faiss.IndexHNSWFlat(self._centroids.shape[1], LINKS)
        self._index.hnsw.efConstruction = BUILD_BREADTH
        self._index.hnsw.efSearch = SEARCH_BREADTH
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            self._index.add(self._centroids)
        finally:
            faiss.omp_set_num_threads(threads)

    def assign(self, descriptors: Float32s) -> Assignment:
        """Return the word of each descriptor among those proposed; see `Assigner.assign`."""
        rows, _ = checked_vectors(descriptors, "descriptors", self._centroids.shape[1])
        words = np.zeros(len(rows), np.uint32)
        distances = np.empty(len(rows), np.float64)
        if len(rows):
            _, proposals = self._index.search(rows, min(PROPOSALS, len(self._centroids)))
            decide_among(rows, self._centroids, proposals, words, distances)
        return Assignment(words, distances)

    def to_bytes(self) -> bytes:
        """Return the graph and its centroids in FAISS's own format."""
        import faiss

        return bytes(faiss.serialize_index(self._index))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read back what `to_bytes` gave."""
        import faiss

        assigner = cls.__new__(cls)
        index = faiss.deserialize_index(np.frombuffer(data, np.uint8))
        assigner._index = index
        assigner._centroids, _ = checked_vectors(index.reconstruct_n(0, index.ntotal), "centroids")
        return assigner


def choose_assigner(words: int, spec: VocabularySpec) -> AssignerKind:
    """Return which assigner a vocabulary of so many words takes.

    A choice in the spec holds; `auto` is exact up to `EXACT_UP_TO` words.
    """
    if spec.assigner != "auto":
        return spec.assigner
    return "exact" if words <= EXACT_UP_TO else "hnsw"


def make_assigner(kind: AssignerKind, centroids: Float32s) -> Assigner:
    """Return an assigner of that kind over the centroids, (K, D) float32."""
    return ExactAssigner(centroids) if kind == "exact" else ApproximateAssigner(centroids)


def measure_recall(approximate: Assigner, exact: Assigner, descriptors: Float32s) -> float:
    """Return the share of descriptors for which the first found a nearest word; 1.0 for none.

    Words equally near count as found.
    """
    if len(descriptors) == 0:
        return 1.0
    found = approximate.assign(descriptors).squared_distances
    return float(np.mean(found <= exact.assign(descriptors).squared_distances))
