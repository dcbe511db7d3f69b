"""The Ray runner: a pool of actors that carries out the ledger's decisions.

Ray's own retries are off. The pool outlives a step, so a job starts its processes once. Each actor
has one task at a time, or also the next one where the step allows it and there are enough for all.
A dead actor is replaced, and so is one whose task shows no progress for too long; the ledger counts
the attempt either way. When no task waits, an idle actor starts a straggler once more: the first to
end counts, as commits are first come, first served, and both make the same bytes.
"""

import math
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray

from lamella.cluster.ray import lifeline
from lamella.cluster.ray.actors import (
    ASIDE,
    WORKER_BESIDE_SERVER,
    DeviceCheck,
    Reply,
    Worker,
    check_device,
)
from lamella.cluster.ray.calls import calls_of, hanging, reply_to, sendable, tries_at
from lamella.cluster.ray.capacity import machines, total, workers_for
from lamella.cluster.ray.reports import Reporting
from lamella.cluster.ray.room import START_TIMEOUT_S, Patience, Room
from lamella.cluster.ray.starts import (
    MEND,
    OR_SERIAL,
    NoWorkers,
    Starts,
    none_starts,
)
from lamella.cluster.ray.stragglers import STRAGGLER_S, Call, Pace
from lamella.cluster.ray.worker_logs import LOOK_S, why_none_starts
from lamella.pipeline import events, meters
from lamella.pipeline.products import choice
from lamella.pipeline.run.ledger import Ledger
from lamella.pipeline.run.step import Outcome, Step, TaskT
from lamella.schemas.job import EngineSettings

TASK_TIMEOUT_S = 3600.0


