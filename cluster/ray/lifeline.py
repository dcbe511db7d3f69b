"""Watch whether Ray can still run tasks: a thread watches the processes that Ray needs.

Without its control plane a call of Ray blocks for a minute, then prints its own lines and ends this
process. So our code waits for Ray a second at a time and checks here in between. If the main thread
is inside a call that does not return, the watching thread ends the command.
"""

import contextlib
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from lamella.cluster.ray.processes import Process, children
from lamella.cluster.signals import ENDING
from lamella.pipeline import events
from lamella.pipeline.errors import EngineLost
from lamella.pipeline.scratch import remove_ours

LOOK_S = 0.1
ASK_S = 5.0
STOPPED_S = 10.0
"""A process of Ray that has been stopped for this long counts as lost."""

SILENT_S = 20.0
"""A cluster that has not answered for this long counts as lost."""

LEAVE_S = 4.0
"""How long the main thread may take to notice a loss; after 5 s Ray starts to print."""

SLICE_S = 1.0

CALLED = {"gcs_server": "control plane (gcs_server)", "raylet": "scheduler (raylet)"}
"""The processes that Ray needs, by the names of their programs."""


in_command = False
"""Whether this process is our command line, which a loss of Ray ends, and not a user's program."""

last_words: Callable[[str], None] | None = None
"""Called with the line by the process that ends: the command line may have more to print."""

_current: "Lifeline | None" = None
_said = threading.Event()
_leaving = threading.Lock()
_stopped: tuple[str, int] | None = None
"""What to say, and the exit code, once a signal has asked this command to end."""

ENOUGH_S = 12.0
"""How long a command may take to close what it has open, once it is asked to end."""

_code_of_loss = 1
_holding = 0
_due: BaseException | None = None
"""What is raised once the last `held` block ends."""


class Lifeline:
    """Watches one Ray. `lost` says in one line what was lost; None while all is well.

    `_watched` counts, for each process, in how many looks in a row it was stopped.
    """

    def __init__(self, end_ours: Callable[[], None] | None) -> None:
        """Watch nothing yet. `end_ours` ends our own Ray at once; None for a joined one."""
        self.lost: str | None = None
        self._end_ours = end_ours
        # An earlier Ray may have left some processes that have ended.
        self._not_ours = set(children()) if end_ours else set()
        self._watched: dict[Process, int] = {}
        self._answers: Callable[[], bool] | None = None
        self._address = ""
        self._next_ask = self._answered = time.monotonic()
        self._left = threading.Event()

    def watch_joined(
        self, address: str, processes: Sequence[Process], answers: Callable[[], bool]
    ) -> None:
        """Watch a joined Ray: its processes on this machine, and whether it answers."""
        self._watched = {each: 0 for each in processes if each.name in CALLED}
        self._answered = time.monotonic()
        self._address, self._answers = address, answers

    def look(self) -> str | None:
        """Check all processes; return what is lost."""
        self._find_ours()
        for process in list(self._watched):
            if (how := process.how_it_ended()) is not None:
                self._lose(process, how)
        return self.lost

    def count_stopped(self) -> None:
        """Count how long processes have been stopped; called by the watching thread alone.

        Counts looks, not seconds: Ctrl-Z stops the whole job, and the looks with it.
        """
        for process, looks in list(self._watched.items()):
            self._watched[process] = looks + 1 if process.is_stopped else 0
            if self._watched[process] * LOOK_S > STOPPED_S:
                self._lose(process, f"has been stopped (SIGSTOP) for {STOPPED_S:g} s")

    @property
    def is_stopped(self) -> bool:
        """Whether a process of Ray is stopped now, so that calls of Ray may not return."""
        return any(each.is_stopped for each in list(self._watched))

    def settle(self) -> None:
        """Wait while a process of Ray is stopped.

        Raises:
            EngineLost: it stays stopped, or one has ended.
        """
        while self.look() is None and self.is_stopped:
            time.sleep(LOOK_S)
        check()

    def _lose(self, process: Process, how: str) -> None:
        if self.lost is None:
            what = f"Ray's {CALLED[process.name]}, process {process.id}, {how}"
            self.lost = f"{what}: what is done stays done; run the same command again"

    def _find_ours(self) -> None:
        """Find the processes of our own Ray while it starts."""
        if self._end_ours is not None and len(self._watched) < len(CALLED):
            for process in children():
                if process.name in CALLED and process not in self._not_ours:
                    self._watched.setdefault(process, 0)

    def ask(self) -> None:
        """Ask a joined Ray whether it answers, if it is time to."""
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
        """Watch until the connection ends; after a loss make sure that the command ends."""
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # the main thread shall hear them
        while not self._is_left():
            self.ask()
            self.count_stopped()
            if self.look() is None:
                continue
            if in_command:
                say(str(self.lost))
            if not self._left.wait(LEAVE_S):
                self.end_ours()
                if in_command:
                    leave(str(self.lost))
            return

    def _is_left(self) -> bool:
        """Wait for the next look, or until a process has ended; say if the watch is over.

        The kernel reports an end at once, which matters: if the main thread is about to call Ray,
        that call may soon end this process.
        """
        ends, handles = select.poll(), []
        for process in list(self._watched):
            with contextlib.suppress(OSError):
                handles.append(os.pidfd_open(process.id))
                ends.register(handles[-1], select.POLLIN)
        ends.poll(LOOK_S * 1000)
        for handle in handles:
            # As a Ray of this process ends, one was once found closed; the watch must go on.
            with contextlib.suppress(OSError):
                os.close(handle)
        return self._left.is_set()

    def end_ours(self) -> None:
        """End our own Ray at once."""
        if self._end_ours is not None:
            self._end_ours()

    def leave(self) -> None:
        """End the watch."""
        self._left.set()


