"""Measure how much of their time threads compute, and what they wait for."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

Cause = Literal["core", "picture", "network", "batch"]
"""What a thread waits for: a core, taken by others; the next picture (its bytes, or its decoding
process); the network (on a CPU, Python's lock); a batch to work on (the writer or a GPU is behind,
or the run ends)."""
CAUSES: tuple[Cause, ...] = ("core", "picture", "network", "batch")


DECODE_ON_GPU = "decode on the GPU"
"""The step of extraction that only recipe "torch-1" has, and only on a GPU, beside its passes."""


class Moment(NamedTuple):
    """Clocks of one thread, in seconds: wall time, time on a core, time queued for a core."""

    wall: float
    on_core: float
    queued: float


class Watch:
    """Adds up the waiting times of a run's threads; make it when the run begins.

    A thread waits while the wall clock runs and its own clock does not. Time outside any block of
    `waiting_for` belongs to `batch`.
    """

    def __init__(self) -> None:
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._waited: dict[Cause, float] = dict.fromkeys(CAUSES, 0.0)
        self._seen = 0.0
        self._children = children_spent()
        self._process = time.process_time()
        self._began = time.perf_counter()

    @contextmanager
    def waiting_for(self, cause: Cause) -> Iterator[None]:
        """Count this thread's waiting inside the block under this cause."""
        begin = _now()
        last = getattr(self._mine, "last", Moment(self._began, 0.0, 0.0))
        self._add("batch", last, begin)
        try:
            yield
        finally:
            self._mine.last = end = _now()
            self._add(cause, begin, end)

    def _add(self, cause: Cause, begin: Moment, end: Moment) -> None:
        wall, on_core, queued = (after - before for before, after in zip(begin, end, strict=True))
        with self._lock:
            self._seen += wall
            self._waited[cause] += wall - on_core - queued
            self._waited["core"] += queued

    def end(self, threads: int) -> tuple[float, float, dict[Cause, float]]:
        """Return the seconds of the run, the cores that were busy, and the shares waited.

        Args:
            threads: how many worked; shares are of the time of all of them. The rest is what they
                and their children computed.
        """
        wall = time.perf_counter() - self._began
        computed, queued = (
            now - then for now, then in zip(children_spent(), self._children, strict=True)
        )
        busy = (time.process_time() - self._process + computed) / wall
        waited = dict(self._waited)
        # While a child decodes, its thread waits, but no time is lost; a child that its thread does
        # not wait for costs none either.
        computed = min(computed, waited["picture"])
        queued = min(queued, waited["picture"] - computed)
        waited["picture"] -= computed + queued
        waited["core"] += queued
        waited["batch"] += max(threads * wall - self._seen, 0.0)
        shares = {cause: max(waited[cause], 0.0) / (threads * wall) for cause in CAUSES}
        return wall, busy, shares


def _now() -> Moment:
    queued = _scheduled(Path("/proc/thread-self/schedstat"))[1]
    return Moment(time.perf_counter(), time.thread_time(), queued)


def children_spent() -> tuple[float, float]:
    """Return the seconds that living children of this process spent on cores, and queued for one.

    Linux tells; elsewhere both are 0.
    """
    on_core, queued = 0.0, 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
        except (OSError, IndexError):
            continue  # it ended meanwhile
        if parent == str(os.getpid()):
            ran, waited = _scheduled(folder / "schedstat")
            on_core, queued = on_core + ran, queued + waited
    return on_core, queued


def _scheduled(path: Path) -> tuple[float, float]:
    """Return seconds on a core and in its queue, from the kernel's count in nanoseconds."""
    try:
        ran, waited, _ = path.read_text().split()
    except (OSError, ValueError):
        return 0.0, 0.0
    return int(ran) / 1e9, int(waited) / 1e9
