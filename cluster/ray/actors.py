"""The worker: a Ray actor that opens a step once and runs the tasks it is sent."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from lamella.cluster.ray.reports import Report, Reporting
from lamella.pipeline import events, meters
from lamella.pipeline.errors import CardLost, InputError, kind_of
from lamella.pipeline.products import choice
from lamella.pipeline.run.ledger import describe, is_worth_retrying
from lamella.pipeline.run.step import Step
from lamella.pipeline.signs import running, silence
from lamella.schemas.files import DoneRecord

SERVER_GPU, WORKER_BESIDE_SERVER = 0.6, 0.4
"""Shares of a GPU: one server fits on each GPU, with one worker beside it."""

DeviceCheck = Callable[[Step[Any]], None]
"""Raises if a worker holds a device that its step cannot use."""


@dataclass(frozen=True)
class Reply:
    """A worker's reply to a task: its record, or an error and whether to try again.

    Attributes:
        useless: this process has lost its GPU, so the worker must be replaced.
        report: what the worker has to say beside.
        kind: that of the error, as `errors.kind_of` gives it.
    """

    record: DoneRecord | None
    error: str = ""
    retry: bool = False
    useless: bool = False
    report: Report = field(default_factory=Report)
    kind: str = ""


ASIDE = "aside"
"""The name of a worker's thread that answers while tasks run."""


class Worker:
    """A worker process; keeps the step it opened last."""

    def __init__(
        self, cpus: int, check: DeviceCheck, reporting: Reporting, products: choice.Choice
    ) -> None:
        self._reports = reporting.begun()
        choice.use(products)
        # numba reads this once, when it is first imported; only steps import it.
        os.environ.setdefault("NUMBA_NUM_THREADS", str(cpus))
        if not lent_gpus():
            # Without this, a worker that was lent no GPU would still see those of its machine.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._check = check
        self._opening = threading.Lock()
        self._opened: str | None = None
        self._work: Callable[[Any], DoneRecord] | None = None

    def ready(self) -> int:
        """Return this worker's process id, once it is ready."""
        return os.getpid()

    def silence(self, key: str) -> float | None:
        """Return the seconds since a task's last sign of progress; None if it does not run."""
        return silence(key)

    def apply(self, step_id: str, step: Step[Any], task: Any) -> Reply:
        """Run one task, opening its step if another one is open. Never raises."""
        began = time.monotonic()
        with events.within(stage=step.stage, shard=task.key):
            reply = self._apply(step_id, step, task)
        if step.uses_gpu and lent_gpus():
            meters.GPU_HELD.add(time.monotonic() - began)
        return replace(reply, report=self._reports.take())

    def _apply(self, step_id: str, step: Step[Any], task: Any) -> Reply:
        try:
            with running(task.key):
                return Reply(self._open(step_id, step)(task))
        except Exception as error:
            useless = isinstance(error, CardLost)
            retry = is_worth_retrying(error)
            return Reply(None, describe(error), retry, useless, kind=kind_of(error))

    def _open(self, step_id: str, step: Step[Any]) -> Callable[[Any], DoneRecord]:
        with self._opening:
            if self._work is None or self._opened != step_id:
                self._work = None  # free the last step's network before loading the next one's
                self._check(step)
                self._work = step.open()
                self._opened = step_id
            return self._work


def lent_gpus() -> list[str]:
    """Return the ids of the GPUs that Ray lent to this process."""
    import ray

    return [str(gpu) for gpu in ray.get_gpu_ids()] if ray.is_initialized() else []


def check_device(step: Step[Any]) -> None:
    """Refuse to compute on the CPU in a worker that holds a GPU.

    Raises:
        InputError: Ray lent a device that torch does not see.
    """
    lent = lent_gpus()
    if not (step.uses_gpu and lent):
        return
    import torch

    if not torch.cuda.is_available():
        raise InputError(
            f"Ray lent GPU {lent[0]} to this worker, but torch sees no CUDA device: "
            "check the driver and the torch build, or start Ray with --num-gpus=0"
        )
