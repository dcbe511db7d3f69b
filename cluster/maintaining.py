"""The commands that care for a store: verify, gc, repair, retry."""

import sys
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from cluster import options
from cluster.progress import ProgressLines
from pipeline.evaluate.page import printable

SHOWN = 20
console = Console()


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(verify)


def _line(text: str, style: str = "") -> None:
    console.print(Text(printable(text)), style=style, soft_wrap=True)


def _emit(value: Any) -> None:
    from cluster.cli import emit

    emit(value)


def verify(
    store: options.Store, as_json: options.Json = False, debug: options.Debug = False
) -> None:
    """Read every file of a store and name what is damaged, and the command that rebuilds it.

    Exit code 1 if anything is damaged. Files that no record names are counted and are no fault.
    """
    from pipeline.store.storage import open_store
    from pipeline.upkeep.verify import verify_store

    opened = open_store(store)
    with ProgressLines(Console(stderr=True), quiet=as_json) as lines:
        found = verify_store(opened, lines.stage)
    if as_json:
        _emit(found.summary())
    else:
        for damage in found.damage[:SHOWN]:
            hurt = ", ".join(str(number) for number in damage.snapshots)
            _line(
                f"{damage.path} {damage.problem}"
                + (f"; snapshot {hurt} answers from it" if hurt else "; no snapshot needs it"),
                "red",
            )
        if len(found.damage) > SHOWN:
            _line(f"and {len(found.damage) - SHOWN:,} more: see --json")
        for sentence in found.unfinished:
            _line(sentence, "yellow")
        size = sum(file.size_bytes for file in found.orphans)
        _line(f"{len(found.orphans):,} files that no record names, {size:,} bytes: no fault")
        _line(
            f"{found.files:,} files, {found.size_bytes:,} bytes, {found.records:,} records: "
            f"{len(found.damage):,} damaged"
        )
        if found.damage:
            _line(f"to rebuild what is damaged, and only that: {found.damage[0].command}")
    if found.damage:
        sys.exit(1)
