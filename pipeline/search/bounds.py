"""Error bounds of products with codes: what a sketch proves of a dense similarity.

Codes only propose; pairs that may be in the answer are scored again in float64.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float32s
from lamella.pipeline.index.sketch import ROUNDING, Codes, Sketch
from lamella.pipeline.products.codes import Weights, prepare
from lamella.pipeline.search.pair_products import PairWeights, prepare_pairs
from lamella.schemas.job import ProductKind


@dataclass(frozen=True)
class Cascade:
    """How the sketches of a block are read: the leading axes first, or whole codes at once.

    Attributes:
        kind: of the first products.
        whole: whether they are of whole codes. The bounds are then so close that few rows are left
            to be multiplied again.
    """

    kind: ProductKind = "float32"
    whole: bool = False


LEADS_FIRST = Cascade()
"""What needs no PyTorch."""


Ready = TypeVar("Ready", Weights, PairWeights)


@dataclass(frozen=True, eq=False)
class Products(Generic[Ready]):
    """Q queries prepared for products with codes: product = codes @ weights + base.

    For a row with error e the true product is within length * e + slack of that.

    Attributes:
        bases: (Q,) float32.
        lengths: (Q,) float32, rounded up.
        slacks: (Q,) float32: bounds of the rounding error, for any order of the sum.
        ready: the weights, perhaps rounded to other numbers.
    """

    bases: Float32s
    lengths: Float32s
    slacks: Float32s
    ready: Ready


@dataclass(frozen=True, eq=False)
class AskedSketch:
    """A query batch prepared for a sketch.

    Attributes:
        first: products with codes of all rows, on the leading axes or of the whole vectors. What
            lies off the axes may add rest_of_query * rest_of_row to their errors.
        rests: (Q,) float32, that of each query; 0 for whole vectors.
        whole: products with the codes of whole vectors, of chosen rows.
    """

    first: Products[Weights]
    rests: Float32s
    whole: Products[PairWeights]


def ask_sketch(
    sketch: Sketch,
    queries: NDArray[np.float32],
    query_norms: NDArray[np.float64],
    cascade: Cascade = LEADS_FIRST,
) -> AskedSketch:
    """Return queries (Q, D) with norms (Q,), prepared for a sketch.

    With v a query of unit length, u a vector of unit length and A the axes, v.u = (Av).(Au) up to
    |v - A'Av| |u - A'Au| + skew |Av| |Au|, as A (u - A'Au) = (I - AA') Au.
    """
    norms = np.where(query_norms > 0.0, query_norms, 1.0)
    units = queries / norms[:, None]
    weights = _weights(units, sketch.whole)
    whole = _products(units, sketch.whole, 0.0, prepare_pairs(weights))
    if cascade.whole:
        first = _products(units, sketch.whole, 0.0, prepare(weights, cascade.kind))
        return AskedSketch(first, np.zeros(len(queries), np.float32), whole)
    on_axes = units @ sketch.turned
    kept = np.einsum("ij,ij->i", on_axes, on_axes)
    # As for the vectors: |v - A'Av|^2 is at most |v|^2 - (1 - skew) |Av|^2.
    squares = (query_norms > 0.0) - kept * (1.0 - sketch.skew)
    rests = np.sqrt(np.maximum(squares, 0.0) + ROUNDING**2)
    ready = prepare(_weights(on_axes, sketch.leads), cascade.kind)
    leads = _products(on_axes, sketch.leads, 1.01 * sketch.skew, ready)
    return AskedSketch(leads, _up(rests), whole)


def _weights(rows: NDArray[np.float64], codes: Codes) -> NDArray[np.float64]:
    """Return the weights of rows (Q, d): rows times steps."""
    return rows * codes.steps.astype(np.float64)


def _products(
    rows: NDArray[np.float64], codes: Codes, more: float, ready: Ready
) -> Products[Ready]:
    """Return rows (Q, d) ready for codes, with an error `more` times their length on top.

    Weights are rows times steps. Rounded to other numbers they are the weights of other rows,
    r', and r - r' adds |r - r'| times the length of what is coded to the error, by Cauchy and
    Schwarz. The product itself is off by at most `Weights.relative` times the sum of the sizes of
    its terms, which is at most the length of r' times that of the codes times steps. That counts
    the rounding of the base, adding it, and what `bound_kernels` adds.
    """
    lows, steps = codes.lows.astype(np.float64), codes.steps.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    furthest = float(codes.errors.max(initial=0.0))
    longest = 1.01 + 2.0 * float(np.linalg.norm(lows)) + furthest
    back = np.divide(1.0, steps, out=np.zeros_like(steps), where=steps > 0.0)
    held = np.where(steps > 0.0, ready.held * back, rows)
    lost = np.linalg.norm(rows - held, axis=1) * (1.01 + furthest)
    sizes = np.linalg.norm(held, axis=1)
    return Products(
        bases=(held @ lows).astype(np.float32),
        lengths=_up(lengths),
        slacks=_up(1.01 * sizes * ready.relative * longest + lost + lengths * more + 1e-12),
        ready=ready,
    )


def _up(values: NDArray[np.float64]) -> Float32s:
    return np.nextafter((values * (1.0 + 1e-9)).astype(np.float32), np.float32(np.inf))
