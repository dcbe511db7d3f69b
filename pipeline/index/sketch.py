"""Sketches: vectors in few bytes, with error bounds, which a search reads before the vectors.

A unit vector is coded twice, with a byte a number: on a few leading axes of its segment, which keep
most of the differences between images, and whole. The distance from codes to vector is stored too,
so a search knows the error of a product with the codes.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float32s, UInt8s, read_only
from lamella.pipeline.compiled import compiled
from lamella.pipeline.vocabulary.eigen import eigenvectors, second_moments

Result = TypeVar("Result")
TOP = np.float32(np.inf)

SMALLEST_STEP = 1e-20
"""Smaller steps are set to 0: the numbers then differ by rounding alone, and one code serves
all."""

LEADING = 256
"""How many leading axes. Over 100,000 drawn pictures, 512 queries at once, 128 left 42 % of the
pairs for a closer bound, 256 left 31 %, 512 left 17 %; 256 were fastest overall."""

FITTED_ROWS = 4_096
"""Rows that the axes are fitted to, evenly spread over the segment."""

SMALLEST_SHARE = 1e-8
"""Eigenvalues below this share of the largest are rounding errors."""

BLOCK_ROWS = 2_048
"""Rows that one thread codes at a time."""

ROUNDING = 1e-6
"""An upper bound of the rounding error of numbers near 1 in float32, here and in stored files."""


@dataclass(frozen=True, eq=False)
class Codes:
    """Rows of numbers, a byte each: row i is lows + codes[i] * steps, at most errors[i] off.

    Attributes:
        lows, steps: float32 (d,).
        codes: uint8 (n, d).
        errors: float32 (n,), Euclidean distances.

    Raises:
        ValueError: the arrays do not fit together.
    """

    lows: Float32s
    steps: Float32s
    codes: UInt8s
    errors: Float32s

    def __post_init__(self) -> None:
        for name, ndim in (("lows", 1), ("steps", 1), ("errors", 1)):
            array = read_only(getattr(self, name), np.float32, f"{name} of codes", ndim)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "codes", read_only(self.codes, np.uint8, "codes", ndim=2))
        if self.codes.shape != (len(self.errors), len(self.lows)) or len(self.lows) != len(
            self.steps
        ):
            raise ValueError(
                f"codes are (n, d) with n errors, d lows and d steps; got {self.codes.shape}, "
                f"{len(self.errors)}, {len(self.lows)}, {len(self.steps)}"
            )
        if not np.isfinite(self.errors).all():
            raise ValueError("errors of codes must be finite")

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.codes)


@dataclass(frozen=True, eq=False)
class Sketch:
    """What a search knows of n vectors x without reading them; u = x / |x|, or 0 where x is 0.

    Attributes:
        axes: float32 (d, D), nearly orthonormal rows.
        leads: codes (n, d) of axes @ u.
        rests: float32 (n,), upper bounds of the length of u off the axes.
        whole: codes (n, D) of u.

    Raises:
        ValueError: the arrays do not fit together.
    """

    axes: Float32s
    leads: Codes
    rests: Float32s
    whole: Codes

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", read_only(self.axes, np.float32, "axes", ndim=2))
        object.__setattr__(self, "rests", read_only(self.rests, np.float32, "rests", ndim=1))
        shapes = (len(self.leads.lows), len(self.whole.lows))
        if self.axes.shape != shapes or not len(self.leads) == len(self.whole) == len(self.rests):
            raise ValueError(
                f"a sketch has axes (d, D) and n rows throughout; got {self.axes.shape} for "
                f"codes of {shapes}, and {len(self.leads)}, {len(self.rests)}, {len(self.whole)}"
            )

    def __len__(self) -> int:
        """The number of vectors."""
        return len(self.whole)

    @cached_property
    def turned(self) -> NDArray[np.float64]:
        """The axes as columns, float64 (D, d)."""
        return np.ascontiguousarray(self.axes.T.astype(np.float64))

    @cached_property
    def skew(self) -> float:
        """How far axes @ axes.T is from the identity, at most (Frobenius)."""
        return skew_of(self.axes)


def sketch_vectors(
    vectors: Float32s, norms: NDArray[np.float64], *, leading: int = LEADING, threads: int = 1
) -> Sketch:
    """Return the sketch of vectors (n, D) float32; the same bytes for any number of threads.

    Args:
        vectors: finite.
        norms: (n,) float64, their lengths.
        leading: axes at most.
        threads: blocks coded at once.
    """
    count, dimensions = vectors.shape
    axes = leading_axes(vectors, norms, min(leading, dimensions))
    turned = np.ascontiguousarray(axes.T)
    blocks = [slice(start, start + BLOCK_ROWS) for start in range(0, count, BLOCK_ROWS)]
    on_axes = np.empty((count, len(axes)), np.float32)
    kept = np.empty(count, np.float64)

    def turn(block: slice) -> tuple[Float32s, Float32s]:
        units = unit_rows(vectors[block], norms[block])
        _turn(units, turned, on_axes[block], kept[block])
        return units.min(axis=0), units.max(axis=0)

    ends = list(_each(turn, blocks, threads))
    ends.append((np.full(dimensions, np.inf, np.float32), np.full(dimensions, -np.inf, np.float32)))
    least = np.min([low for low, _ in ends], axis=0)
    most = np.max([high for _, high in ends], axis=0)
    whole = _Draft(least, most, count)
    leads = _Draft(on_axes.min(axis=0, initial=np.inf), on_axes.max(axis=0, initial=-np.inf), count)

    def write(block: slice) -> None:
        whole.write(block, unit_rows(vectors[block], norms[block]))
        leads.write(block, on_axes[block])

    for _ in _each(write, blocks, threads):
        pass
    # |u - A'Au|^2 = |u|^2 - 2 |Au|^2 + (Au)' AA' (Au), and AA' is at most 1 + skew.
    squares = (norms > 0.0) - kept * (1.0 - skew_of(axes))
    # Rounded to float32, a unit vector is up to 1e-7 longer.
    rests = np.sqrt(np.maximum(squares, 0.0) + ROUNDING)
    return Sketch(axes, leads.codes, np.nextafter(rests.astype(np.float32), TOP), whole.codes)


def leading_axes(vectors: Float32s, norms: NDArray[np.float64], count: int) -> Float32s:
    """Return the axes that keep most of the length of unit vectors, (d, D) float32.

    At least 1, at most `count`, and no more than the vectors span. They are eigenvectors of the
    second moments, not of the covariance: they should keep length, which bounds a product (Cauchy
    and Schwarz). With fewer vectors than dimensions they come from the smaller Gram matrix.
    """
    rows = np.unique(np.linspace(0, max(len(vectors) - 1, 0), FITTED_ROWS).astype(np.int64))
    units = unit_rows(vectors[rows[: len(vectors)]], norms[rows[: len(vectors)]])
    if not units.any():
        return np.eye(1, vectors.shape[1], dtype=np.float32)
    few = len(units) < units.shape[1]
    table = np.ascontiguousarray(units.T) if few else units
    values, axes = eigenvectors(second_moments(table, np.zeros(table.shape[1])))
    kept = min(count, int(np.count_nonzero(values > SMALLEST_SHARE * values[0])))
    axes = axes[:kept]
    if few:
        axes = axes / np.sqrt(values[:kept])[:, None]
        combined = np.empty((kept, units.shape[1]))
        _combine(np.ascontiguousarray(axes), units, combined)
        axes = combined
    return np.ascontiguousarray(axes.astype(np.float32))


def unit_rows(vectors: Float32s, norms: NDArray[np.float64]) -> Float32s:
    """Return vectors over their norms, rounded to float32; a vector of zeros stays zeros."""
    lengths = np.where(norms > 0.0, norms, 1.0)
    units: Float32s = (vectors / lengths[:, None]).astype(np.float32)
    return units


def turn_rows(units: Float32s, columns: Float32s) -> Float32s:
    """Return rows (n, D) on axes that are given as columns (D, d), (n, d) float32.

    Sums are in float64 and in the order of the dimensions: equal bits on every processor.
    """
    on_axes = np.empty((len(units), columns.shape[1]), np.float32)
    _turn(units, columns, on_axes, np.empty(len(units), np.float64))
    return on_axes


def skew_of(axes: Float32s) -> float:
    """Return how far axes @ axes.T is from the identity, at most (Frobenius)."""
    wide = axes.astype(np.float64)
    return float(np.linalg.norm(wide @ wide.T - np.eye(len(axes)))) + 1e-12


class _Draft:
    """Codes in the making, given each number's range."""

    def __init__(self, least: Float32s, most: Float32s, count: int) -> None:
        if count == 0:
            least = most = np.zeros(len(least), np.float32)
        steps = ((most.astype(np.float64) - least) / 255.0).astype(np.float32)
        steps[steps < SMALLEST_STEP] = 0.0
        self._parts = (least, steps)
        self._codes = np.empty((count, len(least)), np.uint8)
        self._errors = np.empty(count, np.float32)

    def write(self, block: slice, rows: Float32s) -> None:
        _write_codes(rows, *self._parts, self._codes[block], self._errors[block])

    @property
    def codes(self) -> Codes:
        return Codes(*self._parts, self._codes, self._errors)


