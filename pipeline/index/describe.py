"""Describe pictures by visual words: find the words of descriptors, and count them per picture."""

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float32s, Float64s, Int64s, UInt32s
from lamella.pipeline.index.bags import BagsOfWords, bags_from_words
from lamella.pipeline.index.residuals import Residuals
from lamella.pipeline.vocabulary.assign import Assigner
from lamella.schemas.vocabulary import WEIGHT_SCALE, EncodingSpec


@dataclass(frozen=True, eq=False)
class Described:
    """Descriptors of some pictures, in any order, and their words.

    Attributes:
        owners: int64 (n,), the picture of each.
        words: uint32 (n, m), its m nearest words.
        squared_distances: float64 (n,), to the nearest of them.
    """

    owners: Int64s
    words: UInt32s
    squared_distances: Float64s


Words = TypeVar("Words", BagsOfWords, Residuals, covariant=True)


class Describes(Protocol[Words]):
    """Describes pictures by bags of words, as `Describer`, or by residuals."""

    def describe(self, owners: Int64s, descriptors: Float32s) -> Described:
        """Return the words of descriptors (n, D) of the pictures `owners` (n,)."""
        ...

    def of_images(self, parts: list[Described], image_ids: Int64s) -> Words:
        """Return what describes each image, (n,) rising ids, from all descriptors."""
        ...


@dataclass(frozen=True)
class Describer:
    """Finds the words of descriptors as an index's encoding asks, and counts them."""

    assigner: Assigner
    encoding: EncodingSpec

    def describe(self, owners: Int64s, descriptors: Float32s) -> Described:
        """Return the words of descriptors (n, D) of the pictures `owners` (n,)."""
        found = self.assigner.nearest(descriptors, self.encoding.nearest)
        return Described(owners, found.words, found.squared_distances)

    def of_images(self, parts: list[Described], image_ids: Int64s) -> BagsOfWords:
        """Return one bag an image, (n,) rising ids, of all descriptors; without any, empty bags."""
        owners = np.concatenate([np.empty(0, np.int64), *(part.owners for part in parts)])
        nothing = np.empty((0, self.encoding.nearest), np.uint32)
        words = np.concatenate([nothing, *(part.words for part in parts)])
        return weighed(count_words(owners, words, image_ids), self.encoding.power)


def count_words(owners: Int64s, words: UInt32s, image_ids: NDArray[np.int64]) -> BagsOfWords:
    """Return one bag an image, (n,) rising ids, from each descriptor's image and words (m, c)."""
    order = np.argsort(owners, kind="stable")
    offsets = np.searchsorted(owners[order], np.append(image_ids, np.iinfo(np.int64).max))
    each = words.shape[1]
    return bags_from_words(offsets.astype(np.int64) * each, words[order].reshape(-1))


def weighed(bags: BagsOfWords, power: float) -> BagsOfWords:
    """Return bags whose counts c are the weights c ** power, in steps of 1 / `WEIGHT_SCALE`.

    With a power of 1 they are the counts themselves. The weights stand where counts did, and all
    that uses these sees no difference: a cosine does not change with the scale.
    """
    if power == 1.0:
        return bags
    weights: Float64s = np.rint(WEIGHT_SCALE * bags.counts.astype(np.float64) ** power)
    return BagsOfWords(bags.offsets, bags.words, weights.astype(np.uint32))
