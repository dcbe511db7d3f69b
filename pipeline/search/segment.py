"""The data of a segment, a query batch, and an answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float32s, Float64s, Int64s, UInt32s, read_only
from lamella.pipeline.index.bags import BagsOfWords, select
from lamella.pipeline.index.postings import Postings, fold, invert
from lamella.pipeline.index.residuals import Residuals, by_word
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

    @cached_property
    def folded(self) -> UInt32s | None:
        """The postings as a scan reads them, in memory from the first scan on; see `fold`."""
        return fold(self.postings)

    @cached_property
    def inverse_norms(self) -> Float64s:
        """1 over each norm, (n,) float64; 0 for an empty bag."""
        return inverse_of(self.norms)


@dataclass(frozen=True, eq=False)
class ResidualLayer:
    """Residuals of n images in one layer, in the order of their posting lists.

    Attributes:
        bags: forward, n images.
        postings: the same by word, K words.
        payload: (m, width), as `check_payload` returns them: that of each posting.
        dimensions: of a residual.
        roots: (n,) float32, 1 over the root of an image's number of words; computed.

    Raises:
        ValueError: they are not of the same images and words.
    """

    bags: BagsOfWords
    postings: Postings
    payload: NDArray[Any]
    dimensions: int
    roots: Float32s = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "roots", inverse_roots(np.diff(self.bags.offsets)))
        sizes = (len(self.bags.words), len(self.postings.rows), len(self.payload))
        if len(set(sizes)) != 1:
            raise ValueError(
                f"{sizes[1]} postings and {sizes[2]} residuals for {sizes[0]} words in bags"
            )

    def __len__(self) -> int:
        """The number of images."""
        return len(self.bags)

    def of(self, rows: Int64s) -> Residuals:
        """Return the residuals of some images, in the order named.

        Raises:
            ValueError: the posting lists do not hold a word of one of them.
        """
        bags = select(self.bags, rows)
        row_of = np.repeat(rows, np.diff(bags.offsets))
        lists = self.postings.offsets
        places = np.empty(len(row_of), np.int64)
        for entry, (word, row) in enumerate(zip(bags.words.tolist(), row_of.tolist(), strict=True)):
            held = self.postings.rows[lists[word] : lists[word + 1]]
            place = int(np.searchsorted(held, row))
            if place == len(held) or held[place] != row:
                raise ValueError(f"an image has word {word}, and its posting list lacks it")
            places[entry] = lists[word] + place
        return Residuals(bags, self.payload[places], self.dimensions)


def inverse_of(norms: Float64s) -> Float64s:
    """Return 1 over each norm, (n,) float64; 0 where it is 0."""
    return np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0.0)


def inverse_roots(sizes: Int64s) -> Float32s:
    """Return 1 over the root of each number, 1 for 0, (n,) float32."""
    return (1.0 / np.sqrt(np.maximum(sizes, 1))).astype(np.float32)


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


def residual_layer(residuals: Residuals, words: int) -> ResidualLayer:
    """Return the layer of these residuals, in the posting lists of a vocabulary of `words`."""
    postings = invert(residuals.bags, words)
    return ResidualLayer(residuals.bags, postings, by_word(residuals), residuals.dimensions)


def dense_layer(vectors: NDArray[np.float32]) -> DenseLayer:
    """Return the layer of these vectors, with norms and sketch computed."""
    norms = dense_norms(vectors)
    return DenseLayer(vectors, norms, sketch_vectors(vectors, norms))


Layer = LocalLayer | ResidualLayer | DenseLayer
"""A layer of a segment: bags of words, residuals or vectors."""

Features = BagsOfWords | Residuals | NDArray[np.float32]
"""Some pictures in a layer of one of these kinds."""


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
    layers: Mapping[str, Layer]

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
    """Q queries: for each layer by name, Q bags, Q residuals or a (Q, D) float32 array.

    Raises:
        ValueError: no layer, or layers of different numbers of queries.
    """

    layers: Mapping[str, Features]

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
