"""The frame of a layer: what the proposers of all segments share.

These are the leading axes of the vectors, the range of the numbers on each axis, and the centres of
the cells. Because all segments share them, the cells that a query looks into are found once, and
which pictures are proposed does not depend on how the corpus is cut.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lamella.pipeline.arrays import Float32s, Float64s, Int64s, read_only
from lamella.pipeline.index.sketch import FITTED_ROWS, LEADING, leading_axes, turn_rows, unit_rows
from lamella.pipeline.run.budget import PROCESS_BYTES
from lamella.pipeline.signs import signed
from lamella.pipeline.vocabulary.assign import ExactAssigner
from lamella.pipeline.vocabulary.batches import row_uniforms
from lamella.pipeline.vocabulary.ivf import FIRST_ROUNDS, count_cells, next_cells

MOST_CELLS = 16_384
"""Above 67 million images cells grow instead of their number: each query is compared with all
centres."""

ROWS_A_CELL, MOST_ROWS = 32, 262_144
"""Vectors that cells are fitted to: about so many a cell, and never more, which take 268 MB."""

SEED = 0x4652414D45
"""Of the numbers by which images are drawn."""

Vectors = tuple[Int64s, Float32s, Float64s]
"""Some images: ids (n,), vectors (n, D), and their lengths (n,)."""

Draw = Callable[[float], Iterable[Vectors]]
"""Gives about this share of all images, segment by segment: those that `drawn` keeps."""


@dataclass(frozen=True, eq=False)
class Frame:
    """What the proposers of a layer share.

    Attributes:
        axes: float32 (d, D), nearly orthonormal rows.
        lows, spans: float32 (d,): a number on an axis is coded from low to low + span.
        centres: float32 (C, d), of the cells; (0, d) for graphs, which have none.

    Raises:
        ValueError: the arrays do not fit together, or are not finite.
    """

    axes: Float32s
    lows: Float32s
    spans: Float32s
    centres: Float32s

    def __post_init__(self) -> None:
        for name, ndim in (("axes", 2), ("lows", 1), ("spans", 1), ("centres", 2)):
            array = read_only(getattr(self, name), np.float32, f"{name} of a frame", ndim)
            object.__setattr__(self, name, array)
            if not np.isfinite(array).all():
                raise ValueError(f"{name} of a frame must be finite")
        count = len(self.axes)
        if not count == len(self.lows) == len(self.spans) == self.centres.shape[1]:
            raise ValueError(
                f"a frame has a low, a span and a column of centres an axis; got {count} axes, "
                f"{len(self.lows)}, {len(self.spans)}, {self.centres.shape}"
            )

    @cached_property
    def _columns(self) -> Float32s:
        return np.ascontiguousarray(self.axes.T)

    @cached_property
    def _assigner(self) -> ExactAssigner:
        return ExactAssigner(self.centres)

    def turn(self, units: Float32s) -> Float32s:
        """Return unit vectors (n, D) on the axes, (n, d) float32; the same bits everywhere.

        Raises:
            ValueError: they have other dimensions.
        """
        if units.ndim != 2 or units.shape[1] != self.axes.shape[1]:
            raise ValueError(
                f"vectors of {self.axes.shape[1]} dimensions are turned; got {units.shape}"
            )
        return turn_rows(units, self._columns)

    def cells_of(self, turned: Float32s) -> Int64s:
        """Return the nearest cell of each row on the axes, (n,)."""
        return self._assigner.assign(turned).words.astype(np.int64)

    def cells_near(self, turned: Float32s, count: int) -> Int64s:
        """Return the nearest cells of each row on the axes, (n, count), by rising number."""
        return self._assigner.nearest(turned, count).words.astype(np.int64)


def drawn(image_ids: Int64s, share: float) -> Int64s:
    """Return the rows, rising, of about this share of images; each by its id alone."""
    return np.flatnonzero(row_uniforms(SEED, image_ids, np.zeros_like(image_ids)) < share)


def cells_for(images: int) -> int:
    """Return the number of cells of so many images."""
    return min(count_cells(images), MOST_CELLS)


def sampled_rows(images: int) -> int:
    """Return to about how many of so many images ranges and cells are fitted."""
    return min(images, MOST_ROWS, max(ROWS_A_CELL * cells_for(images), FITTED_ROWS))


def frame_memory(images: int, dimensions: int) -> dict[str, int]:
    """Return the peak bytes of a worker that fits a frame, by what holds them."""
    rows, axes = sampled_rows(images), min(LEADING, dimensions)
    return {
        "process": PROCESS_BYTES,
        "vectors for axes": 3 * 4 * min(images, FITTED_ROWS) * dimensions,
        "sample on axes": 3 * 4 * rows * axes,
        "cells": (4 + 8) * cells_for(images) * axes,
    }


def fit_frame(draw: Draw, images: int, cells: int) -> tuple[Frame, int]:
    """Return a frame, and to how many vectors it was fitted.

    Args:
        draw: reads all images twice, a share each time.
        images: how many there are.
        cells: at most; 0 for graphs.
    """
    vectors, norms = _joined(draw(min(1.0, FITTED_ROWS / max(images, 1))))
    axes = leading_axes(vectors, norms, min(LEADING, vectors.shape[1]))
    columns = np.ascontiguousarray(axes.T)
    share = sampled_rows(images) / max(images, 1)
    parts = [
        (ids, turn_rows(unit_rows(some, lengths), columns), lengths)
        for ids, some, lengths in draw(share)
    ]
    rows, _ = _joined(parts)
    lows, highs = (rows.min(axis=0), rows.max(axis=0)) if len(rows) else (axes[:, 0] * 0,) * 2
    centres = _centres(rows, min(cells, len(rows)))
    return Frame(axes, lows, highs - lows, centres), len(rows)


def _joined(parts: Iterable[Vectors]) -> tuple[Float32s, Float64s]:
    """Return the vectors and lengths of all parts in the order of ids, however they were cut."""
    ids, vectors, norms = zip(*signed(parts), strict=True)
    order = np.argsort(np.concatenate(ids), kind="stable")
    return np.concatenate(vectors)[order], np.concatenate(norms)[order]


def _centres(rows: Float32s, cells: int) -> Float32s:
    """Return the centres of cells, (cells, d), by exact k-means that begins with every n-th row."""
    centres = rows[np.linspace(0, max(len(rows) - 1, 0), cells).astype(np.int64)]
    for _ in signed(range(FIRST_ROUNDS if cells else 0)):
        centres = next_cells(rows, centres).centres
    return centres
