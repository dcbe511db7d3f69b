"""Processes of this machine, from `/proc`: their parents and states."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lamella.pipeline.import_path import path_of_children, python_running

_STATE, _PARENT, _STARTED, _STATUS = 0, 1, 19, 49
"""Indices of fields in /proc/PID/stat after the name."""


@dataclass(frozen=True)
class Process:
    """A process, living or ended; `started` tells it from a later one with the same id."""

    id: int
    name: str
    started: str

    @property
    def is_stopped(self) -> bool:
        """Whether it is stopped (SIGSTOP)."""
        facts = _facts(self.id)
        return facts is not None and facts[1][_STATE] == "T"

    def how_it_ended(self) -> str | None:
        """Return how it ended, as the end of a sentence; None while it lives."""
        facts = _facts(self.id)
        if facts is None or facts[1][_STARTED] != self.started:
            return "has ended"
        if facts[1][_STATE] not in "ZX":
            return None
        status = int(facts[1][_STATUS])
        if os.WIFSIGNALED(status):
            return f"was ended by {signal.Signals(os.WTERMSIG(status)).name}"
        return f"has ended with exit code {os.WEXITSTATUS(status)}"


def children() -> list[Process]:
    """Return the processes that this one has started, including ended ones."""
    found = ((number, _facts(number)) for number in _all())
    return [
        Process(number, facts[0], facts[1][_STARTED])
        for number, facts in found
        if facts is not None and facts[1][_PARENT] == str(os.getpid())
    ]


def lives(number: int) -> bool:
    """Say whether a process with this id lives."""
    facts = _facts(number)
    return facts is not None and facts[1][_STATE] not in "ZX"


def with_argument(argument: str) -> list[Process]:
    """Return the processes that were called with this argument."""
    found = []
    for number in _all():
        with contextlib.suppress(OSError):
            command = _read(f"/proc/{number}/cmdline").split(b"\0")
            facts = _facts(number)
            if argument.encode() in command and facts is not None:
                found.append(Process(number, facts[0], facts[1][_STARTED]))
    return found


def kill_writers(folder: Path, spare: int = 0) -> None:
    """End all other processes that have a file below a folder open for writing.

    Processes of Ray have their logs open. Their environment and command line are no help, as Ray
    overwrites both with titles.

    Args:
        spare: the id of one more process to leave alone.
    """
    for number in _all():
        with contextlib.suppress(OSError):
            if number not in (os.getpid(), spare) and _writes_into(number, f"{folder}/"):
                os.kill(number, signal.SIGKILL)


@contextmanager
def killed_after(seconds: float, folder: Path) -> Iterator[None]:
    """Let another process call `kill_writers` if the block takes too long.

    A thread could not: Ray holds Python's lock while it waits for its processes.
    """
    code = (
        "import os, select; from lamella.cluster.ray.processes import Path, kill_writers; "
        f"select.select([0], [], [], {seconds})[0] or "
        f"kill_writers(Path({str(folder)!r}), os.getppid())"
    )
    environment = os.environ | path_of_children()
    with subprocess.Popen(
        python_running(code), stdin=subprocess.PIPE, env=environment, cwd="/"
    ) as other:
        try:
            yield
        finally:
            assert other.stdin is not None
            other.stdin.close()


def _writes_into(number: int, prefix: str) -> bool:
    for handle in Path(f"/proc/{number}/fd").iterdir():
        with contextlib.suppress(OSError):
            # The link has write permission if the file was opened for writing.
            if os.readlink(handle).startswith(prefix) and handle.lstat().st_mode & 0o200:
                return True
    return False


def _all() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _facts(number: int) -> tuple[str, list[str]] | None:
    """Return a process's name and the fields after it; None if it has ended."""
    try:
        text = _read(f"/proc/{number}/stat").decode(errors="replace")
    except OSError:
        return None
    # The name is in brackets and may contain any character.
    before, _, after = text.rpartition(")")
    return before.partition("(")[2], after.split()


def _read(path: str) -> bytes:
    """Return the contents of a file in /proc, without the cost of Python's file objects."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 1 << 20)
    finally:
        os.close(descriptor)
