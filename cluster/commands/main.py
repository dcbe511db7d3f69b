"""The `lamella` command: turns every expected error into one line and an exit code."""

import lamella.cluster.start  # noqa: F401 - before anything can be imported from the current folder

# isort: split
import contextlib
import io
import logging
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from lamella.cluster.commands.cli import app
from lamella.cluster.commands.failures import (
    FAILED_JOB,
    Stopped,
    Told,
    code_of,
    in_one_line,
    json_wanted,
    stop_behind,
    tell,
)
from lamella.cluster.ray import lifeline
from lamella.pipeline import events
from lamella.pipeline.errors import EngineLost, LamellaError
from lamella.pipeline.text import printable

PATIENCE_S = 5.0
"""For so long after such a signal another one is not heard, while what was open is closed."""

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, what schedulers send first, and the end of a terminal."""


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Raise `Stopped` at Ctrl-C and the like inside the block."""
    heard: list[float] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if not heard or time.monotonic() - heard[-1] > PATIENCE_S:
            heard.append(time.monotonic())
            stopped = Stopped(number)
            lifeline.expect_end(str(stopped), code_of(stopped))
            lifeline.last_words = lambda line: _tell(stopped)
            raise stopped

    # `nohup` has SIGHUP ignored, and it stays so.
    ignored = [each for each in ENDING[1:] if signal.getsignal(each) == signal.SIG_IGN]
    before = {each: signal.signal(each, stop) for each in ENDING if each not in ignored}
    try:
        yield
    finally:
        # Once stopped, the process ends, and another signal shall not change its exit code.
        for each, handler in before.items():
            signal.signal(each, signal.SIG_IGN if heard else handler)


def _print_anything() -> None:
    """Escape what the encoding of an output has no letter for, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where it is closed
            stream.reconfigure(errors="backslashreplace")


def _show_plainly(error: BaseException) -> None:
    """Print a traceback as plain text: it may hold names from pictures and stores."""
    text = "".join(traceback.format_exception(error))
    print("\n".join(printable(line) for line in text.split("\n")), end="", file=sys.stderr)


def _tell(error: BaseException) -> None:
    """Print an error as JSON, where the command was to print JSON."""
    if json_wanted():
        tell(error)


def _say(error: BaseException) -> NoReturn:
    """Print an error for a person, and end with its exit code."""
    if (stopped := stop_behind(error)) is not None:
        lifeline.say(str(stopped))
        sys.exit(code_of(stopped))
    if "--debug" in sys.argv or not isinstance(error, LamellaError | OSError):
        _show_plainly(error)
        sys.exit(FAILED_JOB)
    events.say("failed", f"lamella: {in_one_line(error)}", logging.ERROR)
    sys.exit(code_of(error))


def main() -> None:
    """Run the command line.

    One rule gives the exit code, for all commands:

    - 0: done. Of a query: at least one picture was answered.
    - 1: the work failed, or `verify`, `repair` or `forget --check` found something.
    - 2: what was given cannot be used: options, settings, a source, or pictures of which none can
      be read.
    - 3: a snapshot was made and not promoted.
    - 130: stopped by Ctrl-C; 143 and 129 by SIGTERM and SIGHUP.

    With `--json` stdout has one JSON value in any case. That of a command that fails is an object
    with `error`; stderr has the same in a line for a person.
    """
    lifeline.begin_command()
    lifeline.last_words = lambda line: _tell(EngineLost(line))
    _print_anything()
    try:
        with _stoppable():
            app(prog_name="lamella")
    except Stopped as stopped:
        _tell(stopped)
        _say(stopped)
    except EngineLost as error:
        lifeline.leave(str(error))
    except Told as told:
        _say(told.__cause__ or told)
    except Exception as error:
        _tell(stop_behind(error) or error)
        _say(error)
