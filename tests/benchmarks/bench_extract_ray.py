"""Extraction on Ray beside one process on the same cores: what spreading costs, what it gives.

The real stage over the real ledger, 16 shards. Rates are taken from the begin of the first task to
the end of the last, so processes and networks stand already; how long that takes is told apart.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

import pytest

from lamella.cluster.ray.connect import connected
from lamella.cluster.ray.runner import RayRunner
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.corpus.stage import build_corpus
from lamella.pipeline.extract.stage import extract_corpus
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.run.step import Runner
from lamella.pipeline.store.storage import open_store
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.extraction import ExtractionSpec
from tests.benchmarks.clocked import ClockedRunner, Times
from tests.benchmarks.photographs import CORES, NETWORKS, photographs
from tests.benchmarks.record import Measurement, write_json, write_record

SHARDS = 16
PICTURES = int(os.environ.get("EXTRACT_PICTURES", "320"))
REPEATS = int(os.environ.get("EXTRACT_REPEATS", "3"))
LARGE_SHARD = 500
"""The largest shard that is chosen; what a task costs beside its pictures is shared by so many."""


@dataclass(frozen=True)
class World:
    """A store with corpora of the same pictures, and a network to show them to."""

    store: Path
    notes: Path
    spec: ExtractionSpec
    weights: Path

    def corpus(self, pictures: Path, name: str, shard_size: int) -> CorpusManifest:
        store = open_store(str(self.store), create=True)
        return build_corpus(
            store,
            SerialRunner(),
            list_source(str(pictures)),
            name,
            shard_size=shard_size,
            limits=DecodeLimits(),
        )

    def extract(
        self, manifest: CorpusManifest, runner: Runner, threads: int
    ) -> tuple[Times, float, float]:
        """Extract all shards anew; return the tasks' times, the rate, and seconds to the first."""
        shutil.rmtree(self.store / "activations", ignore_errors=True)
        began = time.monotonic()
        extract_corpus(
            open_store(str(self.store)),
            ClockedRunner(runner, str(self.notes)),
            manifest,
            self.spec,
            lambda: (manifest.root, self.weights),
            limits=DecodeLimits(),
            threads=threads,
        )
        times = Times.read(self.notes)
        return times, manifest.images / (times.last - times.first), times.first - began


@contextmanager
def on_cores(count: int) -> Iterator[None]:
    """Keep this thread, and all processes started inside the block, to some cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(before)[:count]))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.bench
def test_extraction_on_ray(tmp_path: Path) -> None:
    if CORES < 2:
        pytest.skip("two workers beside one need two cores")
    spec, weights = NETWORKS["efficientnet_lite0"].spec(tmp_path)
    world = World(tmp_path / "store", tmp_path / "notes", spec, weights)
    world.notes.mkdir()
    pictures = photographs(tmp_path / "pictures", PICTURES)
    manifest = world.corpus(pictures, "whole", -(-PICTURES // SHARDS))
    few = photographs(tmp_path / "few", 32)
    warm, singles = world.corpus(few, "warm", 32), world.corpus(few, "singles", 1)

    def on_ray(workers: int, cpus: int) -> tuple[Times, float, float]:
        with RayRunner(workers=workers, cpus_per_worker=cpus) as runner:
            _, _, standing = world.extract(warm, runner, cpus)
            starts.append(standing)
            return world.extract(manifest, runner, cpus)

    starts: list[float] = []
    rates: dict[str, list[float]] = {"process": [], "worker": [], "workers": [], "core": []}
    idle, gaps, fixed = [], [], []
    world.extract(warm, SerialRunner(), CORES)
    for _ in range(REPEATS):
        rates["process"].append(world.extract(manifest, SerialRunner(), CORES)[1])
        with connected(cpus=CORES):
            rates["worker"].append(on_ray(1, CORES)[1])
            times, rate, _ = on_ray(CORES, 1)
        rates["workers"].append(rate)
        idle.append(times.idle_at_the_end)
        gaps += times.gaps
        with on_cores(1), connected(cpus=1):
            rates["core"].append(on_ray(1, 1)[1])
        one = world.extract(warm, SerialRunner(), 1)[1]
        alone = world.extract(singles, SerialRunner(), 1)[1]
        fixed.append(1 / alone - 1 / one)
    found = {name: median(each) for name, each in rates.items()}
    sizes = {"pictures": PICTURES, "shards": SHARDS, "cores": CORES}
    write_record(
        "extract-ray.json",
        [
            Measurement(
                f"one Ray worker of {CORES} threads",
                sizes,
                found["worker"],
                found["process"],
                f"one process of {CORES} threads",
                "pictures/s",
            ),
            Measurement(
                f"{CORES} Ray workers",
                sizes,
                found["workers"],
                found["process"],
                f"one process of {CORES} threads",
                "pictures/s",
            ),
            Measurement(
                f"{CORES} Ray workers on {CORES} cores",
                sizes,
                found["workers"],
                found["core"],
                "one Ray worker on one core",
                "pictures/s",
            ),
        ],
    )
    task_s = LARGE_SHARD * CORES / found["workers"]
    write_json(
        "extract-ray-scheduling.json",
        {
            "seconds_between_tasks": {
                "mean": mean(gaps),
                "median": median(gaps),
                "most": max(gaps),
            },
            f"between_tasks_at_{LARGE_SHARD}_pictures": mean(gaps) / (mean(gaps) + task_s),
            "seconds_a_task_beside_its_pictures": median(fixed),
            f"beside_pictures_at_{LARGE_SHARD}_pictures": median(fixed) / (median(fixed) + task_s),
            "idle_at_the_end": {
                "shards": SHARDS,
                "workers": CORES,
                "share": median(idle),
                "most": max(idle),
            },
            "seconds_until_a_first_task": median(starts),
            "rates": rates,
        },
    )
