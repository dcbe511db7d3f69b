"""The `lamella` command: turns every expected error into one line and an exit code."""

import lamella.cluster.start  # noqa: F401 - before anything can be imported from the current folder

# isort: split
import contextlib
import io
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from functools import partial
from types import FrameType
from typing import Any, NoReturn

from rich.console import Console

from lamella.cluster.commands.cli import app
from lamella.cluster.commands.failures import (
    FAILED_JOB,
    ReaderGone,
    Stopped,
    Told,
    code_of,
    in_one_line,
    stop_behind,
    tell,
)
from lamella.cluster.ray import lifeline
from lamella.cluster.signals import ENDING, json_wanted
from lamella.pipeline import events
from lamella.pipeline.errors import EngineLost, LamellaError
from lamella.pipeline.text import printable

PATIENCE_S = 5.0
"""For so long after a signal to end another one is not heard, while what was open is closed: some
schedulers send it twice. A later one ends the process at once."""
AGAIN_S = 0.05


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Raise `Stopped` at Ctrl-C and the like inside the block."""
    heard: list[float] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if not heard:
            heard.append(time.monotonic())
            stopped = Stopped(number)
            lifeline.last_words = lambda line: _tell(stopped)
            lifeline.stop(stopped, code_of(stopped))
        elif time.monotonic() - heard[0] > PATIENCE_S and lifeline.in_command:
            lifeline.end_now()

    def unheard(lost: Any) -> None:
        if not isinstance(lost.exc_value, Stopped):
            show(lost)
            return
        # It was raised where Python ignores errors, such as in `__del__`: so once more.
        heard.clear()
        threading.Timer(AGAIN_S, os.kill, (os.getpid(), lost.exc_value.number)).start()

    # `nohup` has SIGHUP ignored, and it stays so.
    ignored = [each for each in ENDING[1:] if signal.getsignal(each) == signal.SIG_IGN]
    before = {each: signal.signal(each, stop) for each in ENDING if each not in ignored}
    show, sys.unraisablehook = sys.unraisablehook, unheard
    try:
        yield
    finally:
        sys.unraisablehook = show
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


def _reader_gone(console: Console) -> NoReturn:
    """Raise what `main` knows; rich itself would end with 1."""
    raise ReaderGone


def _leave_quietly(error: ReaderGone) -> NoReturn:
    """End without a word; what is still to be printed goes nowhere, or Python would complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    sys.exit(code_of(error))


def _run() -> None:
    """Run the command, and print what it has not printed yet."""
    try:
        app(prog_name="lamella")
    finally:
        try:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None and not stream.closed:
                    stream.flush()
        except BrokenPipeError as error:
            raise ReaderGone from error


def main() -> None:
    """Run the command line.

    One rule gives the exit code, for all commands:

    - 0: done. Of a query: at least one picture was answered.
    - 1: the work failed, or a check found something: a plan that does not fit, what
      `forget --check` found.
    - 2: what was given cannot be used: options, settings, a source, or pictures of which none can
      be read.
    - 3: a snapshot was made and not promoted.
    - 4: it needs a person, and the same command fails until somebody has done something: files of
      the store are damaged, also where `verify` or `repair` found that, or rights are missing.
    - 75: try later; the same command helps without anybody doing anything: the store does not
      answer, the cluster is full, away, or lost meanwhile.
    - 130: stopped by Ctrl-C; 143 and 129 by SIGTERM and SIGHUP.
    - 141: nobody reads what it prints any more, as of a process that SIGPIPE ended.

    Where tasks failed, their errors decide: 75 where all of them are of that kind, 4 where all are
    of these two kinds, else 1. `CODES` in `failures.py` has the kinds.

    With `--json` stdout has one JSON value in any case. That of a command that fails is an object
    with `error`; stderr has the same in a line for a person.
    """
    lifeline.begin_command(code_of(EngineLost()))
    lifeline.last_words = lambda line: _tell(EngineLost(line))
    _print_anything()
    Console.on_broken_pipe = _reader_gone  # type: ignore[assignment, method-assign]
    try:
        with _stoppable():
            _run()
    except Stopped as stopped:
        _tell(stopped)
        _say(stopped)
    except EngineLost as error:
        lifeline.leave(str(error), code_of(error), partial(_tell, error))
    except ReaderGone as error:
        _leave_quietly(error)
    except Told as told:
        _say(told.__cause__ or told)
    except Exception as error:
        _tell(stop_behind(error) or error)
        _say(error)
