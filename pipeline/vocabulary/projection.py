"""PCA of descriptors, with optional whitening; fitted once, then applied row by row.

Every sum has one order, in compiled loops: neither threads nor neighbouring rows change a bit.
Projected rows have unit length and are rounded to float16, like descriptors, so their sums are
exact too.
"""

from dataclasses import dataclass
from math import fsum, isfinite
from pathlib import Path

import numpy as np
import pyarrow as pa

from lamella.pipeline.arrays import Float16s, Float32s, Float64s, UInt16s
from lamella.pipeline.compiled import compiled
from lamella.pipeline.errors import InputError
from lamella.pipeline.store.tables import (
    column,
    map_arrow,
    of,
    vectors_column,
    vectors_of,
    vectors_of_type,
    write_arrow,
)
from lamella.pipeline.vocabulary.assign import Assigner, Assignment, Nearest
from lamella.pipeline.vocabulary.compare import LARGEST_NORM, checked_vectors, squared_norms_of
from lamella.pipeline.vocabulary.eigen import eigenvectors, second_moments
from lamella.pipeline.vocabulary.ivf_kernels import squared_norms_of_bits, widen
from lamella.pipeline.vocabulary.partial import LONGEST_TRAINED, add_rows
from lamella.schemas.vocabulary import ProjectionSpec

BLOCK_ROWS = 4_096
"""Rows centred or multiplied at a time."""

WHITENING_FLOOR = 1e-6
"""Share of the largest eigenvalue added to each, so that whitening does not amplify noise; what is
below it counts as none."""

MOST_DIMENSIONS = 256
"""The dimensions of a projection that names none, at most."""


@dataclass(frozen=True)
class Projection:
    """A change of axes: (descriptor - mean) times matrix.

    Attributes:
        mean: float64 (D,).
        matrix: float64 (D, d), a component a column, by falling variance; divided by its standard
            deviation if whitening.
        explained: the share of the variance that the components keep.

    Raises:
        ValueError: other shapes or dtypes, more components than dimensions, a number that is not
            finite, or a share outside 0 to 1.
    """

    mean: Float64s
    matrix: Float64s
    explained: float

    def __post_init__(self) -> None:
        if self.mean.dtype != np.float64 or self.matrix.dtype != np.float64:
            raise ValueError(
                f"a projection is float64; got {self.mean.dtype} and {self.matrix.dtype}"
            )
        if self.matrix.ndim != 2 or self.mean.shape != self.matrix.shape[:1]:
            raise ValueError(
                f"a projection has a mean (D,) and a matrix (D, d); got {self.mean.shape} and "
                f"{self.matrix.shape}"
            )
        if not 1 <= self.matrix.shape[1] <= len(self.matrix):
            raise ValueError(
                f"a projection has from 1 to {len(self.matrix):,} components, one a dimension at "
                f"most; got {self.matrix.shape[1]:,}"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.matrix).all()):
            raise ValueError("a projection is of finite numbers; one of these is not")
        if not (isfinite(self.explained) and 0 <= self.explained <= 1):
            raise ValueError(f"the variance explained is from 0 to 1; got {self.explained}")

    @property
    def descriptor_dimensions(self) -> int:
        """Dimensions of the input."""
        return int(self.matrix.shape[0])

    @property
    def dimensions(self) -> int:
        """Dimensions of the output."""
        return int(self.matrix.shape[1])


def fit_projection(descriptors: Float32s, spec: ProjectionSpec) -> Projection:
    """Return the components of most variance of some descriptors, (n, D) float32.

    A component's largest entry, the first of equals, is positive; components of equal variance
    are in no particular order, but always in the same one.

    Raises:
        InputError: more dimensions than the descriptors have, or than n - 1, or, to whiten, than
            they span; or all descriptors are equal and dimensions are asked for.
        ValueError: another shape or dtype, or a number that is not finite.
    """
    rows, _ = checked_vectors(descriptors, "descriptors")
    count, dimensions = rows.shape
    most = min(dimensions, count - 1)
    if spec.dimensions is not None and spec.dimensions > most:
        cure = f"ask for {most:,} at most" if most > 0 else "leave the projection out"
        raise InputError(
            f"a projection has at most the dimensions of the descriptors, and one fewer than "
            f"there are descriptors; {spec.dimensions:,} are asked for, and there are "
            f"{count:,} descriptors of {dimensions:,}: {cure} (vocabulary.projection), or index "
            "more pictures"
        )
    sums = np.zeros((1, dimensions), np.float64)
    add_rows(sums, np.zeros(count, np.uint32), rows)
    mean = sums[0] / count
    variances, components = eigenvectors(second_moments(rows, mean) / max(count - 1, 1))
    total = fsum(variances)
    rank = int(np.count_nonzero(variances > WHITENING_FLOOR * variances[0])) if total > 0 else 0
    kept = spec.dimensions or max(1, min(rank, most, MOST_DIMENSIONS))
    if total <= 0 and spec.dimensions is not None:
        raise InputError(
            f"a projection needs descriptors that differ; all {count:,} are the same: leave it "
            "out (vocabulary.projection)"
        )
    if spec.whiten and spec.dimensions is not None and kept > rank:
        raise InputError(
            f"descriptors are whitened in the dimensions that they span; {kept:,} are asked for, "
            f"and {count:,} descriptors of {dimensions:,} dimensions span {rank:,} (the rank of "
            f"their covariance): ask for {rank:,} at most (vocabulary.projection)"
        )
    matrix = components[:kept]
    largest = np.abs(matrix).argmax(axis=1)
    matrix *= np.sign(matrix[np.arange(len(matrix)), largest])[:, None]
    if spec.whiten:
        floored = variances[:kept] + WHITENING_FLOOR * variances[0]
        matrix /= np.sqrt(np.where(floored > 0, floored, 1.0))[:, None]
    explained = min(1.0, fsum(variances[:kept]) / total) if total > 0 else 1.0
    return Projection(mean, np.ascontiguousarray(matrix.T), explained)


