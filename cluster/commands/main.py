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
from lamella.cluster.ray import lifeline
from lamella.pipeline.errors import EngineLost, InputError, LamellaError, NotPromoted
from lamella.pipeline.text import printable

WRONG_CALL, FAILED_JOB, NOT_PROMOTED, STOPPED = 2, 1, 3, 130

LONGEST = 2_000
"""The most characters of a message: some file systems allow names of thousands."""


class Stopped(BaseException):
    """Ctrl-C. Of a kind of its own, because the command line's library ends a command at Python's
    before it can say that it continues.
    """


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


def _in_one_line(error: BaseException) -> str:
    """Return a message as one line; cut a long one in the middle: its end says what to do."""
    text = printable(" ".join(str(error).split()))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 600]} ... {text[-600:]}"


def _code(error: BaseException) -> int:
    if isinstance(error, NotPromoted):
        return NOT_PROMOTED
    return WRONG_CALL if isinstance(error, InputError) else FAILED_JOB


def main() -> None:
    """Run the command line.

    Exit code 0: done, 1: a job failed, 2: a wrong call, 3: a snapshot was made and not promoted,
    130: stopped by Ctrl-C.
    """
    lifeline.in_command = True
    try:
        with _stoppable():
            app(prog_name="lamella")
    except Stopped:
        print("stopped; what is done stays done: the same command continues", file=sys.stderr)
        sys.exit(STOPPED)
    except EngineLost as error:
        lifeline.leave(str(error))
    except Exception as error:
        if "--debug" in sys.argv or not isinstance(error, LamellaError | OSError):
            _show_plainly(error)
            sys.exit(FAILED_JOB)
        print(f"lamella: {_in_one_line(error)}", file=sys.stderr)
        sys.exit(_code(error))