@contextmanager
def watched(end_ours: Callable[[], None] | None = None) -> Iterator[Lifeline]:
    """Watch the Ray that is started or joined inside the block.

    Args:
        end_ours: ends our own Ray, in case the main thread waits for it in vain.
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
    """Check that Ray can run tasks.

    Raises:
        EngineLost: it cannot.
    """
    # Checked right now: `ray.put` with a dead scheduler ends this process silently.
    if _current is not None and (lost := _current.look()) is not None:
        raise EngineLost(lost)


def wait(references: Sequence[Any], timeout: float) -> Any | None:
    """Return one reference that has a result, or None after `timeout` seconds without one.

    Raises:
        EngineLost: Ray cannot run tasks any more.
    """
    import ray

    deadline = time.monotonic() + timeout
    while True:
        check()
        left = deadline - time.monotonic()
        # Do not fetch results here: fetching one may take longer than the timeout.
        ready, _ = ray.wait(
            list(references), num_returns=1, timeout=max(0.0, min(left, SLICE_S)), fetch_local=False
        )
        if ready or left <= SLICE_S:
            return ready[0] if ready else None


def get(reference: Any, timeout: float) -> Any:
    """Return a result, or raise what its task raised.

    Raises:
        GetTimeoutError: there is no result after `timeout` seconds.
        EngineLost: Ray cannot run tasks any more.
    """
    import ray

    deadline = time.monotonic() + timeout
    wait([reference], timeout)
    return ray.get(reference, timeout=max(0.1, deadline - time.monotonic()))


def kill(actor: Any) -> None:
    """End an actor, unless Ray is lost: Ray would wait in vain, and its actors end anyway."""
    import ray

    if _current is None or _current.lost is None:
        ray.kill(actor)


def begin_command(code_of_loss: int) -> None:
    """Note that this process is our command line, which has said nothing yet.

    Args:
        code_of_loss: the exit code where Ray is lost.
    """
    global in_command, _stopped, _code_of_loss, _due
    in_command, _stopped, _code_of_loss, _due = True, None, code_of_loss, None
    _said.clear()


def stop(stopped: BaseException, code: int) -> None:
    """End this command by an error, because of a signal; called by the handler of signals.

    It is raised at once, or as the last `held` block ends. Whatever is lost from here on, the
    command says what the error says and ends with this code: the signal may have hit Ray too. If
    what is open is not closed in time, such as a connection to a server that does not answer, the
    process ends without.
    """
    global _stopped, _due
    _stopped = str(stopped), code
    threading.Thread(target=_end_late, args=(_stopped,), daemon=True).start()
    if _holding:
        _due = stopped
        return
    raise stopped


@contextmanager
def held() -> Iterator[None]:
    """Let a stop wait until the block ends: what starts or ends Ray is not to be left half-way."""
    global _holding, _due
    _holding += 1
    try:
        yield
    finally:
        _holding -= 1
        if not _holding and _due is not None:
            due, _due = _due, None
            raise due


def _end_late(mine: tuple[str, int]) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    time.sleep(ENOUGH_S)
    if in_command and _stopped is mine:
        end_now()


def end_now() -> NoReturn:
    """End this process, with our own Ray and what it has in scratch folders."""
    if _current is not None:
        _current.end_ours()
    remove_ours()
    leave("")


def say(line: str) -> None:
    """Print what was lost, once, or that the command was stopped."""
    if not _said.is_set():
        _said.set()
        text = _stopped[0] if _stopped is not None else f"lamella: {line}"
        event = "stopped" if _stopped is not None else "engine-lost"
        with contextlib.suppress(OSError):  # the terminal may be gone
            events.say(event, text, logging.ERROR)


def leave(line: str, code: int | None = None, words: Callable[[], None] | None = None) -> NoReturn:
    """End this process, with these words and this exit code or those of a loss.

    Unless it was stopped: then with those of the stop.

    Ray's own shutdown would wait for lost processes.
    """
    _leaving.acquire()  # for ever: two threads may notice the loss, and one ends the process
    say(line)
    if words is not None and _stopped is None:
        words()
    elif last_words is not None:
        last_words(line)
    if sys.stderr.isatty():
        print("\x1b[?25h", end="", file=sys.stderr, flush=True)  # a progress bar hides the cursor
    if _stopped is not None:
        code = _stopped[1]
    os._exit(_code_of_loss if code is None else code)
