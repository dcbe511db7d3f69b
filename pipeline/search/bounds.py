"""Cheap similarities of dense layers, each with an error that it is certain to keep.

They only propose: what is within reach of the answer is scored again in float64.
"""

import numpy as np
from numpy.typing import NDArray

_UNIT = 2.0**-24
# Outside these norms a float32 product may underflow or overflow, and nothing is promised.
_SMALLEST_NORM, _LARGEST_NORM = 2.0**-60, 2.0**60


def unit_queries(
    queries: NDArray[np.float32], query_norms: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return the queries over their norms, (Q, D) float32; a query of zeros stays zeros."""
    norms = np.where(query_norms > 0.0, query_norms, 1.0)
    return (queries.astype(np.float64) / norms[:, None]).astype(np.float32)


def dense_bounds(
    units: NDArray[np.float32],
    vectors: NDArray[np.float32],
    vector_norms: NDArray[np.float64],
    out: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return similarities by a float32 matrix product, and how far they may be off.

    |fl(x . y) - x . y| <= gamma_n |x| . |y| with gamma_n = n u / (1 - n u), in whatever order
    the n products are added (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed.,
    equation 3.5; u = 2 ** -24); |x| . |y| is at most the product of the norms. Conversion of
    the query, the division by the norm and float64's own errors are each below 2 u: with them,
    gamma of n + 8 (ibid., lemma 3.3).

    Args:
        units: (Q, D) float32 from `unit_queries`.
        vectors: (n, D) float32.
        vector_norms: (n,) float64 of the vectors.
        out: (Q, n) float32 to write the similarities to.

    Returns:
        similarities: (Q, n) float32, in [0, 1].
        errors: (n,) float64 with |similarity - S| <= error; 1 where nothing can be promised.
    """
    near = np.matmul(units, vectors.T, out=out)
    scales = np.zeros(len(vectors), dtype=np.float32)
    safe = (vector_norms >= _SMALLEST_NORM) & (vector_norms <= _LARGEST_NORM)
    np.divide(1.0, vector_norms, out=scales, where=safe, casting="same_kind")
    near *= scales
    np.clip(near, 0.0, 1.0, out=near)
    terms = (vectors.shape[1] + 8) * _UNIT
    errors = np.full(len(vectors), min(terms / (1.0 - terms), 1.0) if terms < 1.0 else 1.0)
    errors[vector_norms == 0.0] = 0.0
    wild = ~safe & (vector_norms > 0.0)
    errors[wild] = 1.0
    near[:, wild] = 0.0
    return near, errors
