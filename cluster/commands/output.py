"""What commands print: values as JSON for scripts, sentences for people."""

import json
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from lamella.pipeline.text import printable

SHOWN = 20
"""The most lines of one kind that a person is shown; `--json` has them all."""

_console = Console()


def begin(text: str, *, quiet: bool) -> None:
    """Say on standard error what a command does first, before it imports what that takes."""
    if not quiet:
        print(printable(text), file=sys.stderr, flush=True)


def emit(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=2, default=str))


def say(text: str, style: str = "") -> None:
    """Print a sentence that may hold names out of a store; a terminal wraps it."""
    _console.print(Text(printable(text)), style=style, soft_wrap=True)
