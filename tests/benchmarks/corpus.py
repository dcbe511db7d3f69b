"""A drawn corpus in segments on disk, made once: the first n of its pictures are a corpus too."""

import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.index.bags import BagsOfWords
from pipeline.index.files import read_bags, read_dense, read_postings, read_sketch
from pipeline.index.postings import document_frequencies
from pipeline.index.segment_files import segment_files
from pipeline.index.weighting import idf
from pipeline.planted.scale import ScaleSpec, draw_pictures
from pipeline.search.score import bag_norms
from pipeline.search.segment import DenseLayer, LocalLayer, SegmentData
from pipeline.store.tables import column, map_arrow
from tests.benchmarks.memory import peak_memory

KEPT = Path("build/bench/scale")
DRAWN_TOGETHER = 8_192
HIGH, LOW = "high", "low"


@dataclass(frozen=True)
class Built:
    """A segment on disk, and what it took: drawing its pictures is not in the seconds."""

    folder: str
    pictures: int
    seconds: float
    size_bytes: int
    peak_bytes: int


def build_segment(spec: ScaleSpec, first: int, stop: int, threads: int) -> Built:
    """Return the segment of some pictures, building it if it is not there."""
    folder = KEPT / f"{spec.pictures}-{spec.seed}" / f"{first:08d}-{stop:08d}"
    record = folder / "built.json"
    if record.exists():
        return Built(**json.loads(record.read_text()))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    vectors, bags = _draw(spec, first, stop)
    layers: dict[str, BagsOfWords | NDArray[np.float32]] = {HIGH: vectors, LOW: bags}
    ids = np.arange(first, stop, dtype=np.int64)
    with peak_memory() as peak:
        peak.look()
        start = time.perf_counter()
        for file in segment_files(ids, layers, {LOW: spec.words}, threads):
            file.write(folder / f"{file.name}.arrow")
        seconds = time.perf_counter() - start
    size = sum(path.stat().st_size for path in folder.iterdir())
    built = Built(str(folder), stop - first, seconds, size, peak.size_bytes)
    record.write_text(json.dumps(asdict(built)))
    return built


def open_segments(built: list[Built], words: int) -> list[SegmentData]:
    """Map segments, weighted as one corpus."""
    folders = [Path(each.folder) for each in built]
    postings = [read_postings(folder / f"{LOW}.postings.arrow") for folder in folders]
    frequencies = np.sum([document_frequencies(each) for each in postings], axis=0)
    weights = idf(frequencies, sum(each.pictures for each in built))
    assert len(weights) == words
    segments = []
    for folder, inverted in zip(folders, postings, strict=True):
        _, vectors, norms = read_dense(folder / f"{HIGH}.dense.arrow")
        sketch = read_sketch(folder / f"{HIGH}.sketch.arrow", folder / f"{HIGH}.axes.arrow")
        _, bags = read_bags(folder / f"{LOW}.bags.arrow")
        layers = {
            HIGH: DenseLayer(vectors, norms, sketch),
            LOW: LocalLayer(bags, inverted, weights, bag_norms(bags, weights)),
        }
        ids = column(map_arrow(folder / "images.arrow"), "image_id")
        segments.append(SegmentData(ids, layers))
    return segments


def _draw(spec: ScaleSpec, first: int, stop: int) -> tuple[NDArray[np.float32], BagsOfWords]:
    """Draw part after part into one array: nothing is held twice."""
    vectors = np.empty((stop - first, spec.dimensions), np.float32)
    offsets, words, counts = [np.zeros(1, np.int64)], [], []
    for start in range(first, stop, DRAWN_TOGETHER):
        end = min(start + DRAWN_TOGETHER, stop)
        vectors[start - first : end - first], bags = draw_pictures(spec, start, end)
        offsets.append(bags.offsets[1:] + offsets[-1][-1])
        words.append(bags.words)
        counts.append(bags.counts)
    return vectors, BagsOfWords(
        np.concatenate(offsets), np.concatenate(words), np.concatenate(counts)
    )
