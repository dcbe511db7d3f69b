"""Convert seconds of one thread to hours on many workers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from lamella.pipeline.plan.figures import scaled, total
from lamella.schemas.plan import Figure

SIZES = (1, 8, 64)
"""Numbers of workers, or of GPUs, for which a plan has hours."""


@dataclass(frozen=True)
class Load:
    """The work of a stage over all pictures.

    Attributes:
        steps: seconds of one thread for a picture, by step.
        pictures: the number of pictures.
        tasks: the number of tasks, of about equal size.
        fixed: seconds of one thread that do not depend on the number of pictures.
        opening: seconds that each worker needs before its first task.
        threaded: whether the threads of a worker share a task.
        gpu_steps: the steps on a GPU, which run at the same time as the others and each other.
        basis: what the figures are based on, for a person.
        rounds: rounds of a training, else 0.
    """

    name: str
    steps: dict[str, Figure]
    pictures: float
    tasks: int
    fixed: float = 0.0
    opening: float = 0.0
    threaded: bool = False
    gpu_steps: tuple[str, ...] = ()
    basis: str = field(default="measured")
    rounds: int = 0

    def thread_seconds(self, threads: int) -> Figure:
        """Return the seconds that one worker with this many threads takes for all pictures.

        Without a GPU, the steps share the threads. With one, the slowest decides: a step on the
        GPU, or the threads that prepare its pictures.
        """
        on = threads if self.threaded else 1
        rest = total(each for name, each in self.steps.items() if name not in self.gpu_steps)
        beside = (self.steps[name] for name in self.gpu_steps)
        picture = max([scaled(rest, 1 / on), *beside], key=lambda each: each.mean)
        return scaled(picture, self.pictures, plus=self.fixed / on)

    def seconds(self, workers: int, threads: int) -> Figure:
        """Return the seconds on this many workers: turns of equal tasks, plus the opening."""
        turns = math.ceil(self.tasks / workers)
        return scaled(self.thread_seconds(threads), turns / self.tasks, plus=self.opening)


def seconds_of(load: Load, workers: int, threads: int, gpus: int) -> Figure:
    """Return the seconds of a stage; with GPUs, a stage that uses them has one worker a GPU."""
    return load.seconds(gpus if load.gpu_steps and gpus else workers, threads)


def hours_on(loads: Sequence[Load], workers: int, threads: int, gpus: int = 0) -> Figure:
    """Return the hours of all stages, which run one after the other.

    They were measured on one sample, so their errors are not independent and add up linearly.
    """
    found = [seconds_of(load, workers, threads, gpus) for load in loads]
    mean, error = sum(each.mean for each in found), sum(each.error for each in found)
    return Figure(mean=mean / 3600, error=error / 3600)
