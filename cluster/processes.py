"""Processes of this machine as `/proc` shows them: which are ours, and how they fare."""

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Process:
    """A process that was seen alive; `started` keeps it apart from a later one of the same id."""

    id: int
    name: str
    started: str

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped by a signal (SIGSTOP) and can do nothing."""
        facts = _facts(self.id)
        return facts is not None and facts[_STATE] == "T"

    def how_it_ended(self) -> str | None:
        """Return how it ended, as the end of a sentence; None while it lives."""
        facts = _facts(self.id)
        if facts is None or facts[_STARTED] != self.started:
            return "has ended"
        if facts[_STATE] not in "ZX":
            return None
        status = int(facts[_STATUS])
        if os.WIFSIGNALED(status):
            return f"was ended by {signal.Signals(os.WTERMSIG(status)).name}"
        return f"has ended with exit code {os.WEXITSTATUS(status)}"


_STATE, _STARTED, _STATUS = 0, 19, 49
"""Places in /proc/PID/stat behind the name."""


def process(number: int) -> Process | None:
    """Return a process by its id, or None where it is gone."""
    facts = _facts(number)
    if facts is None or facts[_STATE] in "ZX":
        return None
    with contextlib.suppress(OSError):
        return Process(
            number, os.path.basename(os.readlink(f"/proc/{number}/exe")), facts[_STARTED]
        )
    return None


def with_environment(text: str) -> list[Process]:
    """Return the processes of this user that were started with this text in their environment."""
    return [found for number in _holding("environ", text) if (found := process(number))]


def with_command(text: str) -> list[Process]:
    """Return the processes that have this text in their command line."""
    return [found for number in _holding("cmdline", text) if (found := process(number))]


def kill_all(text: str) -> None:
    """End the processes that were started with this text in their environment, at once."""
    for each in with_environment(text):
        with contextlib.suppress(ProcessLookupError):
            os.kill(each.id, signal.SIGKILL)


def _holding(file: str, text: str) -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError), open(f"/proc/{name}/{file}", "rb") as opened:
                if text.encode() in opened.read():
                    yield int(name)


def _facts(number: int) -> list[str] | None:
    try:
        with open(f"/proc/{number}/stat") as file:
            # The name stands in brackets and may hold any character.
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None
