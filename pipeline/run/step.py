"""What a step of a job is: what a runner knows of it, and the harness that every step runs in."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from lamella.pipeline.store.commit import Attempt, attempt
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.store.tree import StepKind
from lamella.schemas.files import DoneRecord


class Task(Protocol):
    """A unit of work: a small, picklable value that names its inputs."""

    @property
    def key(self) -> str:
        """The task's name inside its step."""
        ...


TaskT = TypeVar("TaskT", bound=Task)
TaskT_contra = TypeVar("TaskT_contra", bound=Task, contravariant=True)


class Step(Protocol[TaskT_contra]):
    """What a worker opens once and then applies to many tasks.

    A step is a small picklable value; what is expensive (a network, centroids) is made by `open`.
    """

    @property
    def name(self) -> str:
        """What a person is shown, such as `round 3 b11`."""
        ...

    @property
    def stage(self) -> str:
        """The stage of the job that it is part of, such as `vocabulary b11`."""
        ...

    @property
    def uses_gpu(self) -> bool:
        """Whether a worker wants a GPU to itself where the cluster has GPUs."""
        ...

    @property
    def threads(self) -> int | None:
        """How many threads share one task; None where it is as the runner has it."""
        ...

    @property
    def at_once(self) -> int:
        """How many tasks a worker may have at a time, each in a thread.

        With two, a worker writes one shard while it reads the next; the step locks what must not
        run at the same time.
        """
        ...

    def open(self) -> Callable[[TaskT_contra], DoneRecord]: ...


Counts = Mapping[str, int]
Do = Callable[[TaskT, Attempt], Counts]
"""Does one task: writes its files into the attempt, and returns what its done record counts."""


class Work(Protocol[TaskT_contra]):
    """What is a step's own: a small picklable value that a worker opens once."""

    def open(self, store: Store) -> Do[TaskT_contra]: ...


@dataclass(frozen=True)
class StoreStep(Generic[TaskT]):
    """The harness: opens the store, begins each attempt, and writes its done record.

    Attributes:
        kind: its row in the tree.
        store_url: where it reads and writes.
        folder: where its done records lie.
        inputs: the digest that every record is made from.
        work: what is its own.
        label: what a person is shown; by default the kind's name.
        of_stage: the stage that it is part of; by default the kind's name.
        uses_gpu, threads, at_once: as `Step` says.
        anew: keys of tasks that run though they are done; their records replace those that are
            there, in one step. For upkeep alone.
    """

    kind: StepKind
    store_url: str
    folder: str
    inputs: str
    work: Work[TaskT]
    label: str = ""
    of_stage: str = ""
    uses_gpu: bool = False
    threads: int | None = None
    at_once: int = 1
    anew: Set[str] = frozenset()

    @property
    def name(self) -> str:
        """What a person is shown."""
        return self.label or self.kind.name

    @property
    def stage(self) -> str:
        """The stage that it is part of."""
        return self.of_stage or self.kind.name

    def open(self) -> Callable[[TaskT], DoneRecord]:
        """Open the store and the work; return what does one task and commits it."""
        store = open_store(self.store_url)
        do = self.work.open(store)

        def run(task: TaskT) -> DoneRecord:
            with attempt(store, self.folder, self.kind.name, task.key, self.inputs) as trial:
                counts = do(task, trial)
                if task.key in self.anew:
                    return trial.finish_anew(**counts)
                return trial.finish(**counts)

        return run


@dataclass(frozen=True)
class Whole:
    """A task that is its whole step."""

    key: str


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
    """Applies a step to tasks, each of which ends in exactly one outcome, in any order."""

    def run(self, step: Step[TaskT], tasks: Sequence[TaskT]) -> Iterator[Outcome]: ...

    @property
    def threads(self) -> int:
        """How many threads a worker has for a task, where the step does not say."""
        ...

    def memory_per_worker(self) -> int:
        """Return how many bytes one worker may hold."""
        ...
