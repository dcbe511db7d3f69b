"""Error bounds of products with codes: what a sketch proves of a dense similarity.

Codes only propose; pairs that may be in the answer are scored again in float64.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float32s
from lamella.pipeline.index.sketch import ROUNDING, Codes, Sketch

_UNIT = 2.0**-24


@dataclass(frozen=True, eq=False)
class Products:
    """Q queries prepared for products with codes: product = codes @ weights + base.

    For a row with error e the true product is within length * e + slack of that.

    Attributes:
        weights: (Q, d) float32.
        bases: (Q,) float32.
        lengths: (Q,) float32, rounded up.
        slacks: (Q,) float32: bounds of the rounding error, for any order of the sum.
    """

    weights: Float32s
    bases: Float32s
    lengths: Float32s
    slacks: Float32s


@dataclass(frozen=True, eq=False)
class AskedSketch:
    """A query batch prepared for a sketch.

    Attributes:
        leads: products with the codes on the leading axes. What lies off the axes may add
            rest_of_query * rest_of_row to their errors.
        rests: (Q,) float32, that of each query.
        whole: products with the codes of the whole vectors.
    """

    leads: Products
    rests: Float32s
    whole: Products


def ask_sketch(
    sketch: Sketch, queries: NDArray[np.float32], query_norms: NDArray[np.float64]
) -> AskedSketch:
    """Return queries (Q, D) with norms (Q,), prepared for a sketch.

    With v a query of unit length, u a vector of unit length and A the axes, v.u = (Av).(Au) up to
    |v - A'Av| |u - A'Au| + skew |Av| |Au|, as A (u - A'Au) = (I - AA') Au.
    """
    norms = np.where(query_norms > 0.0, query_norms, 1.0)
    units = queries / norms[:, None]
    on_axes = units @ sketch.turned
    kept = np.einsum("ij,ij->i", on_axes, on_axes)
    # As for the vectors: |v - A'Av|^2 is at most |v|^2 - (1 - skew) |Av|^2.
    squares = (query_norms > 0.0) - kept * (1.0 - sketch.skew)
    rests = np.sqrt(np.maximum(squares, 0.0) + ROUNDING**2)
    leads = _products(on_axes, sketch.leads, 1.01 * sketch.skew)
    return AskedSketch(leads, _up(rests), _products(units, sketch.whole, 0.0))


def _products(rows: NDArray[np.float64], codes: Codes, more: float) -> Products:
    """Return rows (Q, d) ready for codes, with an error `more` times their length on top.

    A sum of n products in float32 is off by at most gamma_n times the sum of their sizes,
    gamma_n = n u / (1 - n u), in any order (Higham, Accuracy and Stability of Numerical
    Algorithms, 2nd ed., equation 3.5; u = 2 ** -24). By Cauchy and Schwarz that sum is at most the
    length of the row times that of the codes. Eight more terms cover rounding the weights and the
    base, adding it, and what `bound_kernels` adds.
    """
    lengths = np.linalg.norm(rows, axis=1)
    lows = codes.lows.astype(np.float64)
    longest = 1.01 + 2.0 * float(np.linalg.norm(lows)) + float(codes.errors.max(initial=0.0))
    terms = (rows.shape[1] + 8) * _UNIT
    gamma = terms / (1.0 - terms)
    return Products(
        weights=(rows * codes.steps.astype(np.float64)).astype(np.float32),
        bases=(rows @ lows).astype(np.float32),
        lengths=_up(lengths),
        slacks=_up(lengths * (1.01 * gamma * longest + more) + 1e-12),
    )


def _up(values: NDArray[np.float64]) -> Float32s:
    return np.nextafter((values * (1.0 + 1e-9)).astype(np.float32), np.float32(np.inf))
