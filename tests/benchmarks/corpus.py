"""A drawn corpus in segments on disk, made once: the first n of its pictures are a corpus too."""

import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from lamella.pipeline.bench.segments import draw_segment, write_segment_to
from lamella.pipeline.planted.scale import ScaleSpec
from tests.benchmarks.memory import peak_memory

KEPT = Path("build/bench/scale")


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
    words = f"{spec.words}-{spec.words_per_picture}"
    if spec.dimensions != ScaleSpec.dimensions:
        words += f"-{spec.dimensions}"
    folder = KEPT / f"{spec.pictures}-{spec.seed}-{words}" / f"{first:08d}-{stop:08d}"
    record = folder / "built.json"
    if record.exists():
        return Built(**json.loads(record.read_text()))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    vectors, bags = draw_segment(spec, first, stop)
    with peak_memory() as peak:
        start = time.perf_counter()
        size = write_segment_to(folder, first, vectors, bags, spec.words, threads)
        seconds = time.perf_counter() - start
    built = Built(str(folder), stop - first, seconds, size, peak.size_bytes)
    record.write_text(json.dumps(asdict(built)))
    return built
