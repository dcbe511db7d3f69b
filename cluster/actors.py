"""The worker: a Ray actor that opens a stage once and applies it to the tasks it is sent."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.errors import InputError
from pipeline.run.ledger import describe, is_worth_retrying
from pipeline.run.stage import Stage
from schemas.files import DoneRecord


@dataclass(frozen=True)
class Reply:
    """What a worker says of a task: its record, or an error and whether to try again."""

    record: DoneRecord | None
    error: str = ""
    retry: bool = False


class Worker:
    """Lives in a process of its own; keeps the stage it opened last."""

    def __init__(self, cpus: int) -> None:
        # numba reads this once, when it is first imported, which only stages do.
        os.environ.setdefault("NUMBA_NUM_THREADS", str(cpus))
        self._opened: str | None = None
        self._work: Callable[[Any], DoneRecord] | None = None

    def ready(self) -> int:
        """Return this worker's process id, once it stands."""
        return os.getpid()

    def apply(self, stage_id: str, stage: Stage[Any], task: Any) -> Reply:
        """Run one task, opening the stage if it is not the one at hand. Never raises."""
        try:
            if self._work is None or self._opened != stage_id:
                self._work = None  # let go of the last stage's network before the next one's
                check_device(stage)
                self._work = stage.open()
                self._opened = stage_id
            return Reply(self._work(task))
        except Exception as error:
            return Reply(None, describe(error), is_worth_retrying(error))


def check_device(stage: Stage[Any]) -> None:
    """Refuse to compute on the CPU in a worker that holds a GPU.

    Raises:
        InputError: Ray lent a device that torch does not see.
    """
    import ray

    lent = ray.get_gpu_ids() if ray.is_initialized() else []
    if not (stage.uses_gpu and lent):
        return
    import torch

    if not torch.cuda.is_available():
        raise InputError(
            f"Ray lent GPU {lent[0]} to this worker, but torch sees no CUDA device: "
            "check the driver and the torch build, or start Ray with --num-gpus=0"
        )
