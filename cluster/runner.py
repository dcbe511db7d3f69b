"""The Ray runner: the ledger's decisions, carried out by a pool of actors.

Ray's own retries are off. The pool outlives a stage, so that a job pays for its processes once.
Each actor has one task at a time; a dead actor is replaced, one that overruns its deadline is
killed and replaced, and the ledger counts the attempt either way.
"""

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from cluster.actors import WORKER_BESIDE_SERVER, DeviceCheck, Reply, Worker, check_device
from pipeline.errors import StageFailed
from pipeline.run.ledger import Ledger, describe
from pipeline.run.stage import Outcome, Stage, TaskT

TASK_TIMEOUT_S = 3600.0
START_TIMEOUT_S = 180.0
REPLY_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class _Call:
    """What an actor was sent: a task's key, or None while it starts; and until when it may take."""

    actor: Any
    key: str | None
    deadline: float


class RayRunner:
    """Runs stages on the Ray that this process is connected to.

    Args:
        workers: how many actors at most; by default one a GPU for stages that use GPUs where
            the cluster has some, else one for every `cpus_per_worker` CPUs.
        cpus_per_worker: CPUs that an actor reserves, and threads that it uses.
        task_timeout_s: how long one try at a task may take.
        start_timeout_s: how long a worker may take to stand.
        device_check: what a worker does before it opens a stage.
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        cpus_per_worker: int = 1,
        task_timeout_s: float = TASK_TIMEOUT_S,
        start_timeout_s: float = START_TIMEOUT_S,
        device_check: DeviceCheck = check_device,
    ) -> None:
        self.cpus_per_worker = cpus_per_worker
        self.task_timeout_s = task_timeout_s
        self.start_timeout_s = start_timeout_s
        self._workers = workers
        self._device_check = device_check
        self._idle: list[Any] = []
        self._on_gpus = False
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
        if on_gpus != self._on_gpus:
            self.close()
            self._on_gpus = on_gpus
        ledger = Ledger(tasks)
        # Named anew each run: a worker must not take this stage for one it has open.
        stage_id = uuid.uuid4().hex
        shared_stage = ray.put(stage)
        calls: dict[Any, _Call] = {}
        for _ in range(min(self._pool_size(on_gpus), len(tasks)) - len(self._idle)):
            self._start(calls)
        try:
            while not ledger.finished:
                while self._idle and (task := ledger.start()) is not None:
                    actor = self._idle.pop()
                    reference = actor.apply.remote(stage_id, shared_stage, task)
                    deadline = time.monotonic() + self.task_timeout_s
                    calls[reference] = _Call(actor, task.key, deadline)
                if not calls:
                    raise StageFailed(self._no_workers(stage.name))
                yield from self._wait(ledger, calls)
        finally:
            # A caller that stops early, or a failure: what still runs is ended, not waited for.
            for call in calls.values():
                ray.kill(call.actor)

    def memory_per_worker(self) -> int:
        """Return the bytes of a worker on the node that has the least for each."""
        shares = [
            node["Resources"].get("memory", 0.0)
            / self._pool_size_of(node["Resources"].get("CPU", 1.0), self._workers)
            for node in ray.nodes()
            if node["Alive"] and node["Resources"].get("CPU", 0.0) >= self.cpus_per_worker
        ]
        return int(min(shares, default=0.0))

    def _wait(self, ledger: Ledger[TaskT], calls: dict[Any, _Call]) -> Iterator[Outcome]:
        """Wait for the next reply or deadline; yield the outcomes that follow from it."""
        patience = max(0.0, min(call.deadline for call in calls.values()) - time.monotonic())
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
                        outcome = self._answered(ledger, call, reply)
            if outcome is not None:
                yield outcome

    def _answered(self, ledger: Ledger[TaskT], call: _Call, reply: Any) -> Outcome | None:
        if call.key is None or not isinstance(reply, Reply):
            return None
        if reply.record is not None:
            return ledger.succeed(call.key, reply.record)
        return ledger.fail(call.key, reply.error, retry=reply.retry)

    def _lost(
        self, ledger: Ledger[TaskT], call: _Call, why: str, calls: dict[Any, _Call]
    ) -> Outcome | None:
        """Account for a worker that is gone; replace it unless it never stood."""
        if call.key is None:
            return None
        outcome = ledger.fail(call.key, why, retry=True)
        if not ledger.finished:
            self._start(calls)
        return outcome

    def _start(self, calls: dict[Any, _Call]) -> None:
        actor = (
            ray.remote(Worker)
            .options(
                num_cpus=self.cpus_per_worker,
                num_gpus=self._gpus_per_worker if self._on_gpus else 0,
                max_restarts=0,
                max_task_retries=0,
            )
            .remote(self.cpus_per_worker, self._device_check)
        )
        deadline = time.monotonic() + self.start_timeout_s
        calls[actor.ready.remote()] = _Call(actor, None, deadline)

    def _pool_size_of(self, cpus: float, most: int | None) -> int:
        """Return how many workers stand where there are so many CPUs."""
        fit = max(1, int(cpus) // self.cpus_per_worker)
        return min(fit, most or fit)

    def _pool_size(self, on_gpus: bool) -> int:
        resources = ray.cluster_resources()
        if on_gpus:
            most = int(resources.get("GPU", 0))
        else:
            most = int(resources.get("CPU", 1)) // self.cpus_per_worker
        return max(1, min(most, self._workers or most))

    def _no_workers(self, name: str) -> str:
        resources = ray.cluster_resources()
        return (
            f"{name}: no worker started in {self.start_timeout_s:g} s; a worker needs "
            f"{self.cpus_per_worker} CPU{' and 1 GPU' if self._on_gpus else ''}, the cluster has "
            f"{resources.get('CPU', 0):g} CPU and {resources.get('GPU', 0):g} GPU: free some and "
            "run the same command again"
        )


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:120]
