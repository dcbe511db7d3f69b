"""How far descriptors lie from their words, as whole numbers for a done record.

Each squared distance is rounded to a whole number of `ERROR_UNIT`, so the sums are exact: batches,
threads and shards do not change them.
"""

from collections.abc import Iterable

import numpy as np

from lamella.pipeline.arrays import Float64s
from lamella.schemas.files import ERROR, MEASURED

ERROR_UNIT = 1e-6
"""The squared distance that counts as 1; descriptors have unit length, so most are below 2."""

LARGEST_ERROR = 1e5
"""Squared distances beyond count as this, so that sums of 90 million rows fit into 64 bits."""


def measured_counts(layer: str, squared_distances: Iterable[Float64s]) -> dict[str, int]:
    """Return what a done record counts of a layer: the summed error, and of how many rows.

    Args:
        squared_distances: (n,) of some descriptors each.
    """
    parts = list(squared_distances)
    return {
        f"{ERROR}{layer}": sum(map(whole_error, parts)),
        f"{MEASURED}{layer}": sum(map(len, parts)),
    }


def whole_error(squared_distances: Float64s) -> int:
    """Return the sum of squared distances (n,), each a whole number of `ERROR_UNIT`.

    >>> whole_error(np.array([0.5, 0.25]))
    750000
    """
    units = np.rint(np.minimum(squared_distances, LARGEST_ERROR) / ERROR_UNIT)
    return int(units.astype(np.int64).sum())
