"""What several tests build: tasks and stages with a script, small jobs, counted writes.

Workers on Ray import this module, so a stage here is one that any runner can be given.
"""

import ctypes
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import ray

from lamella.pipeline.errors import CardLost, InputError
from lamella.pipeline.jobs.indexing import index_prepared, prepare
from lamella.pipeline.jobs.settings import load_job
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.run.step import Outcome, Runner
from lamella.pipeline.signs import sign
from lamella.pipeline.stages import Watch
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import Attempt
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.storage import open_store
from lamella.schemas.base import canonical_json, digest_of
from lamella.schemas.files import DoneRecord
from lamella.schemas.job import JobConfig
from lamella.schemas.snapshot import IndexSnapshot

MEETING_S = 60.0

SLOW_S = 3.0


@dataclass(frozen=True)
class Item:
    """A task that is a number to square."""

    key: str
    value: int = 0


def items(count: int) -> list[Item]:
    """Return tasks 0, 1, 2 and so on, named by their value."""
    return [Item(f"{value:03d}", value) for value in range(count)]


def record(key: str, inputs: str = "i" * 64, **counts: int) -> DoneRecord:
    """Return the done record of a task without files."""
    return DoneRecord(stage="test", key=key, inputs=inputs, counts=counts, commit_id="c")


@dataclass(frozen=True)
class Scripted:
    """A stage whose every attempt at a task does what its script says, in whatever process.

    `script` gives a task's acts, one an attempt; the last one is repeated. Acts: `ok`, `os-error`,
    `value-error`, `input-error`, `card-lost`, `kill` and `stop` (SIGKILL and SIGSTOP to this
    process), `slow`, `gets-on` (slow, with signs of progress), `gets-stuck` (which hangs after
    some signs), `holds` (which hangs and lets no other thread run), `outlast` and `outlast-kill`
    (which go on for a while after another try at the task began), `hang`, `meet` and `meet-kill`
    (which wait until another attempt meets them).
    `openings` gives the acts of the first, second... opening. What happens is noted as files under
    `notes`.
    """

    notes: str
    script: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    openings: tuple[str, ...] = ("ok",)
    uses_gpu: bool = False
    name: str = "scripted"
    stage: str = "scripted"
    threads: int | None = None
    at_once: int = 1

    def open(self) -> Callable[[Item], DoneRecord]:
        number = _note(self.notes, "opening")
        self._act(self.openings[min(number, len(self.openings) - 1)])
        return self._work

    def _work(self, task: Item) -> DoneRecord:
        acts = self.script.get(task.key, ("ok",))
        running = Path(self.notes, f"running.{task.key}.{os.getpid()}")
        running.touch()
        at_once = sum(1 for name in os.listdir(self.notes) if name.startswith("running."))
        try:
            number = _note(self.notes, f"try.{task.key}")
            self._act(acts[min(number, len(acts) - 1)], task.key)
        finally:
            running.unlink()
        gpus = ray.get_gpu_ids() if ray.is_initialized() else []
        return record(
            task.key,
            square=task.value**2,
            pid=os.getpid(),
            at_once=at_once,
            gpus=len(gpus),
            gpu=int(gpus[0]) if gpus else -1,
            visible=_number(os.environ.get("CUDA_VISIBLE_DEVICES")),
        )

    def _act(self, act: str, key: str = "") -> None:
        match act:
            case "os-error":
                raise OSError("the disk is away")
            case "value-error":
                raise ValueError("no such value")
            case "input-error":
                raise InputError("the rule, both values, what to do")
            case "card-lost":
                raise CardLost("the card does not answer")
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
                time.sleep(60)  # another thread may be stopped a moment before this one
            case "slow":
                time.sleep(SLOW_S)
            case "gets-on" | "gets-stuck":
                deadline = time.monotonic() + SLOW_S
                while time.monotonic() < deadline:
                    time.sleep(0.1)
                    sign()
                while act == "gets-stuck":
                    time.sleep(60)
            case "holds":
                ctypes.PyDLL(None).sleep(600)  # called this way, C keeps the interpreter's lock
            case "outlast" | "outlast-kill":
                deadline = time.monotonic() + MEETING_S
                while tries(self.notes, f"try.{key}") < 2:
                    if time.monotonic() > deadline:
                        raise TimeoutError("no other try began")
                    time.sleep(0.01)
                time.sleep(SLOW_S / 4)
                if act == "outlast-kill":
                    os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                while True:
                    time.sleep(60)
            case "meet" | "meet-kill":
                _note(self.notes, "met")
                deadline = time.monotonic() + MEETING_S
                while tries(self.notes, "met") < 2:
                    if time.monotonic() > deadline:
                        raise TimeoutError("nobody came")
                    time.sleep(0.01)
                if act == "meet-kill":
                    os.kill(os.getpid(), signal.SIGKILL)


