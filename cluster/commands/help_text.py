"""Help of commands that folds at any width: docstrings are folded at that of the code."""

import inspect
import re

import typer


def unfold_help(app: typer.Typer) -> None:
    """Join the lines of each paragraph in the help of all commands; examples keep a line."""
    for command in app.registered_commands:
        if command.callback is not None:
            command.help = unfolded(inspect.getdoc(command.callback) or "")
    for group in app.registered_groups:
        if group.typer_instance is not None:
            unfold_help(group.typer_instance)


def unfolded(text: str) -> str:
    """Return a text with a line a paragraph; what follows a colon at the end of a line is apart."""
    return re.sub(r"(?<![:\n])\n(?!\n)", " ", text)
