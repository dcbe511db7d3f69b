"""The two protocols that pipeline and cluster agree on: what a stage is, what a runner does."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from lamella.schemas.files import DoneRecord


class Task(Protocol):
    """A unit of work: a small, picklable value that names its inputs."""

    @property
    def key(self) -> str:
        """The task's name inside its stage."""
        ...


TaskT = TypeVar("TaskT", bound=Task)
TaskT_contra = TypeVar("TaskT_contra", bound=Task, contravariant=True)


class Stage(Protocol[TaskT_contra]):
    """What a worker opens once and then applies to many tasks.

    A stage is a small picklable value; what is dear (a network, centroids) is made by `open`.
    """

    @property
    def name(self) -> str: ...

    @property
    def uses_gpu(self) -> bool:
        """Whether a worker wants a GPU to itself where the cluster has GPUs."""
        ...

    def open(self) -> Callable[[TaskT_contra], DoneRecord]: ...


@runtime_checkable
class Threaded(Protocol):
    """A stage that says how many threads share one of its tasks."""

    @property
    def threads(self) -> int: ...


@runtime_checkable
class Overlapping(Protocol):
    """A stage whose worker takes several tasks at once, each in a thread: one ends as one begins.

    What must not be at once it keeps apart itself.
    """

    @property
    def at_once(self) -> int: ...


@dataclass(frozen=True)
class Outcome:
    """How a task ended: its done record, or the error that its last attempt met."""

    key: str
    record: DoneRecord | None
    error: str | None = None
    attempts: int = 1

    def __post_init__(self) -> None:
        if (self.record is None) == (self.error is None):
            raise ValueError("an outcome holds either a record or an error")


class Runner(Protocol):
    """Applies a stage to tasks, each of which ends in exactly one outcome, in any order."""

    def run(self, stage: Stage[TaskT], tasks: Sequence[TaskT]) -> Iterator[Outcome]: ...

    @property
    def threads(self) -> int:
        """How many threads a worker has for a task, where the stage is not `Threaded`."""
        ...

    def memory_per_worker(self) -> int:
        """Return how many bytes one worker may hold."""
        ...
