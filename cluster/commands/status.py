"""The commands that describe a store: status, snapshots."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from lamella.cluster.commands import options
from lamella.cluster.commands.output import emit
from lamella.pipeline.text import printable

console = Console()


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(status)
    app.command()(snapshots)


def status(
    store: options.Store, as_json: options.Json = False, debug: options.Debug = False
) -> None:
    """Show what a store holds: corpora, stages, refused pictures and why, the current snapshot."""
    from lamella.pipeline.jobs.status import store_status
    from lamella.pipeline.store.storage import open_store

    found = store_status(open_store(store))
    if as_json:
        emit(found)
        return
    from lamella.cluster.commands.show import show_status

    show_status(console, found)


def snapshots(
    store: options.Store,
    promote: Annotated[
        int | None, typer.Option(help="Make this snapshot the one that queries use.")
    ] = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """List snapshots; promote one, which is also how to roll back."""
    from lamella.pipeline.index import publish
    from lamella.pipeline.index.expired import snapshot_numbers
    from lamella.pipeline.index.tags import read_tags
    from lamella.pipeline.store.storage import open_store

    opened = open_store(store)
    if promote is not None:
        publish.promote(opened, promote)
    current = publish.current_snapshot(opened)
    listed = [publish.read_snapshot(opened, number) for number in snapshot_numbers(opened)]
    tags: dict[int, list[str]] = {}
    for name, number in sorted(read_tags(opened).items()):
        tags.setdefault(number, []).append(name)
    if as_json:
        emit(
            [summary(s) | {"current": s == current, "tags": tags.get(s.number, [])} for s in listed]
        )
        return
    table = Table(
        Column("snapshot", no_wrap=True),
        Column("published", no_wrap=True),
        Column("corpus", overflow="fold"),
        *("pictures", "refused"),
        Column("root", no_wrap=True),
    )
    for snapshot in listed:
        mark = " [green]current[/]" if snapshot == current else ""
        mark += "".join(f" [blue]{name}[/]" for name in tags.get(snapshot.number, []))
        table.add_row(
            f"{snapshot.number}{mark}",
            Text(printable(snapshot.published_at[:16].replace("T", " "))),
            Text(f"{printable(snapshot.corpus)}\n{printable(snapshot.extraction.network)}"),
            f"{snapshot.indexed:,}",
            f"{snapshot.refused:,}",
            snapshot.root_digest[:12],
        )
    console.print(table)


def summary(snapshot: Any) -> dict[str, Any]:
    """Return a snapshot as plain values, for scripts."""
    return {
        "snapshot": snapshot.number,
        "root_digest": snapshot.root_digest,
        "corpus": snapshot.corpus,
        "network": snapshot.extraction.network,
        "images": snapshot.images,
        "indexed": snapshot.indexed,
        "refused": snapshot.refused,
        "refused_by_reason": snapshot.refused_by_reason,
        "ignored": snapshot.ignored,
        "published_at": snapshot.published_at,
        "machine": snapshot.machine,
        "words": {name: v.words for name, v in snapshot.vocabularies.items()},
    }
