"""What an export of drawn pictures costs in each format, and 100 clusters: seconds, bytes, memory.

`EXPORT_PICTURES` (100,000) chooses how many, of 1,280 dimensions and some 60 words each, in
segments of 20,000 whose ids are mixed, as those of real pictures are. Names are made, not read.
"""

import os
import resource
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lamella.pipeline.arrays import Int64s
from lamella.pipeline.bench.segments import HIGH, LOW
from lamella.pipeline.export.clusters import CLUSTER_FILES, train_centres, write_clusters
from lamella.pipeline.export.formats import FORMATS
from lamella.pipeline.export.layers import Vectors, Words
from lamella.pipeline.export.vectors import write_vectors
from lamella.pipeline.export.words import write_words
from lamella.pipeline.index.files import read_bags, read_dense
from lamella.pipeline.planted.scale import ScaleSpec
from tests.benchmarks.corpus import build_segment
from tests.benchmarks.record import write_json

PICTURES = int(os.environ.get("EXPORT_PICTURES", "100000"))
SEGMENT, CLUSTERS = 20_000, 100


def layers() -> tuple[Vectors, Words]:
    """Return the layers of drawn segments, with ids that no order of pictures explains."""
    spec = ScaleSpec(pictures=max(PICTURES, 1_000_000))
    ids = np.random.default_rng(0).choice(2**62, PICTURES, replace=False)
    dense: list[Any] = []
    bags: list[Any] = []
    for first in range(0, PICTURES, SEGMENT):
        stop = min(first + SEGMENT, PICTURES)
        folder = Path(build_segment(spec, first, stop, threads=2).folder)
        mine = np.sort(ids[first:stop])
        _, vectors, norms = read_dense(folder / f"{HIGH}.dense.arrow")
        dense.append((mine, vectors, norms))
        bags.append((mine, read_bags(folder / f"{LOW}.bags.arrow")[1]))
    return Vectors(HIGH, spec.dimensions, dense), Words(LOW, spec.words, bags)


def names_of(ids: Int64s) -> Any:
    return pa.array([f"pictures/{image_id:020d}.jpg" for image_id in ids.tolist()])


def size_of(path: Path) -> int:
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files)


@pytest.mark.bench
def test_exports_of_drawn_pictures(tmp_path: Path) -> None:
    vectors, words = layers()
    found: dict[str, dict[str, float]] = {}

    def measure(name: str, write: Callable[[Path], object]) -> None:
        path, began = tmp_path / name, time.perf_counter()
        write(path)
        seconds, size = time.perf_counter() - began, size_of(path)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        found[name] = {"seconds": seconds, "bytes": size, "peak_bytes": peak}
        print(f"\n{name}: {seconds:.2f} s, {size:,} bytes, peak so far {peak:,} bytes")

    def batches(what: str) -> Iterator[Any]:
        return words.batches()

    measure("words.npz", lambda path: write_words(words, batches, path, unit=False))
    weights = np.ones(words.words)
    measure(
        "weighted.npz", lambda path: write_words(words, batches, path, weights=weights, unit=True)
    )
    for form in sorted(FORMATS, key=lambda name: name == "faiss"):  # which holds its index
        rows = vectors.batches(unit=form == "faiss")
        measure(form, partial(write_vectors, form, vectors, rows, names_of))

    def cluster(path: Path) -> None:
        centres = train_centres(vectors, vectors.batches(unit=True), CLUSTERS, seed=0)
        files = [path.with_name(each) for each in CLUSTER_FILES]
        write_clusters(centres, vectors.batches(), names_of, *files)
        files[0].replace(path)

    measure("clusters", cluster)
    write_json("export.json", {"pictures": PICTURES, "formats": found, "load": os.getloadavg()})
    assert found["npy"]["bytes"] > 4 * 1280 * PICTURES
