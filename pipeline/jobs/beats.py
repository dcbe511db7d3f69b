"""Beats: a job writes how far it is into its store, and whoever reads the store sees that it lives.

A beat is a create-only file of its own, `beats/JOB.NUMBER.json`. When one was told is known by the
store's own time of the file, for the clocks of two machines differ. Nothing else depends on beats.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from lamella.pipeline.errors import LamellaError, MissingFile
from lamella.pipeline.store import tree
from lamella.pipeline.store.clock import time_of
from lamella.pipeline.store.commit import create_once
from lamella.pipeline.store.protocol import Store, StoredFile
from lamella.pipeline.store.records import parse_record
from lamella.schemas.beat import Beat

TOP = tree.BEAT.form.text.partition("/")[0]

KEPT = 2
"""The last beats that a job leaves of itself. Others may be reading the one before the last."""

MISSED = 3
"""A job that has left out so many beats is silent."""

ENDED_S, SILENT_S = 86_400.0, 7 * 86_400.0
"""For so long jobs are told that have ended, and those that fell silent."""

State = Literal["running", "silent", "ended", "unreadable"]


def tell_beat(store: Store, beat: Beat) -> None:
    """Write a beat, and remove an earlier one of the job: a listing stays short for weeks."""
    create_once(store, tree.BEAT.at(job=beat.job, number=beat.number), beat.to_json())
    if beat.number > KEPT:
        with suppress(LamellaError, OSError):  # it may have no right to; `gc` removes the rest
            store.discard(tree.BEAT.at(job=beat.job, number=beat.number - KEPT))


@dataclass(frozen=True)
class JobSeen:
    """A job as its last beat has it.

    Attributes:
        beat: None where it cannot be read; `problem` says why.
        told: when it was told, by the store's clock, in seconds since 1970.
        silent_s: the seconds since then.
        began: when the job began, by the store's clock; None where that is not known.
        superseded: whether another job of the same command has told something since.
    """

    job: str
    number: int
    state: State
    beat: Beat | None
    told: float
    silent_s: float
    began: float | None
    problem: str = ""
    superseded: bool = False

    def plain(self) -> dict[str, Any]:
        """Return it as plain values."""
        told = {} if self.beat is None else self.beat.model_dump(mode="json", exclude={"job"})
        return {
            "job": self.job,
            "state": self.state,
            "number": self.number,
            "silent_seconds": round(self.silent_s, 1),
            "told": told or None,
            "unreadable": self.problem,
            "superseded": self.superseded,
        }


def _since_start() -> float:
    """Return the seconds since this machine started, with those it slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Jobs:
    """The jobs of a store, looked at once or again and again; a beat is read once.

    Args:
        clock: seconds, rising; the store's clock is asked once, and then this one goes on from it.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = _since_start) -> None:
        self._store = store
        self._clock = clock
        self._offset: float | None = None
        self._read: dict[str, Beat | str] = {}
        self.own_clock = True
        """Whether the time of the store's files could be compared with the store's own clock."""

    def look(self) -> list[JobSeen]:
        """Return the jobs that run, and those that lately ended or fell silent, oldest first.

        Raises:
            StoreError: the store cannot be read.
        """
        newest: dict[str, tuple[int, StoredFile]] = {}
        for file in self._store.walk(TOP):
            parts = tree.BEAT.form.read(file.path)
            if parts is not None and not file.problem:
                number = int(parts["number"])
                newest[parts["job"]] = max(
                    newest.get(parts["job"], (0, file)), (number, file), key=lambda each: each[0]
                )
        if not newest:
            return []
        now = self._now()
        self._read = {
            f.path: self._read[f.path] for _, f in newest.values() if f.path in self._read
        }
        found = [_seen(job, n, f, self._beat(f.path), now) for job, (n, f) in newest.items()]
        told = [each for each in found if _is_told(each)]
        return sorted((_beside(each, found) for each in told), key=lambda each: each.job)

    def _now(self) -> float:
        """Return the time by the store's clock."""
        if self._offset is None:
            now, self.own_clock = time_of(self._store)
            self._offset = now - self._clock()
        return self._clock() + self._offset

    def _beat(self, path: str) -> Beat | str:
        """Return a beat, or why it cannot be read."""
        if path not in self._read:
            try:
                self._read[path] = parse_record(self._store, path, Beat, self._store.read(path))
            except MissingFile:
                return "was removed meanwhile"
            except LamellaError as error:
                self._read[path] = str(error).removeprefix(path).lstrip(": ").split(";")[0]
        return self._read[path]


def _seen(job: str, number: int, file: StoredFile, found: Beat | str, now: float) -> JobSeen:
    silent = max(now - file.modified, 0.0)
    if isinstance(found, str):
        return JobSeen(job, number, "unreadable", None, file.modified, silent, None, found)
    state: State = "running"
    if found.code is not None:
        state = "ended"
    elif silent > MISSED * found.every_s:
        state = "silent"
    began = file.modified - found.seconds_running()
    return JobSeen(job, number, state, found, file.modified, silent, began)


def _is_told(seen: JobSeen) -> bool:
    return seen.silent_s <= (SILENT_S if seen.state == "silent" else ENDED_S)


def _beside(seen: JobSeen, others: list[JobSeen]) -> JobSeen:
    """Return a job, marked if another of the same command has told something since."""
    if seen.beat is None:
        return seen
    later = any(
        each.beat is not None
        and each.beat.command == seen.beat.command
        and each.began is not None
        and each.began > seen.told
        for each in others
    )
    return replace(seen, superseded=later)
