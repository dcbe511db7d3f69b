"""A runner whose workers note when each task began and ended. Workers on Ray import this module."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from lamella.pipeline.run.step import Outcome, Runner, Step
from lamella.schemas.files import DoneRecord


@dataclass(frozen=True)
class Clocked:
    """A step that leaves a note a task: process, begin and end on the machine's one clock."""

    step: Step[Any]
    notes: str

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.step, name)

    def open(self) -> Callable[[Any], DoneRecord]:
        work = self.step.open()

        def clocked(task: Any) -> DoneRecord:
            began = time.monotonic()
            record: DoneRecord = work(task)
            note = json.dumps([os.getpid(), began, time.monotonic()])
            Path(self.notes, f"{task.key}.json").write_text(note)
            return record

        return clocked


@dataclass(frozen=True)
class ClockedRunner:
    """Another runner, with notes taken."""

    runner: Runner
    notes: str

    def run(self, step: Step[Any], tasks: Sequence[Any]) -> Iterator[Outcome]:
        return self.runner.run(Clocked(step, self.notes), tasks)

    @property
    def threads(self) -> int:
        return self.runner.threads

    def memory_per_worker(self) -> int:
        return self.runner.memory_per_worker()


@dataclass(frozen=True)
class Times:
    """When tasks ran: by worker, (begin, end) in the order of beginning."""

    by_worker: dict[int, list[tuple[float, float]]]

    @staticmethod
    def read(notes: Path) -> "Times":
        """Return what is noted in a folder, and empty it."""
        by_worker: dict[int, list[tuple[float, float]]] = {}
        for path in notes.iterdir():
            process, began, ended = json.loads(path.read_text())
            by_worker.setdefault(process, []).append((began, ended))
            path.unlink()
        return Times({worker: sorted(tasks) for worker, tasks in by_worker.items()})

    @property
    def first(self) -> float:
        """When the first task began: what is opened before is no part of it."""
        return min(tasks[0][0] for tasks in self.by_worker.values())

    @property
    def last(self) -> float:
        """When the last task ended."""
        return max(ended for tasks in self.by_worker.values() for _, ended in tasks)

    @property
    def gaps(self) -> list[float]:
        """Seconds that a worker had none, from the end of a task to the begin of the next."""
        return [
            max(0.0, after[0] - before[1])
            for tasks in self.by_worker.values()
            for before, after in pairwise(tasks)
        ]

    @property
    def idle_at_the_end(self) -> float:
        """The share of all workers' time that passes after their own last task."""
        idle = sum(self.last - max(ended for _, ended in each) for each in self.by_worker.values())
        return idle / (len(self.by_worker) * (self.last - self.first))
