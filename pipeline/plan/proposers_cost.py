"""Estimate what the proposers of an index take, from a few vectors and cells as the index has."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from lamella.pipeline.arrays import Float32s
from lamella.pipeline.index.sketch import LEADING, unit_rows
from lamella.pipeline.plan.clock import costing
from lamella.pipeline.plan.sizes import ARROW, ID
from lamella.pipeline.proposers.build import build_proposer, bytes_of_image
from lamella.pipeline.proposers.frame import Frame, cells_for, fit_frame, sampled_rows
from lamella.pipeline.search.score import dense_norms
from lamella.pipeline.search.tune import SAMPLE, cost_of, times_as_far
from lamella.pipeline.vocabulary.ivf import FIRST_ROUNDS
from lamella.schemas.query import ProposerKind

TRIED = 2_048
"""Vectors that are tried: those of the sample, again and again, each moved a little."""

MOVED = 0.75
"""How far a unit vector is moved, about, so that the few of the sample lie as far apart as many: a
graph of near copies takes a third less time than one of other vectors."""

ALIKE = 128
"""An image costs a graph as much time as the binary logarithm of its images over this many: so
builds of 2,048 to 98,304 vectors took, of 128 dimensions within 15 %, of 1,280 within 20 %."""

FARTHEST = 128
"""How many times as far as the first reach those go that take most of the time of tuning. That
depends on the data: where far images are among the best, the whole index is looked at."""

TRIES_OF_IT = 15
"""All reaches that are tried take about as long as the farthest would so many times."""

NS_OF_EXACT = 23.0
"""What an exact answer takes a picture: nanoseconds of a core, as measured over a million."""


def probe_proposers(
    kind: ProposerKind, layers: Mapping[str, Float32s], pictures: float, segment: float
) -> tuple[float, float]:
    """Return the seconds of one thread for a picture, and for the frames in addition.

    Args:
        layers: vectors (n, D) of the sample, by global layer.
        pictures: that will be indexed, which says how many cells there will be.
        segment: pictures of a segment, for an image takes longer in a larger graph.
    """
    a_picture = frames = 0.0
    for vectors in layers.values():
        units = _moved(vectors)
        frame = _frame(units, cells_for(round(pictures)) if kind == "ivf" else 0)
        norms = dense_norms(units)
        build_proposer(kind, frame, units[:64], norms[:64])  # compiles what it needs
        with costing() as turning:
            rows = frame.turn(units)
        with costing() as assigning:
            if len(frame.centres):
                frame.cells_of(rows)
        with costing() as building:
            build_proposer(kind, frame, units, norms)
        own = building.seconds
        if kind == "hnsw":
            linking = max(own - turning.seconds, 0.0)
            own = linking * graph_growth(segment) + turning.seconds
        a_picture += own / TRIED
        fitting = turning.seconds + FIRST_ROUNDS * assigning.seconds
        frames += sampled_rows(round(pictures)) * fitting / TRIED
    return a_picture, frames


def graph_growth(images: float) -> float:
    """Return how much more time an image takes in a graph of so many than in one of `TRIED`."""
    return math.log2(max(images, TRIED) / ALIKE) / math.log2(TRIED / ALIKE)


def tuning_seconds(
    kind: ProposerKind, dimensions: Mapping[str, int], local: int, pictures: float, k: int
) -> float:
    """Return about how many seconds of one thread it takes to measure the reaches of an index.

    Args:
        dimensions: of each global layer.
        local: how many local layers there are.
        k: how many images the answers have that are to be found.
    """
    every = max(round(pictures), 1)
    cells = cells_for(every) if kind == "ivf" else 0
    farthest = cost_of(times_as_far(FARTHEST, k), every, cells, list(dimensions.values()), local)
    asked = min(SAMPLE, every)
    return asked * (NS_OF_EXACT * every + TRIES_OF_IT * farthest) / 1e9


def _moved(vectors: Float32s) -> Float32s:
    rng = np.random.default_rng(0)
    rows = np.resize(unit_rows(vectors, dense_norms(vectors)), (TRIED, vectors.shape[1]))
    far = MOVED / math.sqrt(rows.shape[1])
    rows = (rows + far * rng.standard_normal(rows.shape)).astype(np.float32)
    return unit_rows(rows, dense_norms(rows))


def _frame(units: Float32s, cells: int) -> Frame:
    """Return a frame with centres that are rows, moved a little: fitting them would take longer."""
    ids = np.arange(len(units), dtype=np.int64)
    frame, _ = fit_frame(lambda share: [(ids, units, dense_norms(units))], len(units), 0)
    centres = np.resize(frame.turn(units), (cells, len(frame.axes)))
    far = np.float32(MOVED / math.sqrt(max(len(frame.axes), 1)))
    centres += far * np.random.default_rng(1).standard_normal(centres.shape).astype(np.float32)
    return replace(frame, centres=centres)


def proposer_bytes(
    kind: ProposerKind, images: float, dimensions: int, segments: int
) -> dict[str, float]:
    """Return the bytes of a layer's proposers in all segments, and of its frame."""
    axes = min(LEADING, dimensions, max(round(images) - 1, 1))
    cells = cells_for(round(images)) if kind == "ivf" else 0
    # FAISS writes the sizes of all lists, or the numbers and sizes of those that are not empty.
    lists = min(8 * cells, 16 * images / segments)
    of_segments = images * bytes_of_image(kind, axes) + segments * (lists + 8 * axes + ARROW)
    frame = axes * (4 * dimensions + 8) + 4 * cells * axes + 2 * ARROW
    return {"proposers": of_segments, "frame": frame + ID}