class RayRunner:
    """Runs steps on the Ray that this process is connected to.

    Args:
        workers: the most actors; by default one a GPU for steps that use GPUs, else as many as
            CPUs allow.
        cpus_per_worker: CPUs that an actor reserves, and threads that it uses; by default one,
            or as many as the step has threads.
        task_timeout_s: how long a task may show no progress.
        start_timeout_s: how long a worker may take to start, and how long a cluster without room
            for any is waited for.
        straggler_s: the least time before a task counts as a straggler.
        device_check: called by a worker before it opens a step.
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
        self._pool: list[Any] = []
        self._full = False
        self._starts = Starts()
        self._on_gpus = False
        self._cpus = self.threads
        self._at_once = 1
        self._gpus_per_worker = 1.0

    @classmethod
    def of(cls, settings: EngineSettings) -> "RayRunner":
        """Return the runner of a job's settings."""
        return cls(
            workers=settings.workers,
            cpus_per_worker=settings.cpus_per_worker,
            task_timeout_s=settings.task_timeout_s,
            start_timeout_s=settings.start_timeout_s,
        )

    def __enter__(self) -> "RayRunner":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the pool's actors."""
        for actor in self._pool:
            lifeline.kill(actor)
        self._pool = []
        self._measure()

    def share_gpus(self) -> None:
        """Leave the larger part of every GPU to shard servers from here on."""
        self.close()
        self._gpus_per_worker = WORKER_BESIDE_SERVER

    def run(self, step: Step[TaskT], tasks: Sequence[TaskT]) -> Iterator[Outcome]:
        """Yield each task's outcome as it ends, in the order of ending.

        Raises:
            NoWorkers: none could be started.
            EngineLost: Ray can no longer run tasks.
        """
        if not tasks:
            return
        on_gpus = step.uses_gpu and total(machines())["GPU"] >= 1
        cpus, at_once = step.threads or self.threads, step.at_once
        if (on_gpus, cpus, at_once) != (self._on_gpus, self._cpus, self._at_once):
            self.close()
            self._on_gpus, self._cpus, self._at_once = on_gpus, cpus, at_once
        ledger = Ledger(tasks, stage=step.stage)
        # A new name each run, so that a worker does not mistake this step for its open one.
        step_id = uuid.uuid4().hex
        lifeline.check()
        shared_step = sendable(step)
        calls: dict[Any, Call] = {}
        pace = Pace(self.straggler_s)
        self._starts = Starts()
        self._full = False
        self._room = Room(self._cpus, on_gpus, self._workers)
        self._patience = Patience(self._room, self.start_timeout_s)
        try:
            while not ledger.finished:
                self._grow(ledger, calls)
                while (found := self._next(ledger, calls, pace)) is not None:
                    actor, task = found
                    reference = actor.apply.remote(step_id, shared_step, task)
                    calls[reference] = Call(actor, task.key)
                    self._clock(actor, calls)
                if not calls:
                    raise self._no_workers(step.name)
                yield from self._wait(ledger, calls, pace)
        finally:
            # After an early stop or a failure, running tasks are ended, not waited for.
            for actor in {call.actor for call in calls.values()}:
                self._end(actor, calls)

    def memory_per_worker(self) -> int:
        """Return the memory of a worker on the node that has the least a worker."""
        shares = [
            each.total.get("memory", 0.0)
            / workers_for(each.total["CPU"], self.threads, self._workers)
            for each in machines()
            if each.total.get("CPU", 0.0) >= self.threads
        ]
        return int(min(shares, default=0.0))

    def _grow(self, ledger: Ledger[TaskT], calls: dict[Any, Call]) -> None:
        """Ask for more workers, if there are tasks and places for them."""
        busy = {call.actor for call in calls.values()}
        coming = sum(call.key is None for call in calls.values())
        waiting = ledger.waiting - len({*self._pool} - busy)
        lacking = self._room.lacking(len(self._pool), coming, waiting)
        if lacking > 0 and not self._full and self._starts.may_try(self._room.places()):
            for _ in range(lacking):
                self._start(calls)

    def _next(
        self, ledger: Ledger[TaskT], calls: Mapping[Any, Call], pace: Pace
    ) -> tuple[Any, TaskT] | None:
        """Return an actor with room and a task for it, if there are both."""
        has = Counter(call.actor for call in calls.values())
        actor = min(self._pool, key=has.__getitem__, default=None)
        if actor is None or has[actor] >= self._at_once:
            return None
        task: TaskT | None = None
        if not has[actor]:
            task = ledger.start() or pace.straggler(ledger, calls)
        elif ledger.waiting >= len(has.keys() | self._pool):
            # Not near the end: other actors cannot take a task that waits in this one.
            task = ledger.start_beside()
        return None if task is None else (actor, task)

    def _clock(self, actor: Any, calls: dict[Any, Call]) -> None:
        """Start the clock of an actor's first call, if it does not run yet."""
        first = next(iter(calls_of(actor, calls)), None)
        if first is not None and calls[first].began == math.inf:
            now = time.monotonic()
            calls[first] = replace(calls[first], began=now, deadline=now + self.task_timeout_s)

    def _wait(self, ledger: Ledger[TaskT], calls: dict[Any, Call], pace: Pace) -> Iterator[Outcome]:
        """Wait for a reply, a deadline or a straggler; yield the outcomes that follow."""
        until = min(call.deadline for call in calls.values())
        if {*self._pool} - {call.actor for call in calls.values()}:
            until = min(until, pace.next_straggler(calls))
        if none_yet := all(call.key is None for call in calls.values()) and not self._pool:
            until = min(until, time.monotonic() + LOOK_S)
        ready = lifeline.wait(list(calls), until - time.monotonic())
        if ready is not None:
            yield from self._hear(ready, ledger, calls, pace)
            return
        if none_yet:
            if (why := why_none_starts()) is not None:
                raise none_starts(why)
            self._patience.tell()
        self._renew(calls)
        for actor in hanging(calls, self.task_timeout_s):
            why = f"no sign of progress in {self.task_timeout_s:g} s: worker ended"
            if actor not in self._pool:
                why = f"it did not start in {self.start_timeout_s:g} s"
            yield from self._lose(actor, why, ledger, calls)

    def _renew(self, calls: dict[Any, Call]) -> None:
        """Let workers that are asked for wait for room as long as there are others."""
        if self._pool:
            self._give_time([reference for reference, call in calls.items() if not call.key], calls)

    def _give_time(self, references: Iterable[Any], calls: dict[Any, Call]) -> None:
        deadline = time.monotonic() + self.start_timeout_s
        for reference in references:
            calls[reference] = replace(calls[reference], deadline=deadline)

    def _hear(
        self, reference: Any, ledger: Ledger[TaskT], calls: dict[Any, Call], pace: Pace
    ) -> Iterator[Outcome]:
        """Handle a reply, or the reason why there is none; yield the outcomes that follow."""
        call = calls[reference]
        reply, why_lost, vanished = reply_to(reference)
        if isinstance(reply, Reply):
            reply.report.hear()
        if why_lost is not None:
            yield from self._lose(call.actor, why_lost, ledger, calls, vanished=vanished)
            return
        del calls[reference]
        self._clock(call.actor, calls)
        if call.key is None or not isinstance(reply, Reply):
            if not self._pool:
                self._patience.end()
            self._pool.append(call.actor)
            self._full = False
            self._measure()
            self._starts.failed.clear()
            return
        others = tries_at(call.key, calls)
        if reply.record is not None:
            if call.began < math.inf:
                pace.spent.append(time.monotonic() - call.began)
            outcome = ledger.succeed(call.key, reply.record)
            for slower, other in others.items():
                del calls[slower]
                why = f"its worker was ended, which was slow with {call.key}"
                yield from self._lose(other.actor, why, ledger, calls)
            yield outcome
        elif not others:
            failed = ledger.fail(call.key, reply.error, retry=reply.retry, kind=reply.kind)
            if failed is not None:
                yield failed

    def _lose(
        self,
        actor: Any,
        why: str,
        ledger: Ledger[TaskT],
        calls: dict[Any, Call],
        *,
        vanished: bool = False,
    ) -> Iterator[Outcome]:
        """End an actor and return its tasks.

        If it did not start in time and no other is ready, the cluster has no room for any.

        Args:
            vanished: whether its whole machine is gone.
        """
        stood = actor in self._pool
        lost, now = self._end(actor, calls), time.monotonic()
        meters.WORKERS_LOST.add()
        events.warning("worker-lost", why, tasks=[call.key for call in lost if call.key])
        for call in lost:
            if call.key is None and call.deadline > now and not vanished:
                self._starts.failed.append((why, now - call.began))
            elif call.key is not None and not tries_at(call.key, calls):
                outcome = ledger.fail(call.key, why, retry=True, vanished=vanished)
                if outcome is not None:
                    yield outcome
        if not self._pool:
            self._full = any(call.key is None and call.deadline <= now for call in lost)
        if stood and not self._pool:
            self._patience.begin()
            self._give_time(list(calls), calls)

    def _end(self, actor: Any, calls: dict[Any, Call]) -> list[Call]:
        """End an actor; remove and return its calls."""
        lifeline.kill(actor)
        self._pool = [each for each in self._pool if each != actor]
        self._measure()
        return [calls.pop(reference) for reference in calls_of(actor, calls)]

    def _measure(self) -> None:
        meters.WORKERS.set(len(self._pool), kind="gpu" if self._on_gpus else "cpu")

    def _start(self, calls: dict[Any, Call]) -> None:
        actor = (
            ray.remote(concurrency_groups={ASIDE: 1})(Worker)
            .options(
                num_cpus=self._cpus,
                num_gpus=self._gpus_per_worker if self._on_gpus else 0,
                max_concurrency=self._at_once,
                max_restarts=0,
                max_task_retries=0,
            )
            .remote(self._cpus, self._device_check, Reporting.like_here(), choice.asked())
        )
        now = time.monotonic()
        calls[actor.ready.remote()] = Call(actor, None, now, now + self.start_timeout_s)

    def _no_workers(self, name: str) -> NoWorkers:
        if self._starts.failed:
            return NoWorkers(
                f"{name}: {self._starts.told()}",
                f"what is done stays done; {MEND}, {OR_SERIAL}",
            )
        return self._patience.lost(name)
