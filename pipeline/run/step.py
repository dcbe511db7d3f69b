"""The steps of a job: what a runner knows of a step, and the harness that all steps share.

A step applies one kind of work to many tasks: extract features from each shard, or count words in
each. The author of a step writes two small frozen dataclasses:

- a task, which has a `key` and names its inputs;
- the work, whose `open(store)` loads what is expensive (a network, centroids) once in a worker,
  and returns a function `(task, attempt) -> counts` that does one task.

`StoreStep` joins the work with its row in `store/tree.py`, and `complete` in `run/drive.py` runs it
on a `Runner`. A task that was stopped at any point is simply run again: its files do not exist for
anyone until its done record does.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from lamella.pipeline.store.commit import Attempt, attempt
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.store.tree import StepKind
from lamella.schemas.files import DoneRecord


class Task(Protocol):
    """A unit of work: a small picklable value that names its inputs, such as one shard."""

    @property
    def key(self) -> str:
        """The task's name in its step, such as `00042`; its done record is `done/KEY.json`."""
        ...


TaskT = TypeVar("TaskT", bound=Task)
TaskT_contra = TypeVar("TaskT_contra", bound=Task, contravariant=True)


class Step(Protocol[TaskT_contra]):
    """What a runner knows of a step: `open` it once in a worker, then call the result per task.

    A step is a small picklable value that is sent to workers; `open` loads what is expensive.
    `StoreStep` is the one implementation in the pipeline.
    """

    @property
    def name(self) -> str:
        """The label that a person sees, such as `round 3 b11`."""
        ...

    @property
    def stage(self) -> str:
        """The stage of the job that it belongs to, such as `vocabulary b11`."""
        ...

    @property
    def uses_gpu(self) -> bool:
        """Whether each worker gets a GPU of its own if the cluster has GPUs."""
        ...

    @property
    def threads(self) -> int | None:
        """How many threads work on one task; None leaves it to the runner."""
        ...

    @property
    def at_once(self) -> int:
        """How many tasks a worker may run at a time, each in its own thread.

        With 2, a worker reads one shard while it writes the last; the step does its own locking.
        """
        ...

    def open(self) -> Callable[[TaskT_contra], DoneRecord]:
        """Load what the step needs; return the function that does one task and commits it."""
        ...


Counts = Mapping[str, int]
"""What a done record counts, by name, such as `{"indexed": 498, "refused": 2}`."""

Do = Callable[[TaskT, Attempt], Counts]
"""Does one task: writes its files with `Attempt.write` and returns the counts of its record."""


class Work(Protocol[TaskT_contra]):
    """What the author of a step writes: a small picklable value that a worker opens once."""

    def open(self, store: Store) -> Do[TaskT_contra]:
        """Load what is expensive; return the function that does one task."""
        ...


@dataclass(frozen=True)
class StoreStep(Generic[TaskT]):
    """The harness that every step runs in: opens the store, begins attempts, writes done records.

    Make one from the step's work, and give it to `complete`.

    Attributes:
        kind: the step's row in `store/tree.py`.
        store_url: the store that it reads and writes.
        folder: the step's folder in the store, from `kind.folder`; done records lie in its `done`.
        inputs: the digest of everything that decides the results. It is in every done record; a
            record with another digest is an error.
        work: what the step itself does.
        label: what a person sees; by default the kind's name.
        of_stage: the stage of the job that it belongs to; by default the kind's name.
        uses_gpu, threads, at_once: see `Step`.
        anew: keys of tasks to run again although they are done. The new done record replaces the
            old one atomically. Only upkeep sets this.
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
        """See `Step`."""
        return self.label or self.kind.name

    @property
    def stage(self) -> str:
        """See `Step`."""
        return self.of_stage or self.kind.name

    def open(self) -> Callable[[TaskT], DoneRecord]:
        """Open the store and the work; return the function that does one task and commits it."""
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
    """The only task of a step that is not divided, such as the seeding of a vocabulary."""

    key: str


@dataclass(frozen=True)
class Outcome:
    """How a task ended: with its done record, or with the error of its last attempt.

    `kind` is that of the error, as `errors.kind_of` gives it.
    """

    key: str
    record: DoneRecord | None
    error: str | None = None
    attempts: int = 1
    kind: str = ""

    def __post_init__(self) -> None:
        if (self.record is None) == (self.error is None):
            raise ValueError("an outcome holds either a record or an error")


class Runner(Protocol):
    """Runs the tasks of a step: in this process (`SerialRunner`), or on Ray (`cluster/ray`)."""

    def run(self, step: Step[TaskT], tasks: Sequence[TaskT]) -> Iterator[Outcome]:
        """Yield exactly one outcome for each task, in any order."""
        ...

    @property
    def threads(self) -> int:
        """How many threads a worker has for a task if the step does not say."""
        ...

    def memory_per_worker(self) -> int:
        """Return how many bytes one worker may hold."""
        ...
