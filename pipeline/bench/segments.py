"""Write drawn pictures as segments, to measure search at any size."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.index.bags import BagsOfWords, concatenate
from lamella.pipeline.index.files import (
    read_bags,
    read_dense,
    read_image_ids,
    read_postings,
    read_sketch,
)
from lamella.pipeline.index.postings import document_frequencies
from lamella.pipeline.index.segment_files import members_of, segment_files
from lamella.pipeline.index.weighting import idf
from lamella.pipeline.planted.scale import ScaleSpec, draw_pictures
from lamella.pipeline.search.score import bag_norms
from lamella.pipeline.search.segment import DenseLayer, LocalLayer, SegmentData

HIGH, LOW = "high", "low"
"""The layers of a drawn picture: its vector, its bag of words."""

DRAWN_TOGETHER = 8_192
"""Pictures drawn at a time, into one array, so that nothing is in memory twice."""


def draw_segment(spec: ScaleSpec, first: int, stop: int) -> tuple[NDArray[np.float32], BagsOfWords]:
    """Return vectors (n, D) float32 and bags of pictures first to before stop."""
    vectors = np.empty((stop - first, spec.dimensions), np.float32)
    bags: list[BagsOfWords] = []
    for start in range(first, stop, DRAWN_TOGETHER):
        end = min(start + DRAWN_TOGETHER, stop)
        vectors[start - first : end - first], part = draw_pictures(spec, start, end)
        bags.append(part)
    return vectors, concatenate(bags)


def write_segment_to(
    folder: Path,
    first: int,
    vectors: NDArray[np.float32],
    bags: BagsOfWords,
    words: int,
    threads: int,
) -> int:
    """Write the files of a segment whose ids begin at `first`; return their bytes."""
    ids = np.arange(first, first + len(vectors), dtype=np.int64)
    size = 0
    for file in segment_files(members_of(ids), {HIGH: vectors, LOW: bags}, {LOW: words}, threads):
        path = folder / f"{file.name}.arrow"
        file.write(path)
        size += path.stat().st_size
    return size


def open_segments(folders: Sequence[Path]) -> list[SegmentData]:
    """Map segments, their words weighted as those of one corpus."""
    postings = [read_postings(folder / f"{LOW}.postings.arrow") for folder in folders]
    ids = [read_image_ids(folder / "images.arrow") for folder in folders]
    frequencies = np.sum([document_frequencies(each) for each in postings], axis=0)
    weights = idf(frequencies, sum(map(len, ids)))
    segments = []
    for folder, inverted, image_ids in zip(folders, postings, ids, strict=True):
        _, vectors, norms = read_dense(folder / f"{HIGH}.dense.arrow")
        sketch = read_sketch(folder / f"{HIGH}.sketch.arrow", folder / f"{HIGH}.axes.arrow")
        _, bags = read_bags(folder / f"{LOW}.bags.arrow")
        layers: dict[str, LocalLayer | DenseLayer] = {
            HIGH: DenseLayer(vectors, norms, sketch),
            LOW: LocalLayer(bags, inverted, weights, bag_norms(bags, weights)),
        }
        segments.append(SegmentData(image_ids, layers))
    return segments
