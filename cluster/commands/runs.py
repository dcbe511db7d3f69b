"""`lamella runs`: list the runs of a store, and remove some."""

import datetime
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from lamella.cluster.commands import options
from lamella.cluster.commands.output import emit, say, unfolded
from lamella.pipeline.text import byte_size

if TYPE_CHECKING:
    from lamella.pipeline.upkeep.runs import Run

console = unfolded(Console())


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(runs)


def runs(
    store: options.Store,
    remove: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Remove this run; may be given several times."),
    ] = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """List runs: what was asked of which snapshot, when, and what it takes; remove some.

    Runs are rankings of [bold]lamella query[/], reports of [bold]lamella evaluate[/], and features
    of query pictures, which [bold]lamella gc[/] removes after 30 days. All others stay until they
    are removed here: [bold]lamella runs ./index --remove pairs[/]
    """
    from lamella.pipeline.store.storage import open_store
    from lamella.pipeline.upkeep.runs import list_runs, remove_run

    opened = open_store(store)
    wanted = list(dict.fromkeys(remove or ()))
    if wanted:
        known = {run.name for run in list_runs(opened)}
        # An unknown name is an error before anything is removed.
        for name in sorted(wanted, key=lambda name: name in known):
            freed = remove_run(opened, name)
            if not as_json:
                say(f"run {name} was removed, {byte_size(freed)}")
    left = list_runs(opened)
    if as_json:
        emit({"removed": wanted, "runs": [_plain(run) for run in left]})
        return
    if not left:
        say("no runs")
    elif not wanted:
        show_runs(console, left)


def _plain(run: "Run") -> dict[str, object]:
    """Return a run as plain values, with its time as text."""
    at = datetime.datetime.fromtimestamp(run.modified, datetime.UTC)
    return asdict(run) | {"modified": at.isoformat(timespec="seconds")}


def show_runs(console: Console, listed: "list[Run]") -> None:
    """Print a row for each run."""
    from lamella.cluster.commands.show import plain

    table = Table(
        Column("run", overflow="fold"),
        Column("asked", overflow="fold"),
        Column("snapshot", no_wrap=True),
        Column("age", justify="right", no_wrap=True),
        Column("size", justify="right", no_wrap=True),
    )
    for run in listed:
        asked = f"{run.kind}: {run.asked}"
        table.add_row(
            plain(run.name),
            plain(asked if run.kind != "features" else run.asked),
            _snapshot(run),
            age(time.time() - run.modified),
            byte_size(run.size_bytes),
        )
    console.print(table)


def _snapshot(run: "Run") -> str:
    """Return the number of the snapshot that a run asked, and whether it is gone."""
    if run.snapshot is None:
        return run.root_digest[:12] if run.root_digest else "-"
    return f"{run.snapshot} expired" if run.expired else str(run.snapshot)


def age(seconds: float) -> str:
    """Return an age in its largest unit, as `--older-than` of `gc` takes it: 3d, 5h, 12m, 40s."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{max(0, int(seconds))}s"
