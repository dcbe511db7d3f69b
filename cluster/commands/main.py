"""The `lamella` command: turns every expected error into one line and an exit code."""

import lamella.cluster.start  # noqa: F401 - before anything can be imported from the current folder

# isort: split
import sys
import traceback

from lamella.cluster.commands.cli import app
from lamella.cluster.ray import lifeline
from lamella.pipeline.errors import EngineLost, InputError, LamellaError, NotPromoted
from lamella.pipeline.text import printable

WRONG_CALL, FAILED_JOB, NOT_PROMOTED, STOPPED = 2, 1, 3, 130

LONGEST = 2_000
"""The most characters of a message: some file systems allow names of thousands."""


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

    Exit code 0: done, 1: a job failed, 2: a wrong call, 3: a snapshot was made and not promoted.
    """
    lifeline.in_command = True
    try:
        app(prog_name="lamella")
    except KeyboardInterrupt:
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
