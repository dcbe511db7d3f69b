"""Describe pictures by aggregated residuals: the words of descriptors, and what is beside them."""

from dataclasses import dataclass

import numpy as np

from lamella.pipeline.arrays import Float16s, Float32s, Int64s
from lamella.pipeline.index.describe import Described
from lamella.pipeline.index.residuals import Residuals, aggregate
from lamella.pipeline.vocabulary.assign import Assigner
from lamella.pipeline.vocabulary.projection import ProjectingAssigner
from lamella.schemas.vocabulary import EncodingSpec


@dataclass(frozen=True, eq=False)
class DescribedResiduals(Described):
    """Descriptors of some pictures with their words.

    Attributes:
        descriptors: float16 (n, D), as they are compared with words.
    """

    descriptors: Float16s


@dataclass(frozen=True)
class ResidualDescriber:
    """Finds the words of descriptors as an index's encoding asks, and aggregates their residuals.

    Until all are found, memory holds the projected descriptors of the pictures: 2 D bytes each.

    Attributes:
        centroids: float32 (K, D), the words of the assigner.
    """

    assigner: Assigner
    encoding: EncodingSpec
    centroids: Float32s

    def describe(self, owners: Int64s, descriptors: Float32s) -> DescribedResiduals:
        """Return the words of descriptors (n, D) of the pictures `owners` (n,)."""
        inner = self.assigner
        if isinstance(inner, ProjectingAssigner):
            descriptors, inner = inner.projected(descriptors), inner.inner
        near = inner.nearest(descriptors, self.encoding.nearest)
        # Stored and projected descriptors are float16 numbers: this loses nothing.
        halves = descriptors.astype(np.float16)
        return DescribedResiduals(owners, near.words, near.squared_distances, halves)

    def of_images(self, parts: list[Described], image_ids: Int64s) -> Residuals:
        """Return the residuals of images, (n,) rising ids, from all their descriptors."""
        found = [part for part in parts if isinstance(part, DescribedResiduals)]
        nothing = np.empty((0, self.encoding.nearest), np.uint32)
        return aggregate(
            np.concatenate([np.empty(0, np.int64), *(part.owners for part in found)]),
            np.concatenate([nothing, *(part.words for part in found)]),
            np.concatenate(
                [
                    np.empty((0, self.centroids.shape[1]), np.float16),
                    *(part.descriptors for part in found),
                ]
            ),
            self.centroids,
            image_ids,
            self.encoding.residuals,
        )
