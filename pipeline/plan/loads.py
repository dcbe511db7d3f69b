"""From seconds of one thread to hours on many workers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from lamella.pipeline.plan.figures import scaled, total
from lamella.schemas.plan import Figure

SIZES = (1, 8, 64)
"""Workers, or GPUs, for which hours are told."""


@dataclass(frozen=True)
class Load:
    """What a stage takes of all pictures.

    Attributes:
        steps: seconds a picture of one thread, by step.
        pictures: how many there are.
        tasks: into which the stage is cut, of about the same size.
        fixed: seconds of one thread beside those of the pictures.
        opening: seconds of each worker before its first task.
        threaded: whether the threads of a worker share a task.
        gpu_steps: the steps that run on a GPU, beside the others and each other.
        basis: what the figures stand on.
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

    def thread_seconds(self, threads: int) -> Figure:
        """Return the seconds that one worker of so many threads takes for everything.

        Without a GPU the steps share the threads. With one, whatever is slowest holds up the
        others: a step on the GPU, or the threads that bring it pictures.
        """
        on = threads if self.threaded else 1
        rest = total(each for name, each in self.steps.items() if name not in self.gpu_steps)
        beside = (self.steps[name] for name in self.gpu_steps)
        picture = max([scaled(rest, 1 / on), *beside], key=lambda each: each.mean)
        return scaled(picture, self.pictures, plus=self.fixed / on)

    def seconds(self, workers: int, threads: int) -> Figure:
        """Return the seconds on so many workers: turns of tasks of one size, and the opening."""
        turns = math.ceil(self.tasks / workers)
        return scaled(self.thread_seconds(threads), turns / self.tasks, plus=self.opening)


def seconds_of(load: Load, workers: int, threads: int, gpus: int) -> Figure:
    """Return the seconds of a stage; what runs on GPUs has a worker a GPU, where there are any."""
    return load.seconds(gpus if load.gpu_steps and gpus else workers, threads)


def hours_on(loads: Sequence[Load], workers: int, threads: int, gpus: int = 0) -> Figure:
    """Return the hours of all stages, one after the other.

    They share one sample, so their errors are added as they are.
    """
    found = [seconds_of(load, workers, threads, gpus) for load in loads]
    mean, error = sum(each.mean for each in found), sum(each.error for each in found)
    return Figure(mean=mean / 3600, error=error / 3600)
