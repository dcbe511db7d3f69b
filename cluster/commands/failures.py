"""How commands fail: an exit code by one rule, a line for a person, a JSON object for a script."""

import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from lamella.cluster.commands.output import emit
from lamella.pipeline.errors import InputError, NotPromoted
from lamella.pipeline.text import printable

FAILED_JOB, WRONG_CALL, NOT_PROMOTED, SIGNALLED = 1, 2, 3, 128

LONGEST = 2_000
"""The most characters of a message: some file systems allow names of thousands."""

_ClickException: Any = next(
    each for each in typer.BadParameter.__mro__ if each.__name__ == "ClickException"
)
"""What typer raises for a wrong call. Newer versions bring a click of their own."""


class WrongCall(InputError):
    """A command line that cannot be read: an unknown option, or a missing argument."""


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


class Told(Exception):
    """Ends a command whose error, the cause of this one, stands in the JSON that it printed."""


class Commands(TyperGroup):
    """A group of commands in which a wrong call is told in JSON too, where JSON is wanted."""

    def make_context(self, *arguments: Any, **named: Any) -> Any:
        """See click."""
        with _wrong_calls():
            return super().make_context(*arguments, **named)

    def invoke(self, *arguments: Any, **named: Any) -> Any:
        """See click."""
        with _wrong_calls():
            return super().invoke(*arguments, **named)


@contextlib.contextmanager
def _wrong_calls() -> Iterator[None]:
    try:
        yield
    except _ClickException as error:
        if not json_wanted() and sys.stderr.isatty():
            raise  # a box for people; in a pipe it would be folded
        raise WrongCall(error.format_message()) from error


def json_wanted() -> bool:
    """Say whether the command line asks for JSON, also where it cannot be read otherwise."""
    given = sys.argv[1:]
    return "--json" in given[: given.index("--") if "--" in given else None]


def code_of(error: BaseException) -> int:
    """Return the exit code of a command that ends with an error; `main` has the rule."""
    if isinstance(error, Stopped):
        return SIGNALLED + error.number
    if isinstance(error, NotPromoted):
        return NOT_PROMOTED
    return WRONG_CALL if isinstance(error, InputError) else FAILED_JOB


def in_one_line(error: BaseException) -> str:
    """Return a message as one line; cut a long one in the middle: its end says what to do."""
    text = printable(" ".join(str(error).split()))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 600]} ... {text[-600:]}"


def as_value(error: BaseException) -> dict[str, Any]:
    """Return an error as a plain value: `code`, the exit code; `kind`; and `message`."""
    kind, message = type(error).__name__, in_one_line(error) or type(error).__name__
    return {"code": code_of(error), "kind": kind, "message": message}


def tell(error: BaseException) -> None:
    """Print an error as the one JSON value of a command that has no other."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # stdout is full or closed
        print(json.dumps({"error": as_value(error)}, indent=2), flush=True)


def emit_failed(value: dict[str, Any], error: Exception) -> NoReturn:
    """Print what a command has found, and beside it why it fails all the same."""
    emit(value | {"error": as_value(error)})
    raise Told from error


def stop_behind(error: BaseException | None) -> Stopped | None:
    """Return the stop that led to an error, None if none did: compiled code makes others of it."""
    while error is not None and not isinstance(error, Stopped):
        error = error.__cause__ or error.__context__
    return error
