"""The signals that end a command, and what it says then."""

import signal
import sys

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, what schedulers send first, and the end of a terminal."""

SIGNALLED = 128
"""The exit code of a command that a signal ended, less the signal's number."""


def stopped_by(number: int) -> str:
    """Return the line of a command that a signal ended."""
    by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    return f"stopped{by}; what is done stays done: the same command continues"


def json_wanted() -> bool:
    """Say whether the command line asks for JSON, also where it cannot be read otherwise."""
    given = sys.argv[1:]
    return "--json" in given[: given.index("--") if "--" in given else None]
