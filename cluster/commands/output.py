"""What commands print: values as JSON for scripts, sentences for people."""

import json
from typing import Any

from rich.console import Console
from rich.text import Text

from lamella.pipeline import events
from lamella.pipeline.text import printable

SHOWN = 20
"""The most lines of one kind that a person is shown; `--json` has them all."""

UNFOLDED = 1_000_000
"""The width of what is no terminal, in characters: a line of a log or a pipe stays whole."""


def unfolded(console: Console) -> Console:
    """Return a console that folds at the width of a terminal, and nowhere in a pipe or a file."""
    if not (console.is_terminal and console.file.isatty()):
        console.width = UNFOLDED
    return console


_console = unfolded(Console())


def begin(text: str, *, quiet: bool) -> None:
    """Say on standard error what a command does first, before it imports what that takes."""
    if not quiet:
        events.say("begun", text)


def emit(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=2, default=str))


def say(text: str, style: str = "") -> None:
    """Print a sentence that may hold names out of a store; a terminal wraps it."""
    _console.print(Text(printable(text)), style=style, soft_wrap=True)
