"""The Ray runner: the ledger's decisions, carried out by a pool of actors.

Ray's own retries are off. The pool outlives a stage, so that a job pays for its processes once.
Each actor has one task at a time; a dead actor is replaced, one that overruns its deadline is
killed and replaced, and the ledger counts the attempt either way. When no task waits, a straggler
is begun once more by an actor that is idle: whichever ends first counts, as commits are first come,
first served, and both make the same bytes.
"""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from cluster.actors import WORKER_BESIDE_SERVER, DeviceCheck, Reply, Worker, check_device
from cluster.pace import STRAGGLER_S, Call, Pace
from pipeline.errors import StageFailed
from pipeline.run.ledger import Ledger, describe
from pipeline.run.stage import Outcome, Stage, TaskT, Threaded

TASK_TIMEOUT_S = 3600.0
START_TIMEOUT_S = 180.0
REPLY_TIMEOUT_S = 60.0

MOST_THREADS = 4
"""Threads of a worker in a stage with a network, on CPUs, at most: they wait for each other at the
end of a shard."""


class RayRunner:
    """Runs stages on the Ray that this process is connected to.

    Args:
        workers: how many actors at most; by default one a GPU for stages that use GPUs where
            the cluster has some, else as many as there are CPUs for.
        cpus_per_worker: CPUs that an actor reserves, and threads that it uses; by default one,
            or as many as the stage has threads.
        task_timeout_s: how long one try at a task may take.
        start_timeout_s: how long a worker may take to stand.
        straggler_s: how long a task takes at least before it is begun once more.
        device_check: what a worker does before it opens a stage.
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        cpus_per_worker: int | None = None,
        task_timeout_s: float = TASK_TIMEOUT_S,
        start_timeout_s: float = START_TIMEOUT_S,
        straggler_s: float = STRAGGLER_S,
        device_check: DeviceCheck = check_device,
    ) -> None:
        self.threads = cpus_per_worker or 1
        self.task_timeout_s = task_timeout_s
        self.start_timeout_s = start_timeout_s
        self.straggler_s = straggler_s
        self._workers = workers
        self._device_check = device_check
        self._idle: list[Any] = []
        self._on_gpus = False
        self._cpus = self.threads
        self._gpus_per_worker = 1.0

    def __enter__(self) -> "RayRunner":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the pool's actors."""
        for actor in self._idle:
            ray.kill(actor)
        self._idle = []

    def share_gpus(self) -> None:
        """Leave the larger part of every GPU to shard servers from here on."""
        self.close()
        self._gpus_per_worker = WORKER_BESIDE_SERVER

    def run(self, stage: Stage[TaskT], tasks: Sequence[TaskT]) -> Iterator[Outcome]:
        """Yield each task's outcome as it ends, in the order of ending.

        Raises:
            StageFailed: no worker could be started.
        """
        if not tasks:
            return
        gpus = ray.cluster_resources().get("GPU", 0)
        on_gpus = stage.uses_gpu and gpus >= 1
        cpus = stage.threads if isinstance(stage, Threaded) else self.threads
        if (on_gpus, cpus) != (self._on_gpus, self._cpus):
            self.close()
            self._on_gpus, self._cpus = on_gpus, cpus
        ledger = Ledger(tasks)
        # Named anew each run: a worker must not take this stage for one it has open.
        stage_id = uuid.uuid4().hex
        shared_stage = ray.put(stage)
        calls: dict[Any, Call] = {}
        pace = Pace(self.straggler_s)
        for _ in range(min(self._pool_size(on_gpus), len(tasks)) - len(self._idle)):
            self._start(calls)
        try:
            while not ledger.finished:
                while self._idle and (task := ledger.start() or pace.straggler(ledger, calls)):
                    actor = self._idle.pop()
                    reference = actor.apply.remote(stage_id, shared_stage, task)
                    now = time.monotonic()
                    calls[reference] = Call(actor, task.key, now, now + self.task_timeout_s)
                if not calls:
                    raise StageFailed(self._no_workers(stage.name))
                yield from self._wait(ledger, calls, pace)
        finally:
            # A caller that stops early, or a failure: what still runs is ended, not waited for.
            for call in calls.values():
                ray.kill(call.actor)

    def memory_per_worker(self) -> int:
        """Return the bytes of a worker on the node that has the least for each."""
        shares = [
            node["Resources"].get("memory", 0.0)
            / _pool_size_of(node["Resources"].get("CPU", 1.0), self.threads, self._workers)
            for node in ray.nodes()
            if node["Alive"] and node["Resources"].get("CPU", 0.0) >= self.threads
        ]
        return int(min(shares, default=0.0))

    def _wait(self, ledger: Ledger[TaskT], calls: dict[Any, Call], pace: Pace) -> Iterator[Outcome]:
        """Wait for a reply, a deadline or a straggler; yield the outcomes that follow."""
        until = min(call.deadline for call in calls.values())
        if self._idle:
            until = min(until, pace.next_straggler(calls))
        patience = max(0.0, until - time.monotonic())
        ready, _ = ray.wait(list(calls), num_returns=1, timeout=patience)
        now = time.monotonic()
        late = [reference for reference, call in calls.items() if call.deadline <= now]
        for reference in ready or late:
            call = calls.pop(reference)
            outcome: Outcome | None = None
            if reference not in ready:
                ray.kill(call.actor)
                outcome = self._lost(
                    ledger, call, f"no answer in {self.task_timeout_s:g} s: worker ended", calls
                )
            else:
                try:
                    reply = ray.get(reference, timeout=REPLY_TIMEOUT_S)
                except (RayActorError, GetTimeoutError) as error:
                    ray.kill(call.actor)
                    outcome = self._lost(ledger, call, f"its worker died ({_short(error)})", calls)
                except RayError as error:
                    ray.kill(call.actor)
                    outcome = self._lost(ledger, call, describe(error), calls)
                else:
                    if isinstance(reply, Reply) and reply.useless:
                        ray.kill(call.actor)
                        outcome = self._lost(ledger, call, reply.error, calls)
                    else:
                        self._idle.append(call.actor)
                        outcome = self._answered(ledger, call, reply, calls)
                        if outcome is not None and outcome.record is not None:
                            pace.spent.append(now - call.began)
            if outcome is not None:
                yield outcome

    def _answered(
        self, ledger: Ledger[TaskT], call: Call, reply: Any, calls: dict[Any, Call]
    ) -> Outcome | None:
        if call.key is None or not isinstance(reply, Reply):
            return None
        if reply.record is not None:
            for reference in _other_tries(call, calls):
                ray.kill(calls.pop(reference).actor)
            return ledger.succeed(call.key, reply.record)
        if _other_tries(call, calls):
            return None
        return ledger.fail(call.key, reply.error, retry=reply.retry)

    def _lost(
        self, ledger: Ledger[TaskT], call: Call, why: str, calls: dict[Any, Call]
    ) -> Outcome | None:
        """Account for a worker that is gone; replace it unless it never stood."""
        if call.key is None:
            return None
        if _other_tries(call, calls):
            return None
        outcome = ledger.fail(call.key, why, retry=True)
        if not ledger.finished:
            self._start(calls)
        return outcome

    def _start(self, calls: dict[Any, Call]) -> None:
        actor = (
            ray.remote(Worker)
            .options(
                num_cpus=self._cpus,
                num_gpus=self._gpus_per_worker if self._on_gpus else 0,
                max_restarts=0,
                max_task_retries=0,
            )
            .remote(self._cpus, self._device_check)
        )
        now = time.monotonic()
        calls[actor.ready.remote()] = Call(actor, None, now, now + self.start_timeout_s)

    def _pool_size(self, on_gpus: bool) -> int:
        resources = ray.cluster_resources()
        if not on_gpus:
            return _pool_size_of(resources.get("CPU", 1.0), self._cpus, self._workers)
        most = int(resources.get("GPU", 0))
        return max(1, min(most, self._workers or most))

    def _no_workers(self, name: str) -> str:
        resources = ray.cluster_resources()
        return (
            f"{name}: no worker started in {self.start_timeout_s:g} s; a worker needs "
            f"{self._cpus} CPU{' and 1 GPU' if self._on_gpus else ''}, the cluster has "
            f"{resources.get('CPU', 0):g} CPU and {resources.get('GPU', 0):g} GPU: free some, "
            "or lower engine.cpus_per_worker, and run the same command again"
        )


def threads_of_networks() -> int:
    """Return how many threads a worker has in a stage with a network, on the cluster at hand.

    On GPUs that is all CPUs that a node has for each of its own, as they decode for it. On CPUs a
    few threads share a network: its weights are then in fewer caches, and fewer times in memory.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = [(each.get("CPU", 1.0), each["GPU"]) for each in nodes if each.get("GPU", 0.0) >= 1.0]
    if gpus:
        return max(1, int(min(cpus / of_node for cpus, of_node in gpus)))
    cpus = int(min((each["CPU"] for each in nodes if each.get("CPU", 0.0) >= 1.0), default=1))
    return cpus // -(-cpus // MOST_THREADS)


def _other_tries(call: Call, calls: Mapping[Any, Call]) -> list[Any]:
    """Return the other calls for a task: where there are any, it goes on without this one."""
    return [reference for reference, other in calls.items() if other.key == call.key]


def _pool_size_of(cpus: float, each: int, most: int | None) -> int:
    """Return how many workers stand where there are so many CPUs."""
    fit = max(1, int(cpus) // each)
    return min(fit, most or fit)


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:120]
