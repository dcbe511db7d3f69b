"""Whether Ray can still run tasks: a thread watches the processes that Ray cannot do without.

A call of Ray's blocks for a minute once its control plane is gone, and then ends this process with
lines of its own. So what waits for Ray waits a second at a time and checks here in between. Where
the main thread is inside a call that does not return, the watching thread ends the command.
"""

import contextlib
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from lamella.cluster.ray.processes import Process, children
from lamella.pipeline.errors import EngineLost
from lamella.pipeline.evaluate.page import printable

LOOK_S = 0.1
ASK_S = 5.0
STOPPED_S = 10.0
"""A process of Ray that has been stopped for so long counts as lost."""

SILENT_S = 20.0
"""A cluster that has not answered for so long counts as lost."""

LEAVE_S = 4.0
"""How long the main thread may take to notice a loss: Ray begins to print after 5 s."""

SLICE_S = 1.0

CALLED = {"gcs_server": "control plane (gcs_server)", "raylet": "scheduler (raylet)"}
"""The processes that Ray cannot do without, by the names of their programs."""


in_command = False
"""Whether this process is the command line, which a loss ends, and no one else's program."""

_current: "Lifeline | None" = None
_said = threading.Event()


class Lifeline:
    """Watches one Ray. `lost` says in a line what it has lost; None while all is well.

    `_watched` has, for each process, how many looks in a row it was stopped.
    """

    def __init__(self, end_ours: Callable[[], None] | None) -> None:
        """Watch nothing yet. `end_ours` ends a Ray of our own at once, if it is one."""
        self.lost: str | None = None
        self._end_ours = end_ours
        # Of a Ray before this one some may be left, which have ended.
        self._not_ours = set(children()) if end_ours else set()
        self._watched: dict[Process, int] = {}
        self._answers: Callable[[], bool] | None = None
        self._address = ""
        self._next_ask = self._answered = time.monotonic()
        self._left = threading.Event()

    def watch_joined(
        self, address: str, processes: Sequence[Process], answers: Callable[[], bool]
    ) -> None:
        """Watch a Ray that was joined: its processes on this machine, and whether it answers."""
        self._watched = {each: 0 for each in processes if each.name in CALLED}
        self._answered = time.monotonic()
        self._address, self._answers = address, answers

    def look(self) -> str | None:
        """Look whether all is there; return what is lost."""
        self._find_ours()
        for process in list(self._watched):
            if (how := process.how_it_ended()) is not None:
                self._lose(process, how)
        return self.lost

    def count_stopped(self) -> None:
        """Count how long processes have been stopped; for the one thread that watches.

        Looks are counted and not seconds: with Ctrl-Z the whole job is stopped, and no one looks.
        """
        for process, looks in list(self._watched.items()):
            self._watched[process] = looks + 1 if process.is_stopped else 0
            if self._watched[process] * LOOK_S > STOPPED_S:
                self._lose(process, f"has been stopped (SIGSTOP) for {STOPPED_S:g} s")

    @property
    def is_stopped(self) -> bool:
        """Whether a process of Ray is stopped now, so that no call of Ray's may return."""
        return any(each.is_stopped for each in list(self._watched))

    def settle(self) -> None:
        """Wait, while a process of Ray is stopped, until it goes on.

        Raises:
            EngineLost: it does not, or one is gone.
        """
        while self.look() is None and self.is_stopped:
            time.sleep(LOOK_S)
        check()

    def _lose(self, process: Process, how: str) -> None:
        if self.lost is None:
            what = f"Ray's {CALLED[process.name]}, process {process.id}, {how}"
            self.lost = f"{what}: what is done stays done; run the same command again"

    def _find_ours(self) -> None:
        """Find the processes of a Ray of our own while it starts."""
        if self._end_ours is not None and len(self._watched) < len(CALLED):
            for process in children():
                if process.name in CALLED and process not in self._not_ours:
                    self._watched.setdefault(process, 0)

    def ask(self) -> None:
        """Ask a Ray that was joined whether it is there, if it is time to."""
        if self._answers is None or time.monotonic() < self._next_ask:
            return
        answered = self._answers()
        now = time.monotonic()
        self._next_ask = now + ASK_S
        if answered:
            self._answered = now
        elif now - self._answered >= SILENT_S and self.lost is None:
            self.lost = (
                f"Ray at {self._address} has not answered for {SILENT_S:g} s: what is done stays "
                "done; when it is back, run the same command again"
            )

    def run(self) -> None:
        """Watch until the connection is left; see to it that the command ends after a loss."""
        while not self._is_left():
            self.ask()
            self.count_stopped()
            if self.look() is None:
                continue
            if in_command:
                say(str(self.lost))
            if not self._left.wait(LEAVE_S):
                if self._end_ours is not None:
                    self._end_ours()
                if in_command:
                    leave(str(self.lost))
            return

    def _is_left(self) -> bool:
        """Wait until it is time for the next look, or a process has ended; say if all is over.

        The kernel tells of an end at once: where the main thread is about to call Ray, this
        process may not outlive it for long.
        """
        ends, handles = select.poll(), []
        for process in list(self._watched):
            with contextlib.suppress(OSError):
                handles.append(os.pidfd_open(process.id))
                ends.register(handles[-1], select.POLLIN)
        ends.poll(LOOK_S * 1000)
        for handle in handles:
            os.close(handle)
        return self._left.is_set()

    def leave(self) -> None:
        """End the watch."""
        self._left.set()


