"""Add up how far descriptors lie from their words, as whole numbers for a done record.

Each squared distance is rounded to a whole number of `ERROR_UNIT`, so the sums are exact: batches,
threads and shards do not change them.
"""

import numpy as np

from lamella.pipeline.arrays import Float32s, Float64s
from lamella.pipeline.vocabulary.assign import Assigner, Assignment
from lamella.schemas.files import ERROR, MEASURED

ERROR_UNIT = 1e-6
"""The squared distance that counts as 1; descriptors have unit length, so most are below 2."""

LARGEST_ERROR = 1e5
"""Squared distances beyond count as this, so that sums of 90 million rows fit into 64 bits."""


class MeasuringAssigner:
    """Has another assigner find words, and adds up the squared distances."""

    def __init__(self, inner: Assigner) -> None:
        self._inner = inner
        self._error = self._rows = 0

    def assign(self, descriptors: Float32s) -> Assignment:
        """See `Assigner.assign`."""
        found = self._inner.assign(descriptors)
        self._error += whole_error(found.squared_distances)
        self._rows += len(found.squared_distances)
        return found

    def counts(self, layer: str) -> dict[str, int]:
        """Return what a done record counts of a layer: the summed error, and of how many rows."""
        return {f"{ERROR}{layer}": self._error, f"{MEASURED}{layer}": self._rows}


def whole_error(squared_distances: Float64s) -> int:
    """Return the sum of squared distances (n,), each a whole number of `ERROR_UNIT`.

    >>> whole_error(np.array([0.5, 0.25]))
    750000
    """
    units = np.rint(np.minimum(squared_distances, LARGEST_ERROR) / ERROR_UNIT)
    return int(units.astype(np.int64).sum())
