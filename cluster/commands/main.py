"""The `lamella` command: turns every expected error into one line and an exit code."""

import lamella.cluster.start  # noqa: F401 - before anything can be imported from the current folder

# isort: split
import contextlib
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from types import FrameType

from lamella.cluster.commands.cli import app
from lamella.cluster.commands.failures import (
    FAILED_JOB,
    Stopped,
    Told,
    code_of,
    in_one_line,
    json_wanted,
    tell,
)
from lamella.cluster.ray import lifeline
from lamella.pipeline.errors import EngineLost, LamellaError
from lamella.pipeline.text import printable

PATIENCE_S = 5.0
"""For so long after Ctrl-C another one is not heard, while what was open is closed."""


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Raise `Stopped` at Ctrl-C inside the block."""
    heard: list[float] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if not heard or time.monotonic() - heard[-1] > PATIENCE_S:
            heard.append(time.monotonic())
            raise Stopped

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        # Once stopped, the process ends, and another Ctrl-C shall not change its exit code.
        signal.signal(signal.SIGINT, signal.SIG_IGN if heard else before)


def _show_plainly(error: BaseException) -> None:
    """Print a traceback as plain text: it may hold names from pictures and stores."""
    text = "".join(traceback.format_exception(error))
    print("\n".join(printable(line) for line in text.split("\n")), end="", file=sys.stderr)


def _tell(error: BaseException) -> None:
    """Print an error as JSON, where the command was to print JSON."""
    if json_wanted():
        tell(error)


def _say(error: BaseException) -> None:
    """Print an error for a person, and end with its exit code."""
    if "--debug" in sys.argv or not isinstance(error, LamellaError | OSError):
        _show_plainly(error)
        sys.exit(FAILED_JOB)
    print(f"lamella: {in_one_line(error)}", file=sys.stderr)
    sys.exit(code_of(error))


def main() -> None:
    """Run the command line.

    One rule gives the exit code, for all commands:

    - 0: done. Of a query: at least one picture was answered.
    - 1: the work failed, or `verify`, `repair` or `forget --check` found something.
    - 2: what was given cannot be used: options, settings, a source, or pictures of which none can
      be read.
    - 3: a snapshot was made and not promoted.
    - 130: stopped by Ctrl-C.

    With `--json` stdout has one JSON value in any case. That of a command that fails is an object
    with `error`; stderr has the same in a line for a person.
    """
    lifeline.in_command = True
    lifeline.last_words = lambda line: _tell(EngineLost(line))
    try:
        with _stoppable():
            app(prog_name="lamella")
    except Stopped as stopped:
        _tell(stopped)
        print(stopped, file=sys.stderr)
        sys.exit(code_of(stopped))
    except EngineLost as error:
        lifeline.leave(str(error))
    except Told as told:
        _say(told.__cause__ or told)
    except Exception as error:
        _tell(error)
        _say(error)
