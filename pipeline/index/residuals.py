"""Aggregated residuals: for each word of an image, what its descriptors are beside the word.

The residuals d - c of a word's descriptors are summed and brought to unit length (aggregated
selective match kernels: Tolias, Avrithis and Jegou 2013, section 4).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float32s, Float64s, Int64s, UInt32s, read_only
from lamella.pipeline.compiled import compiled
from lamella.pipeline.index import bags as words_of
from lamella.pipeline.index.bags import BagsOfWords
from lamella.pipeline.vocabulary.ivf_kernels import squared_norms_of_bits

Kind = Literal["float16", "bits"]

UNIT_ERROR = 2e-3
"""The most by which the squared length of a residual in float16 may differ from 1. Rounding changes
a number of at least 2**-14 by at most 2**-11 of itself, and a smaller one by at most 2**-25."""


def width_of(dimensions: int, kind: Kind) -> int:
    """Return how many numbers, or bytes of signs, a residual takes."""
    return dimensions if kind == "float16" else -(-dimensions // 8)


def bytes_of(dimensions: int, kind: Kind) -> int:
    """Return how many bytes a residual takes."""
    return width_of(dimensions, kind) * (2 if kind == "float16" else 1)


def check_payload(payload: NDArray[Any], dimensions: int) -> NDArray[Any]:
    """Return residuals (m, width) as a contiguous array that cannot be written, once checked.

    Searches use them unchecked: the bounds of their products hold for unit lengths.

    Raises:
        ValueError: another dtype or shape, a residual in float16 that has not unit length, or signs
            past the last dimension.
    """
    if payload.dtype not in (np.float16, np.uint8):
        raise ValueError(f"residuals are float16, or signs as uint8; got {payload.dtype}")
    kind: Kind = "float16" if payload.dtype == np.float16 else "bits"
    payload = read_only(payload, payload.dtype.type, "residuals", ndim=2)
    if dimensions < 1 or payload.shape[1] != width_of(dimensions, kind):
        raise ValueError(
            f"a residual of {dimensions} dimensions takes {width_of(dimensions, kind)} values as "
            f"{kind}; got {payload.shape[1]}"
        )
    if kind == "float16":
        wrong = np.abs(squared_norms_of_bits(payload.view(np.uint16)) - 1.0) > UNIT_ERROR
        said = "residuals have unit length"
    else:
        wrong = (payload[:, -1] & ((1 << (-dimensions % 8)) - 1)) != 0
        said = f"signs end at {dimensions} dimensions"
    if wrong.any():
        raise ValueError(f"{said}; that of entry {int(np.argmax(wrong))} does not")
    return payload


@dataclass(frozen=True, eq=False)
class Residuals:
    """The words of n images with a residual each, in the order of the bags' entries.

    Attributes:
        bags: n bags of m entries; a count is the number of descriptors behind a residual. A word
            whose residuals add up to nothing is left out.
        payload: (m, D) float16 of unit length, or (m, ceil(D / 8)) uint8, signs of dimensions 0 to
            7 in the first byte, from its highest bit down: 1 where a residual is not negative.
        dimensions: D.

    Raises:
        ValueError: they do not fit together; see `check_payload`.
    """

    bags: BagsOfWords
    payload: NDArray[Any]
    dimensions: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "payload", check_payload(self.payload, self.dimensions))
        if len(self.payload) != len(self.bags.words):
            raise ValueError(
                f"one residual a word; got {len(self.payload)} for {len(self.bags.words)} words"
            )

    def __len__(self) -> int:
        """The number of images."""
        return len(self.bags)

    @property
    def kind(self) -> Kind:
        """How a residual is stored."""
        return kind_of(self.payload)


def kind_of(payload: NDArray[Any]) -> Kind:
    """Return how residuals are stored, from their dtype."""
    return "float16" if payload.dtype == np.float16 else "bits"


def aggregate(
    owners: Int64s,
    words: UInt32s,
    descriptors: NDArray[Any],
    centroids: Float32s,
    image_ids: Int64s,
    kind: Kind,
) -> Residuals:
    """Return the residuals of images, from each descriptor's image and its word or words.

    Sums and lengths are float64, added in the order of the descriptors and of the dimensions.

    Args:
        owners: (n,) the image of each descriptor.
        words: (n,) or (n, c); with several, a descriptor counts for each of its words.
        descriptors: (n, D) float16 or float32, as they are compared with words.
        centroids: (K, D).
        image_ids: rising; every owner is among them.

    Raises:
        ValueError: shapes do not agree, an owner is not among the images, or a word not among the
            centroids.
    """
    words = words[:, None] if words.ndim == 1 else words
    dimensions = centroids.shape[1]
    if descriptors.shape != (len(owners), dimensions) or len(words) != len(owners):
        raise ValueError(
            f"{len(owners)} descriptors of {dimensions} dimensions are wanted, with their words; "
            f"got {descriptors.shape} and words of {len(words)}"
        )
    if words.size and int(words.max()) >= len(centroids):
        raise ValueError(f"word {words.max()} is named, and there are {len(centroids)} words")
    images = np.searchsorted(image_ids, owners)
    if len(owners) and (images.max() >= len(image_ids) or np.any(image_ids[images] != owners)):
        raise ValueError("a descriptor belongs to none of the images")
    keys = (images.astype(np.uint64)[:, None] << np.uint64(32) | words).reshape(-1)
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=~np.uint64(0)))
    ends = np.append(starts[1:], len(order))
    units = np.zeros((len(starts), dimensions))
    _sum_residuals(
        order // max(words.shape[1], 1),
        starts,
        ends,
        keys[order][starts].astype(np.uint32),
        descriptors.astype(np.float32),
        np.ascontiguousarray(centroids, np.float32),
        units,
    )
    kept = units.any(axis=1)
    keys = keys[order][starts][kept]
    bounds = np.arange(len(image_ids) + 1, dtype=np.uint64) << np.uint64(32)
    bags = BagsOfWords(
        offsets=np.searchsorted(keys, bounds).astype(np.int64),
        words=(keys & np.uint64(0xFFFFFFFF)).astype(np.uint32),
        counts=(ends - starts)[kept].astype(np.uint32),
    )
    return Residuals(bags, _stored(units[kept], kind), dimensions)


def _stored(units: Float64s, kind: Kind) -> NDArray[Any]:
    return units.astype(np.float16) if kind == "float16" else np.packbits(units >= 0.0, axis=1)


@compiled
def _sum_residuals(
    rows: Int64s,
    starts: Int64s,
    ends: Int64s,
    words: UInt32s,
    descriptors: Float32s,
    centroids: Float32s,
    units: Float64s,
) -> None:
    """Write the sum of residuals of each run of rows, divided by its length; zeros stay zeros."""
    for entry in range(len(starts)):
        line, word = units[entry], centroids[words[entry]]
        for place in range(starts[entry], ends[entry]):
            row = descriptors[rows[place]]
            for axis in range(len(line)):
                line[axis] += np.float64(row[axis]) - np.float64(word[axis])
        squared = 0.0
        for axis in range(len(line)):
            squared += line[axis] * line[axis]
        if squared > 0.0:
            length = np.sqrt(squared)
            for axis in range(len(line)):
                line[axis] /= length
        else:
            line[:] = 0.0


def empty_residuals(images: int, dimensions: int, kind: Kind) -> Residuals:
    """Return images without any word."""
    none = np.empty(0, np.uint32)
    dtype = np.float16 if kind == "float16" else np.uint8
    payload = np.empty((0, width_of(dimensions, kind)), dtype)
    return Residuals(BagsOfWords(np.zeros(images + 1, np.int64), none, none), payload, dimensions)


def concatenate(parts: Sequence[Residuals]) -> Residuals:
    """Return the images of all parts, one part after the other.

    Raises:
        ValueError: there is no part, or parts have other dimensions or are stored differently.
    """
    forms = {(part.dimensions, part.kind) for part in parts}
    if len(forms) != 1:
        raise ValueError(f"residuals of one form are joined; got {sorted(forms) or 'none'}")
    return Residuals(
        words_of.concatenate([part.bags for part in parts]),
        np.concatenate([part.payload for part in parts]),
        parts[0].dimensions,
    )


def select(residuals: Residuals, rows: Int64s) -> Residuals:
    """Return the residuals of the given rows, in the given order; a row may be given twice."""
    bags = residuals.bags
    entries = words_of.entries_of(bags.offsets, rows)
    return Residuals(words_of.select(bags, rows), residuals.payload[entries], residuals.dimensions)


def by_word(residuals: Residuals) -> NDArray[Any]:
    """Return the payload in the order of the posting lists of the bags, (m, width)."""
    # Entries are by image, rising, so a stable sort by word is the order of the lists.
    return residuals.payload[np.argsort(residuals.bags.words, kind="stable")]
