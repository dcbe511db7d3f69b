"""The engine of a job: it runs tasks and serves segments."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.run.step import Runner
from lamella.pipeline.search.coordinator import Coordinator, LocalServers
from lamella.pipeline.search.on_gpu import card_is_here, check_layers, serves_layers
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.store.protocol import Store
from lamella.schemas.job import EngineSettings
from lamella.schemas.query import Weighting
from lamella.schemas.snapshot import IndexSnapshot


@dataclass(frozen=True)
class Engine:
    """A runner of tasks, the threads of a worker with a network, and how segments are served."""

    runner: Runner
    threads: int
    on_ray: bool
    search_on: Literal["auto", "cpu", "gpu"] = "auto"

    @contextmanager
    def coordinator(
        self, store: Store, snapshot: IndexSnapshot, weighting: Weighting
    ) -> Iterator[Coordinator]:
        """Open a snapshot's segments, in shard servers on Ray or in this process."""
        if not self.on_ray:
            device = "cuda" if self._on_gpus(snapshot, card_is_here) else "cpu"
            searcher = SegmentSearcher(store.url, snapshot, None, weighting, device)
            yield Coordinator(LocalServers(searcher), snapshot.indexed)
            return
        from lamella.cluster.ray.runner import RayRunner
        from lamella.cluster.ray.shard_server import RayServers, gpus_of_cluster

        on_gpus = self._on_gpus(snapshot, lambda: gpus_of_cluster() > 0)
        if on_gpus and isinstance(self.runner, RayRunner):
            self.runner.share_gpus()
        with RayServers(store.url, snapshot, weighting=weighting, on_gpus=on_gpus) as servers:
            yield Coordinator(servers, snapshot.indexed)

    def _on_gpus(self, snapshot: IndexSnapshot, any_here: Callable[[], bool]) -> bool:
        if self.search_on == "gpu":
            check_layers(snapshot)
            return True
        return self.search_on == "auto" and serves_layers(snapshot) and any_here()


@contextmanager
def engine(settings: EngineSettings) -> Iterator[Engine]:
    """Open the engine of a job's settings; a Ray that it starts ends with it."""
    if settings.kind == "serial":
        threads = len(os.sched_getaffinity(0))
        yield Engine(SerialRunner(), threads, on_ray=False, search_on=settings.search_on)
        return
    from lamella.cluster.ray.capacity import threads_of_networks
    from lamella.cluster.ray.connect import connected
    from lamella.cluster.ray.runner import RayRunner

    with (
        connected(settings.address),
        RayRunner(
            workers=settings.workers,
            cpus_per_worker=settings.cpus_per_worker,
            task_timeout_s=settings.task_timeout_s,
        ) as runner,
    ):
        threads = settings.cpus_per_worker or threads_of_networks()
        yield Engine(runner, threads, on_ray=True, search_on=settings.search_on)