def ended(runner: Runner, stage: Scripted, count: int) -> dict[str, Outcome]:
    """Return how so many tasks ended, by key, each once."""
    outcomes = list(runner.run(stage, items(count)))
    assert sorted(outcome.key for outcome in outcomes) == [item.key for item in items(count)]
    return {outcome.key: outcome for outcome in outcomes}


def _number(visible: str | None) -> int:
    """Return the one device that is visible; -1 where none is, -2 where all are or several."""
    if visible is None:
        return -2
    return int(visible) if visible.isdigit() else -1 if visible == "" else -2


def _note(folder: str, what: str) -> int:
    """Leave a numbered file, create-only, and return its number."""
    number = 0
    while True:
        try:
            Path(folder, f"{what}.{number}").open("x").close()
            return number
        except FileExistsError:
            number += 1


def tries(folder: str | Path, what: str) -> int:
    """Return how often something was noted: `opening`, or `try.KEY`."""
    return sum(1 for name in os.listdir(folder) if name.rpartition(".")[0] == what)


SMALL = {
    "corpus.shard_images": 16,
    "vocabulary.words": 64,
    "vocabulary.rounds": 6,
    "vocabulary.assigner": "cells",
    "index.segment_images": 20,
}


def small_job(**settings: object) -> JobConfig:
    """Return a job over few pictures; settings by dotted key, with `__` for the dot."""
    return load_job(None, SMALL | {k.replace("__", "."): v for k, v in settings.items()})


def index_into(
    folder: Path | str,
    source: Path | str,
    runner: Runner | None = None,
    *,
    job: JobConfig | None = None,
    threads: int = 2,
) -> IndexSnapshot:
    """Index a source into a store, made where absent; either may be an address in S3."""
    store = open_store(str(folder), create=True)
    prepared = prepare(str(source), job or small_job())
    return index_prepared(store, runner or SerialRunner(), prepared, threads=threads, watch=Watch())


def finish_whole(work: Attempt, **counts: int) -> DoneRecord:
    """Finish an attempt at part of a step with what else every record of the step has."""
    step = next(each for each in tree.STEPS if each.name == work.stage)
    for name in step.files.split():
        if name not in work.files:
            work.write(name, work.folder, f"{name}.arrow", lambda path: path.write_bytes(b"x"))
    return work.finish(**(dict.fromkeys(step.counts.split(), 0) | counts))


class Killed(BaseException):
    """The process ended here; no handler of errors sees it."""


@contextmanager
def counted_creates(*, die_before: int | None = None) -> Iterator[list[str]]:
    """Note every name created in local stores inside the block, in order.

    Args:
        die_before: the create, counted from 0, that is not reached: `Killed` is raised there.
    """
    created: list[str] = []
    create = LocalStore.create

    def counting(store: LocalStore, path: str, data: bytes) -> None:
        if not path.startswith("probe/"):
            if len(created) == die_before:
                raise Killed(path)
            created.append(path)
        create(store, path, data)

    with mock.patch.object(LocalStore, "create", counting):
        yield created


def reseal(path: Path, **changes: object) -> None:
    """Change fields of a stored record and seal it anew, as a careless hand with a script would."""
    value = json.loads(path.read_bytes()) | changes
    value.pop("seal")
    path.write_bytes(canonical_json(value | {"seal": digest_of(value)}))


def copied(source: Path, target: Path, *folders: str) -> Path:
    """Return a new store that holds these folders of another one, and the marker of a store."""
    for folder in {"probe", *folders}:
        shutil.copytree(source / folder, target / folder)
    return target