def _each(work: Callable[[slice], Result], blocks: list[slice], threads: int) -> Iterator[Result]:
    if threads == 1:
        yield from map(work, blocks)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(work, blocks)


@compiled
def _combine(factors: NDArray[np.float64], units: Float32s, combined: NDArray[np.float64]) -> None:
    """Write factors @ units, (d, D), each sum in the order of the rows."""
    for axis in range(factors.shape[0]):
        line = combined[axis]
        line[:] = 0.0
        for row in range(units.shape[0]):
            factor, unit = factors[axis, row], units[row]
            for place in range(line.shape[0]):
                line[place] += factor * np.float64(unit[place])


@compiled
def _turn(units: Float32s, turned: Float32s, on_axes: Float32s, kept: NDArray[np.float64]) -> None:
    """Write units @ turned, (m, d), and the squared lengths of these rows (m,).

    Each sum runs in the order of the dimensions; those of a row's axes run side by side.
    """
    dimensions, axes = turned.shape
    whole = dimensions // 4 * 4
    line = np.empty(axes, np.float64)
    for row in range(units.shape[0]):
        line[:] = 0.0
        for place in range(0, whole, 4):
            one, two = np.float64(units[row, place]), np.float64(units[row, place + 1])
            three, four = np.float64(units[row, place + 2]), np.float64(units[row, place + 3])
            first, second = turned[place], turned[place + 1]
            third, fourth = turned[place + 2], turned[place + 3]
            for axis in range(axes):
                line[axis] = (
                    ((line[axis] + one * np.float64(first[axis])) + two * np.float64(second[axis]))
                    + three * np.float64(third[axis])
                ) + four * np.float64(fourth[axis])
        for place in range(whole, dimensions):
            for axis in range(axes):
                line[axis] += np.float64(units[row, place]) * np.float64(turned[place, axis])
        total = 0.0
        for axis in range(axes):
            on_axes[row, axis] = np.float32(line[axis])
            total += line[axis] * line[axis]
        kept[row] = total


@compiled
def _write_codes(
    rows: Float32s, lows: Float32s, steps: Float32s, codes: UInt8s, errors: Float32s
) -> None:
    """Write the nearest codes of rows (m, d), and an upper bound of each row's error."""
    losses = np.empty(rows.shape[1], np.float64)
    scales = np.zeros(rows.shape[1], np.float32)
    for place in range(rows.shape[1]):
        if steps[place] > 0.0:
            scales[place] = np.float32(1.0) / steps[place]
    for row in range(rows.shape[0]):
        for place in range(rows.shape[1]):
            value = np.rint((rows[row, place] - lows[place]) * scales[place])
            value = min(max(value, np.float32(0.0)), np.float32(255.0))
            codes[row, place] = np.uint8(value)
            back = np.float64(lows[place]) + np.float64(value) * np.float64(steps[place])
            losses[place] = (np.float64(rows[row, place]) - back) ** 2
        total = 0.0
        for place in range(rows.shape[1]):
            total += losses[place]
        errors[row] = np.float32(np.sqrt(total) * (1.0 + ROUNDING) + ROUNDING)