@contextmanager
def watched(end_ours: Callable[[], None] | None = None) -> Iterator[Lifeline]:
    """Watch, inside the block, the Ray that is started or joined there.

    Args:
        end_ours: ends a Ray of our own, which the main thread may be waiting for in vain.
    """
    global _current
    line = Lifeline(end_ours)
    thread = threading.Thread(target=line.run, name="lamella-lifeline", daemon=True)
    _current = line
    thread.start()
    try:
        yield line
    finally:
        line.leave()
        thread.join(LEAVE_S)
        _current = None


def check() -> None:
    """Do nothing while Ray can run tasks.

    Raises:
        EngineLost: it cannot.
    """
    # Looked at here and now: `ray.put` beside a dead scheduler ends this process without a word.
    if _current is not None and (lost := _current.look()) is not None:
        raise EngineLost(lost)


def wait(references: Sequence[Any], timeout: float) -> Any | None:
    """Return one reference that has a result, or None where there is none in so many seconds.

    Raises:
        EngineLost: Ray cannot run tasks any more.
    """
    import ray

    deadline = time.monotonic() + timeout
    while True:
        check()
        left = deadline - time.monotonic()
        # Results stay where they are: to fetch one may take longer than this waits.
        ready, _ = ray.wait(
            list(references), num_returns=1, timeout=max(0.0, min(left, SLICE_S)), fetch_local=False
        )
        if ready or left <= SLICE_S:
            return ready[0] if ready else None


def get(reference: Any, timeout: float) -> Any:
    """Return a result, or raise what its task raised.

    Raises:
        GetTimeoutError: it is not there in so many seconds.
        EngineLost: Ray cannot run tasks any more.
    """
    import ray

    deadline = time.monotonic() + timeout
    wait([reference], timeout)
    return ray.get(reference, timeout=max(0.1, deadline - time.monotonic()))


def kill(actor: Any) -> None:
    """End an actor, unless Ray is lost: it would wait for what is gone, and its actors end too."""
    import ray

    if _current is None or _current.lost is None:
        ray.kill(actor)


def say(line: str) -> None:
    """Print what was lost, once."""
    if not _said.is_set():
        _said.set()
        print(f"lamella: {printable(line)}", file=sys.stderr, flush=True)


def leave(line: str) -> NoReturn:
    """End this process with exit code 1. Ray's own end would wait for what is gone."""
    say(line)
    if sys.stderr.isatty():
        print("\x1b[?25h", end="", file=sys.stderr, flush=True)  # a progress bar hides the cursor
    os._exit(1)
