"""The `lamella` command: turns every expected error into one line and an exit code."""

import lamella.cluster.start  # noqa: F401 - before anything can be imported from the current folder

# isort: split
import contextlib
import io
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from lamella.cluster.commands.cli import app
from lamella.cluster.ray import lifeline
from lamella.pipeline.errors import EngineLost, InputError, LamellaError, NotPromoted
from lamella.pipeline.text import printable

WRONG_CALL, FAILED_JOB, NOT_PROMOTED, SIGNALLED = 2, 1, 3, 128

LONGEST = 2_000
"""The most characters of a message: some file systems allow names of thousands."""


class Stopped(BaseException):
    """Ctrl-C, or another signal to end. Of a kind of its own, because the command line's library
    ends a command at Python's before it can say that it continues.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    def __str__(self) -> str:
        by = "" if self.number == signal.SIGINT else f" by {signal.Signals(self.number).name}"
        return f"stopped{by}; what is done stays done: the same command continues"


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
            lifeline.expect_end(str(stopped), SIGNALLED + number)
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


def _in_one_line(error: BaseException) -> str:
    """Return a message as one line; cut a long one in the middle: its end says what to do."""
    text = printable(" ".join(str(error).split()))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 600]} ... {text[-600:]}"


def _stop_behind(error: BaseException | None) -> Stopped | None:
    """Return the stop that led to an error, None if none did: compiled code makes others of it."""
    while error is not None and not isinstance(error, Stopped):
        error = error.__cause__ or error.__context__
    return error


def _end(stopped: Stopped) -> NoReturn:
    lifeline.say(str(stopped))
    sys.exit(SIGNALLED + stopped.number)


def _code(error: BaseException) -> int:
    if isinstance(error, NotPromoted):
        return NOT_PROMOTED
    return WRONG_CALL if isinstance(error, InputError) else FAILED_JOB


def main() -> None:
    """Run the command line.

    Exit code 0: done, 1: a job failed, 2: a wrong call, 3: a snapshot was made and not promoted,
    130: stopped by Ctrl-C, 143 and 129: by SIGTERM and SIGHUP.
    """
    lifeline.begin_command()
    _print_anything()
    try:
        with _stoppable():
            app(prog_name="lamella")
    except Stopped as stopped:
        _end(stopped)
    except EngineLost as error:
        lifeline.leave(str(error))
    except Exception as error:
        if (found := _stop_behind(error)) is not None:
            _end(found)
        if "--debug" in sys.argv or not isinstance(error, LamellaError | OSError):
            _show_plainly(error)
            sys.exit(FAILED_JOB)
        print(f"lamella: {_in_one_line(error)}", file=sys.stderr)
        sys.exit(_code(error))
