"""Shard servers on Ray: each holds some segments; a lost one is opened again elsewhere, once."""

import time
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import ActorUnschedulableError, GetTimeoutError, RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lamella.cluster.ray import lifeline
from lamella.cluster.ray.actors import SERVER_GPU
from lamella.cluster.ray.reports import Report, Reporting
from lamella.cluster.ray.starts import how_it_died, none_starts
from lamella.cluster.ray.worker_logs import LOOK_S, why_none_starts
from lamella.pipeline.errors import InputError, ShardUnavailable
from lamella.pipeline.products import choice
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.search.shard_assignment import place
from lamella.schemas.query import Weighting
from lamella.schemas.snapshot import IndexSnapshot

ANSWER_TIMEOUT_S = 600.0
ATTEMPTS = 2


class ShardServer:
    """The actor: opens its segments at the first question, so that damage is reported as an answer.

    An error in an actor's constructor would arrive as a death, of which only the text is known.
    """

    def __init__(self, reporting: Reporting, products: choice.Choice, *opening: Any) -> None:
        self._reports = reporting.begun()
        choice.use(products)
        self._opening = opening
        self._searcher: SegmentSearcher | None = None

    def stands(self) -> None:
        """Answer once the process has started; nothing is opened."""

    def ask(self, question: str, *arguments: Any) -> tuple[Any, Report]:
        """Return the searcher's result for these segments, and what there is to say beside."""
        if self._searcher is None:
            self._searcher = SegmentSearcher(*self._opening)
        return getattr(self._searcher, question)(*arguments), self._reports.take()


class RayServers:
    """The shard servers of a snapshot, one actor each; a context manager that ends them.

    Args:
        servers: the most servers; by default one a GPU or CPU, never more than segments.
        on_gpus: whether each server has a GPU propose.

    Raises:
        InputError: GPUs are required, and the cluster has none.
    """

    def __init__(
        self,
        store_url: str,
        snapshot: IndexSnapshot,
        *,
        servers: int | None = None,
        weighting: Weighting | None = None,
        on_gpus: bool = False,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        self._opening = (store_url, snapshot)
        self._weighting = weighting
        self._device = "cuda" if on_gpus else "cpu"
        self._timeout_s = timeout_s
        cpus = int(ray.cluster_resources().get("CPU", 1))
        if on_gpus and not gpus_of_cluster():
            raise InputError(
                f"engine.search_on is gpu and the cluster has {cpus} CPU and 0 GPU: start Ray "
                'where there is one, or set engine.search_on = "cpu"'
            )
        self._answered = False
        self._keys = place(snapshot, servers or (gpus_of_cluster() if on_gpus else cpus))
        # All servers work on a batch at once, so together they use no more threads than CPUs.
        threads = str(max(1, cpus // len(self._keys)))
        names = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        self._environment = dict.fromkeys(names, threads)
        self._actors = [self._start(number) for number in range(len(self._keys))]
        if on_gpus:  # before workers ask for the rest of a GPU
            self._all("stands")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for actor in self._actors:
            lifeline.kill(actor)

    def __len__(self) -> int:
        return len(self._actors)

    def ask(self, question: str, *arguments: Any) -> list[Any]:
        """Return every server's answer, in the order of segments.

        Raises:
            ShardUnavailable: a server did not answer, nor did its replacement.
            EngineLost: Ray can no longer run servers.
            LamellaError: as a server raised it, such as CorruptFile for a segment.
        """
        lifeline.check()
        shared = [ray.put(argument) for argument in arguments]
        answers = self._all("ask", question, *shared)
        for _, report in answers:
            report.hear()
        return [result for result, _ in answers]

    def _all(self, method: str, *arguments: Any) -> list[Any]:
        """Return the result of a method of each server, in the order of segments."""
        calls = [getattr(actor, method).remote(*arguments) for actor in self._actors]
        deadline = time.monotonic() + self._timeout_s
        return [
            self._collect(number, call, deadline, method, *arguments)
            for number, call in enumerate(calls)
        ]

    def _collect(
        self, number: int, call: Any, deadline: float, method: str, *arguments: Any
    ) -> Any:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._answer(call, deadline)
            except RayTaskError as error:
                # The server's own error, without Ray's wrapping.
                raise (error.cause if isinstance(error.cause, Exception) else error) from None
            except (RayActorError, ActorUnschedulableError, GetTimeoutError) as error:
                lifeline.kill(self._actors[number])
                if attempt == ATTEMPTS:
                    keys = ", ".join(self._keys[number])
                    raise ShardUnavailable(
                        f"segments {keys} did not answer, twice ({self._why(error)}): "
                        "the batch is not answered; run the same command again"
                    ) from error
                self._actors[number] = self._start(number)
                deadline = time.monotonic() + self._timeout_s
                call = getattr(self._actors[number], method).remote(*arguments)
        raise AssertionError("unreachable")

    def _answer(self, call: Any, deadline: float) -> Any:
        """Return an answer; until there has been one, look whether any server can start."""
        while not self._answered and deadline - time.monotonic() > LOOK_S:
            if lifeline.wait([call], LOOK_S) is not None:
                break
            if (why := why_none_starts()) is not None:
                raise none_starts(why)
        found = lifeline.get(call, timeout=max(0.1, deadline - time.monotonic()))
        self._answered = True
        return found

    def _why(self, error: Exception) -> str:
        if isinstance(error, GetTimeoutError):
            return f"nothing in {self._timeout_s:g} s"
        return how_it_died(error)

    def _start(self, number: int) -> Any:
        """Start a server on the next node in turn, or with a GPU where Ray has one.

        Ray's own spreading and soft affinity are random for an actor without CPUs.
        """
        nodes = sorted(node["NodeID"] for node in ray.nodes() if node["Alive"])
        if not nodes:
            raise ShardUnavailable(
                "no machine of the Ray cluster is alive, and a shard server needs one: look at "
                "`ray status`, then run the same command again"
            )
        turn = NodeAffinitySchedulingStrategy(nodes[number % len(nodes)], soft=False)
        on_gpus = self._device == "cuda"
        actor = ray.remote(ShardServer).options(
            num_cpus=0,
            num_gpus=SERVER_GPU if on_gpus else 0,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD" if on_gpus else turn,
            runtime_env={"env_vars": self._environment},
        )
        keys = self._keys[number]
        here = Reporting.like_here(), choice.asked()
        return actor.remote(*here, *self._opening, keys, self._weighting, self._device)


def gpus_of_cluster() -> int:
    """Return how many GPUs Ray has."""
    return int(ray.cluster_resources().get("GPU", 0))