def project(projection: Projection, descriptors: UInt16s | Float32s) -> Float16s:
    """Return descriptors on the projection's axes, (n, d) float16, of unit length before rounding.

    Each row is projected by itself. A row equal to the mean has no direction and becomes zeros; one
    that is nearly equal gets a direction that means little.

    Args:
        descriptors: (n, D), the bits of float16 numbers as uint16, or float32.

    Raises:
        ValueError: another shape or dtype, a number that is not finite, or a descriptor too long.
    """
    if descriptors.dtype not in (np.uint16, np.float32):
        raise ValueError(
            f"what is projected is float32, or the bits of float16 as uint16; got "
            f"{descriptors.dtype}"
        )
    if descriptors.ndim != 2 or descriptors.shape[1] != projection.descriptor_dimensions:
        raise ValueError(
            f"what is projected has the {projection.descriptor_dimensions:,} dimensions of the "
            f"projection; got shape {descriptors.shape}"
        )
    matrix = np.ascontiguousarray(projection.matrix)
    projected = np.empty((len(descriptors), projection.dimensions), np.float16)
    room = np.empty((min(BLOCK_ROWS, len(descriptors)), projection.dimensions), np.float64)
    for start in range(0, len(descriptors), BLOCK_ROWS):
        rows = _as_float32(descriptors[start : start + BLOCK_ROWS], start)
        products = room[: len(rows)]
        _multiply(rows, projection.mean, matrix, products)
        projected[start : start + BLOCK_ROWS] = products
    return projected


def _as_float32(descriptors: UInt16s | Float32s, first_row: int) -> Float32s:
    """Return rows, or their bits, as float32, after checking every number."""
    if descriptors.dtype == np.float32:
        rows = np.ascontiguousarray(descriptors).view(np.float32)
        squared_norms, longest = squared_norms_of(rows), LARGEST_NORM
    else:
        bits = np.ascontiguousarray(descriptors).view(np.uint16)
        squared_norms, longest = squared_norms_of_bits(bits), LONGEST_TRAINED
        rows = widen(bits, np.arange(len(bits)))
    bad = np.flatnonzero(~(squared_norms <= longest**2))
    if len(bad):
        raise ValueError(
            f"descriptors are finite and at most {longest:g} long; row {first_row + int(bad[0]):,} "
            "is not"
        )
    return rows


@compiled
def _multiply(rows: Float32s, mean: Float64s, matrix: Float64s, products: Float64s) -> None:
    """Write (x - mean) matrix of each row x, divided by its length, (n, d).

    Each sum runs in the order of the dimensions; those of a row's components run side by side.
    """
    dimensions = matrix.shape[0]
    whole = dimensions // 4 * 4
    centred = np.empty(dimensions, np.float64)
    for row in range(rows.shape[0]):
        line = products[row]
        for axis in range(dimensions):
            centred[axis] = np.float64(rows[row, axis]) - mean[axis]
        line[:] = 0.0
        for axis in range(0, whole, 4):
            one, two, three, four = centred[axis : axis + 4]
            first, second, third, fourth = (
                matrix[axis],
                matrix[axis + 1],
                matrix[axis + 2],
                matrix[axis + 3],
            )
            for place in range(line.shape[0]):
                line[place] = (
                    ((line[place] + one * first[place]) + two * second[place])
                    + three * third[place]
                ) + four * fourth[place]
        for axis in range(whole, dimensions):
            for place in range(line.shape[0]):
                line[place] += centred[axis] * matrix[axis, place]
        squared = 0.0
        for place in range(line.shape[0]):
            squared += line[place] * line[place]
        if squared > 0.0:
            length = np.sqrt(squared)
            for place in range(line.shape[0]):
                line[place] /= length


class ProjectingAssigner:
    """Projects descriptors, and has another assigner find their words."""

    def __init__(self, projection: Projection, inner: Assigner) -> None:
        """Take a projection, and an assigner of its `dimensions`."""
        self._projection = projection
        self.inner = inner

    def assign(self, descriptors: Float32s) -> Assignment:
        """Return the word of each descriptor (n, D); distances are between projected rows."""
        return self.inner.assign(self.projected(descriptors))

    def nearest(self, descriptors: Float32s, count: int) -> Nearest:
        """Return the nearest words of each descriptor; distances are between projected rows."""
        return self.inner.nearest(self.projected(descriptors), count)

    def projected(self, descriptors: Float32s) -> Float32s:
        """Return descriptors (n, D) as words are compared with them, (n, d)."""
        halves = project(self._projection, descriptors).view(np.uint16)
        return widen(halves, np.arange(len(halves)))


def write_projection(projection: Projection, path: Path) -> int:
    """Write a projection as an Arrow file, a row a dimension of descriptors; return the rows."""
    table = pa.table(
        {"mean": pa.array(projection.mean), "component": vectors_column(projection.matrix)}
    )
    explained = {"explained": projection.explained.hex()}
    return write_arrow(table.replace_schema_metadata(explained), path)


def read_projection(path: Path) -> Projection:
    """Map a file of a projection.

    Raises:
        ValueError: it holds none.
    """
    table = map_arrow(path, {"mean": of(pa.float64()), "component": vectors_of_type(pa.float64())})
    explained = (table.schema.metadata or {}).get(b"explained")
    if explained is None:
        raise ValueError("a projection says what share of the variance it explains")
    return Projection(
        column(table, "mean"), vectors_of(table, "component"), float.fromhex(explained.decode())
    )
