"""Memory of extraction over many pictures: flat, or it grows with what went through.

Real photographs, again and again, seen very small so that 20,000 take minutes: files, decoders,
shards and writers are the same, only the network has less to do. `EXTRACT_PICTURES` gives another
number.
"""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from lamella.cluster.ray.connect import connected
from lamella.cluster.ray.runner import RayRunner
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.corpus.stage import build_corpus
from lamella.pipeline.extract.stage import extract_corpus
from lamella.pipeline.jobs.resolve import resolve_extraction
from lamella.pipeline.run.drive import Progress
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.run.step import Runner
from lamella.pipeline.store.storage import open_store
from lamella.schemas.job import JobConfig
from tests.benchmarks.memory import memory_now
from tests.benchmarks.photographs import CORES, all_photographs
from tests.benchmarks.record import write_json

PICTURES = int(os.environ.get("EXTRACT_PICTURES", "20000"))
SHARDS = 40
SMALL = {"short_edge": 32, "crop": 32}
MOST_GROWTH = 1.1
"""From a tenth of the way, when all is open and warm, to the end."""


@contextmanager
def ray_worker() -> Iterator[Runner]:
    """One worker, which has the end of a shard and the next one in memory."""
    with connected(cpus=CORES), RayRunner(workers=1, cpus_per_worker=CORES) as runner:
        yield runner


@pytest.mark.bench
@pytest.mark.parametrize("where", ["process", "ray"])
def test_memory_does_not_grow_with_pictures(where: str, tmp_path: Path) -> None:
    listed = tmp_path / "pictures.txt"
    repeated = itertools.islice(itertools.cycle(all_photographs()), PICTURES)
    listed.write_text("".join(f"{path}\n" for path in repeated))
    spec, weights = resolve_extraction(JobConfig.model_validate({"network": {"preprocess": SMALL}}))
    store = open_store(str(tmp_path / "store"), create=True)
    limits = DecodeLimits()
    manifest = build_corpus(
        store,
        SerialRunner(),
        list_source(str(listed)),
        "many",
        shard_size=-(-PICTURES // SHARDS),
        limits=limits,
    )
    seen: list[dict[str, int]] = []

    def look(stand: Progress) -> None:
        of = "ray::Worker" if where == "ray" else ""
        seen.append({"pictures": stand.units_done, "bytes": memory_now(of)})

    with ray_worker() if where == "ray" else nullcontext(SerialRunner()) as runner:
        extract_corpus(
            store,
            runner,
            manifest,
            spec,
            lambda: (manifest.root, weights),
            limits=limits,
            threads=CORES,
            on_progress=look,
        )
    start, warm, middle, end = seen[0], seen[len(seen) // 10], seen[len(seen) // 2], seen[-1]
    growth = end["bytes"] / warm["bytes"]
    write_json(
        f"extract-memory-{where}.json",
        {
            "pictures": PICTURES,
            "threads": CORES,
            "before": start,
            "a_tenth": warm,
            "middle": middle,
            "end": end,
            "most_bytes": max(each["bytes"] for each in seen),
            "end_by_a_tenth": round(growth, 4),
        },
    )
    assert growth <= MOST_GROWTH
