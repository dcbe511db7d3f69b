"""A Ray of our own on this machine, started when there is something for it to do."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from lamella.cluster.ray.starts import OR_SERIAL, NotStarted, NoWorkers
from lamella.pipeline import events
from lamella.pipeline.cores import available_cores
from lamella.pipeline.errors import one_line
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.run.step import Outcome, Runner, Step, TaskT
from lamella.pipeline.search.coordinator import Servers
from lamella.pipeline.text import counted
from lamella.schemas.job import EngineSettings

OpenServers = Callable[[Runner], AbstractContextManager[Servers]]


class OwnRay:
    """A runner that starts a Ray on this machine for the first task or question.

    Args:
        settings: where they name no engine, this process does the work if Ray does not start.
        stack: what Ray ends with.
        quiet: do not say that Ray starts.
    """

    def __init__(self, settings: EngineSettings, stack: ExitStack, *, quiet: bool) -> None:
        self._settings = settings
        self._stack = stack
        self._quiet = quiet
        self._runner: Runner | None = None
        self._waiting: list[_LateServers] = []
        told = {"kind", "address", "workers", "cpus_per_worker"}
        self._may_do_without = not settings.model_fields_set & told

    def run(self, step: Step[TaskT], tasks: Sequence[TaskT]) -> Iterator[Outcome]:
        """Start Ray if there are tasks and it is not there yet; return the tasks' outcomes.

        Raises:
            NotStarted: Ray does not start, and the settings ask for it.
        """
        return self._run(self.started(), step, tasks) if tasks else iter(())

    def _run(self, runner: Runner, step: Step[TaskT], tasks: Sequence[TaskT]) -> Iterator[Outcome]:
        ended = set()
        try:
            for outcome in runner.run(step, tasks):
                ended.add(outcome.key)
                yield outcome
        except NoWorkers as error:
            self._runner = self._instead(error)
            yield from self._runner.run(step, [task for task in tasks if task.key not in ended])

    @property
    def threads(self) -> int:
        """See `Runner`."""
        if isinstance(self._runner, SerialRunner):
            return self._runner.threads
        return self._settings.cpus_per_worker or 1

    def threads_of_networks(self) -> int:
        """Return how many threads a worker has in a stage with a network."""
        from lamella.cluster.ray.capacity import gpus_here, threads_on

        if isinstance(self._runner, SerialRunner):
            return self._runner.threads
        return self._settings.cpus_per_worker or threads_on(available_cores(), gpus_here())

    def memory_per_worker(self) -> int:
        """See `Runner`."""
        if isinstance(self._runner, SerialRunner):
            return self._runner.memory_per_worker()
        from lamella.cluster.ray.capacity import memory_for_workers, workers_for

        workers = workers_for(available_cores(), self.threads, self._settings.workers)
        return memory_for_workers() // workers

    @contextmanager
    def serving(self, open_servers: OpenServers) -> Iterator[Servers]:
        """Open servers inside the block: with Ray, or at once if it runs.

        They come before the first worker, as the two share a GPU.
        """
        with ExitStack() as stack:
            servers = _LateServers(
                lambda: stack.enter_context(open_servers(self.started())),
            )
            if self._runner is None:
                self._waiting.append(servers)
            try:
                yield servers
            finally:
                self._waiting = [each for each in self._waiting if each is not servers]

    def started(self) -> Runner:
        """Return the runner on Ray, or in this process where it need not be Ray; start it first.

        Raises:
            NotStarted: Ray does not start, and the settings ask for it.
        """
        if self._runner is None:
            if not self._quiet:
                cores = counted(available_cores(), "core")
                events.say("ray-starting", f"starting Ray on {cores} of this machine")
            try:
                self._runner = self._start()
            except NotStarted as error:
                self._runner = self._instead(error)
            waiting, self._waiting = self._waiting, []
            for servers in waiting:
                servers.opened()
        return self._runner

    def _start(self) -> Runner:
        try:
            from lamella.cluster.ray.connect import connected
            from lamella.cluster.ray.runner import RayRunner
        except ImportError as error:
            raise NotStarted(
                f"Ray cannot be imported ({one_line(error)})", f"mend that, {OR_SERIAL}"
            ) from error
        self._stack.enter_context(connected())
        return self._stack.enter_context(RayRunner.of(self._settings))

    def _instead(self, error: NotStarted | NoWorkers) -> Runner:
        """Return a runner in this process, and say why; or raise the error."""
        if not self._may_do_without:
            raise error
        events.say(
            "ray-not-started",
            f"lamella: warning: {error.reason}: this process does the work itself, as with "
            "--engine serial",
            logging.WARNING,
        )
        return SerialRunner()


class _LateServers:
    """Servers that are opened when Ray starts or the first question is asked."""

    def __init__(self, open_servers: Callable[[], Servers]) -> None:
        self._open = open_servers
        self._servers: Servers | None = None

    def opened(self) -> Servers:
        if self._servers is None:
            self._servers = self._open()
        return self._servers

    def __len__(self) -> int:
        return len(self.opened())

    def ask(self, question: str, *arguments: Any) -> list[Any]:
        return self.opened().ask(question, *arguments)
