"""The engine of a job: it runs tasks and serves segments."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

from lamella.cluster.ray.address import given_address
from lamella.cluster.ray.own_ray import OwnRay
from lamella.pipeline.products import choice
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.run.step import Runner
from lamella.pipeline.search.coordinator import Coordinator, LocalServers, Servers
from lamella.pipeline.search.on_gpu import card_is_here, check_layers, serves_layers
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.store.protocol import Store
from lamella.schemas.job import EngineSettings
from lamella.schemas.query import Weighting
from lamella.schemas.snapshot import IndexSnapshot


@dataclass(frozen=True)
class Engine:
    """A runner of tasks, and how segments are served."""

    runner: Runner
    count_threads: Callable[[], int]
    search_on: Literal["auto", "cpu", "gpu"] = "auto"

    @property
    def threads(self) -> int:
        """The threads of a worker with a network."""
        return self.count_threads()

    @contextmanager
    def coordinator(
        self, store: Store, snapshot: IndexSnapshot, weighting: Weighting
    ) -> Iterator[Coordinator]:
        """Open a snapshot's segments, in shard servers on Ray or in this process."""

        def opened(runner: Runner) -> AbstractContextManager[Servers]:
            return self._servers(runner, store, snapshot, weighting)

        runner = self.runner
        serving = runner.serving(opened) if isinstance(runner, OwnRay) else opened(runner)
        with serving as servers:
            yield Coordinator(servers, snapshot.indexed, snapshot.proposers)

    @contextmanager
    def _servers(
        self, runner: Runner, store: Store, snapshot: IndexSnapshot, weighting: Weighting
    ) -> Iterator[Servers]:
        if isinstance(runner, SerialRunner):
            device = "cuda" if self._on_gpus(snapshot, card_is_here) else "cpu"
            yield LocalServers(SegmentSearcher(store.url, snapshot, None, weighting, device))
            return
        from lamella.cluster.ray.runner import RayRunner
        from lamella.cluster.ray.shard_server import RayServers, gpus_of_cluster

        on_gpus = self._on_gpus(snapshot, lambda: gpus_of_cluster() > 0)
        if on_gpus and isinstance(runner, RayRunner):
            runner.share_gpus()
        with RayServers(store.url, snapshot, weighting=weighting, on_gpus=on_gpus) as servers:
            yield servers

    def _on_gpus(self, snapshot: IndexSnapshot, any_here: Callable[[], bool]) -> bool:
        if self.search_on == "gpu":
            check_layers(snapshot)
            return True
        return self.search_on == "auto" and serves_layers(snapshot) and any_here()


@contextmanager
def engine(settings: EngineSettings, *, quiet: bool = True) -> Iterator[Engine]:
    """Open the engine of a job's settings; a Ray that it starts ends with it.

    A cluster is joined at once. Our own Ray starts with the first task or question, so a job that
    has nothing to do starts none. Where it does not start and the settings name no engine, the job
    runs in this process, which stores the same bytes. This process and those that it starts
    propose by the products that the settings name.

    Args:
        quiet: do not say that Ray starts.
    """
    choice.use(settings.products)
    if settings.kind == "serial":
        runner = SerialRunner()
        yield Engine(runner, lambda: runner.threads, settings.search_on)
        return
    with ExitStack() as stack:
        if not (_is_connected() or given_address(settings.address)):
            own = OwnRay(settings, stack, quiet=quiet)
            yield Engine(own, own.threads_of_networks, settings.search_on)
            return
        from lamella.cluster.ray.capacity import threads_of_networks
        from lamella.cluster.ray.connect import connected
        from lamella.cluster.ray.reports import telling_ray
        from lamella.cluster.ray.runner import RayRunner

        stack.enter_context(connected(settings.address))
        stack.enter_context(telling_ray())
        on_ray = stack.enter_context(RayRunner.of(settings))
        yield Engine(
            on_ray, lambda: settings.cpus_per_worker or threads_of_networks(), settings.search_on
        )


def _is_connected() -> bool:
    """Say whether this process is connected to a Ray; without importing it."""
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()
