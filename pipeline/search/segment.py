"""The data of a segment, a query batch, and an answer."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import read_only
from lamella.pipeline.index.bags import BagsOfWords
from lamella.pipeline.index.postings import Postings, invert
from lamella.pipeline.index.sketch import Sketch, sketch_vectors
from lamella.pipeline.search.score import bag_norms, dense_norms


@dataclass(frozen=True, eq=False)
class LocalLayer:
    """Bags of words of n images in one layer, by image and by word.

    Attributes:
        bags: forward, n images.
        postings: the same by word, K words.
        weights: (K,) float64, those of the snapshot.
        norms: (n,) float64, `bag_norms(bags, weights)`.

    Raises:
        ValueError: they are not of the same images and words.
    """

    bags: BagsOfWords
    postings: Postings
    weights: NDArray[np.float64]
    norms: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name in ("weights", "norms"):
            array = read_only(getattr(self, name), np.float64, name, ndim=1)
            object.__setattr__(self, name, array)
        if len(self.norms) != len(self.bags):
            raise ValueError(f"{len(self.norms)} norms for {len(self.bags)} bags")
        if len(self.weights) != self.postings.words:
            raise ValueError(f"{len(self.weights)} weights for {self.postings.words} words")
        if len(self.postings.rows) != len(self.bags.words):
            raise ValueError(
                f"{len(self.postings.rows)} postings for {len(self.bags.words)} words in bags"
            )

    def __len__(self) -> int:
        """The number of images."""
        return len(self.bags)


@dataclass(frozen=True, eq=False)
class DenseLayer:
    """Vectors of n images in one layer.

    Attributes:
        vectors: (n, D) float32.
        norms: (n,) float64, `dense_norms(vectors)`.
        sketch: of these vectors.

    Raises:
        ValueError: another dtype, shape, or a norm that is not finite.
    """

    vectors: NDArray[np.float32]
    norms: NDArray[np.float64]
    sketch: Sketch

    def __post_init__(self) -> None:
        vectors = read_only(self.vectors, np.float32, "vectors", ndim=2)
        object.__setattr__(self, "vectors", vectors)
        object.__setattr__(self, "norms", read_only(self.norms, np.float64, "norms", ndim=1))
        if len(self.norms) != len(self.vectors):
            raise ValueError(f"{len(self.norms)} norms for {len(self.vectors)} vectors")
        if not np.isfinite(self.norms).all():
            raise ValueError("norms must be finite")
        if len(self.sketch) != len(self.vectors):
            raise ValueError(f"a sketch of {len(self.sketch)} for {len(self.vectors)} vectors")

    def __len__(self) -> int:
        """The number of images."""
        return len(self.vectors)


def local_layer(bags: BagsOfWords, weights: NDArray[np.float64]) -> LocalLayer:
    """Return the layer of these bags, with postings and norms computed."""
    return LocalLayer(bags, invert(bags, len(weights)), weights, bag_norms(bags, weights))


def dense_layer(vectors: NDArray[np.float32]) -> DenseLayer:
    """Return the layer of these vectors, with norms and sketch computed."""
    norms = dense_norms(vectors)
    return DenseLayer(vectors, norms, sketch_vectors(vectors, norms))


@dataclass(frozen=True, eq=False)
class SegmentData:
    """All layers of n images.

    Attributes:
        image_ids: (n,) int64, rising, at least 0.
        layers: by name, each of n images.

    Raises:
        ValueError: ids do not rise, or a layer has another number of images.
    """

    image_ids: NDArray[np.int64]
    layers: Mapping[str, LocalLayer | DenseLayer]

    def __post_init__(self) -> None:
        ids = read_only(self.image_ids, np.int64, "image ids", ndim=1)
        object.__setattr__(self, "image_ids", ids)
        if len(ids) and (ids[0] < 0 or np.any(ids[1:] <= ids[:-1])):
            raise ValueError("image ids of a segment must rise, from 0 or more")
        for name, layer in self.layers.items():
            if len(layer) != len(ids):
                raise ValueError(f"layer {name} has {len(layer)} images, the segment {len(ids)}")

    def __len__(self) -> int:
        """The number of images."""
        return len(self.image_ids)


@dataclass(frozen=True, eq=False)
class QueryBatch:
    """Q queries: for each layer by name, Q bags or a (Q, D) float32 array.

    Raises:
        ValueError: no layer, or layers of different numbers of queries.
    """

    layers: Mapping[str, BagsOfWords | NDArray[np.float32]]

    def __post_init__(self) -> None:
        sizes = {name: len(queries) for name, queries in self.layers.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"every layer of a batch is for the same queries; got {sizes}")

    def __len__(self) -> int:
        """Q, the number of queries."""
        return len(next(iter(self.layers.values())))


@dataclass(frozen=True, eq=False)
class Answer:
    """The k best images of each query, by score, falling, then by image id, rising.

    Attributes:
        image_ids: (Q, k) int64, -1 where there are fewer than k images.
        scores: (Q, k) float64, -inf there.
        similarities: (Q, k, C) float64 in the queried layers, 0 there.
        certified: (Q,) bool: no image left out scores better.

    Raises:
        ValueError: the shapes do not agree.
    """

    image_ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    similarities: NDArray[np.float64]
    certified: NDArray[np.bool_]

    def __post_init__(self) -> None:
        shape = self.image_ids.shape
        fits = (
            len(shape) == 2
            and self.scores.shape == shape
            and self.similarities.ndim == 3
            and self.similarities.shape[:2] == shape
            and self.certified.shape == shape[:1]
        )
        if not fits:
            raise ValueError(
                f"an answer is (Q, k), (Q, k), (Q, k, C) and (Q,); got {shape}, "
                f"{self.scores.shape}, {self.similarities.shape}, {self.certified.shape}"
            )

    def __len__(self) -> int:
        """Q, the number of queries."""
        return len(self.image_ids)
