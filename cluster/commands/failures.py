"""How commands fail: an exit code by one rule, a line for a person, a JSON object for a script."""

import contextlib
import json
import select
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from lamella.cluster.commands.output import emit
from lamella.cluster.ray.starts import NoRoom, NotStarted
from lamella.cluster.signals import SIGNALLED, json_wanted, stopped_by
from lamella.pipeline import errors
from lamella.pipeline.errors import InputError, StageFailed
from lamella.pipeline.text import printable

FAILED_JOB, WRONG_CALL, NOT_PROMOTED, FOR_A_PERSON, FOR_LATER = 1, 2, 3, 4, 75
"""`main` has the rule. 75 is EX_TEMPFAIL of sysexits.h."""

READER_GONE = 141
"""As a shell shows a process that SIGPIPE ended."""

CODES: dict[type[BaseException], int] = {
    InputError: WRONG_CALL,
    errors.NotPromoted: NOT_PROMOTED,
    # Damage: something has to be mended or brought back.
    errors.CorruptFile: FOR_A_PERSON,
    errors.MissingFile: FOR_A_PERSON,
    errors.NotAFile: FOR_A_PERSON,
    errors.AccountMismatch: FOR_A_PERSON,
    errors.CommitConflict: FOR_A_PERSON,
    errors.NewerFormat: FOR_A_PERSON,
    errors.OlderFormat: FOR_A_PERSON,
    errors.SourceGone: FOR_A_PERSON,
    errors.CardLost: FOR_A_PERSON,
    # Rights.
    errors.NoAccess: FOR_A_PERSON,
    errors.LoginFailed: FOR_A_PERSON,
    errors.NoSuchBucket: FOR_A_PERSON,
    # What comes back by itself.
    errors.StoreUnavailable: FOR_LATER,
    errors.CommitUnknown: FOR_LATER,
    errors.EngineLost: FOR_LATER,
    NoRoom: FOR_LATER,
    NotStarted: FAILED_JOB,
}
"""Exit codes by kind of error; that of an error is the one of its nearest kind, else 1."""

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
        return stopped_by(self.number)


class ReaderGone(Exception):
    """Nobody reads what the command prints any more, as of `lamella status STORE | head -1`."""


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
    except BrokenPipeError as error:  # click would end with 1
        if not reader_is_gone():
            raise
        raise ReaderGone from error
    except _ClickException as error:
        if not json_wanted() and sys.stderr.isatty():
            raise  # a box for people; in a pipe it would be folded
        raise WrongCall(error.format_message()) from error


def reader_is_gone() -> bool:
    """Say whether standard output or standard error is a pipe that nobody reads."""
    ends = select.poll()
    for descriptor in (1, 2):
        ends.register(descriptor, 0)
    return any(what & select.POLLERR for _, what in ends.poll(0))


def code_of(error: BaseException) -> int:
    """Return the exit code of a command that ends with an error; `main` has the rule."""
    if isinstance(error, Stopped):
        return SIGNALLED + error.number
    if isinstance(error, ReaderGone):
        return READER_GONE
    if isinstance(error, StageFailed) and error.kinds:
        return _code_of_tasks({_by_kind(getattr(errors, kind, Exception)) for kind in error.kinds})
    if isinstance(error, errors.CommitUnknown):
        return _by_kind(getattr(errors, errors.kind_of(error)))
    return _by_kind(type(error))


def _by_kind(kind: type[BaseException]) -> int:
    return next((CODES[each] for each in kind.__mro__ if each in CODES), FAILED_JOB)


def _code_of_tasks(codes: set[int]) -> int:
    """Return the code of a stage whose tasks failed by errors of these codes."""
    if codes == {FOR_LATER}:
        return FOR_LATER
    return FOR_A_PERSON if codes <= {FOR_A_PERSON, FOR_LATER} else FAILED_JOB


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
