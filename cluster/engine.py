"""The engine of a job: where its tasks run, and where its segments are served."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.run.serial import SerialRunner
from pipeline.run.stage import Runner
from pipeline.search.coordinator import Coordinator, LocalServers
from pipeline.search.searcher import SegmentSearcher
from pipeline.store.storage import Store
from schemas.job import EngineSettings
from schemas.query import Weighting
from schemas.snapshot import IndexSnapshot


@dataclass(frozen=True)
class Engine:
    """A runner of tasks, the threads that each of its workers has, and what serves segments."""

    runner: Runner
    threads: int
    on_ray: bool

    @contextmanager
    def coordinator(
        self, store: Store, snapshot: IndexSnapshot, weighting: Weighting
    ) -> Iterator[Coordinator]:
        """Open a snapshot's segments, in shard servers on Ray or in this process."""
        if not self.on_ray:
            searcher = SegmentSearcher(store.url, snapshot, None, weighting)
            yield Coordinator(LocalServers(searcher), snapshot.indexed)
            return
        from cluster.shard_server import RayServers

        with RayServers(store.url, snapshot, weighting=weighting) as servers:
            yield Coordinator(servers, snapshot.indexed)


@contextmanager
def engine(settings: EngineSettings) -> Iterator[Engine]:
    """Open the engine that a job asks for; a Ray that it starts ends with it."""
    if settings.kind == "serial":
        yield Engine(SerialRunner(), len(os.sched_getaffinity(0)), on_ray=False)
        return
    from cluster.connect import connected
    from cluster.runner import RayRunner

    with (
        connected(settings.address),
        RayRunner(
            workers=settings.workers,
            cpus_per_worker=settings.cpus_per_worker,
            task_timeout_s=settings.task_timeout_s,
        ) as runner,
    ):
        yield Engine(runner, settings.cpus_per_worker, on_ray=True)
