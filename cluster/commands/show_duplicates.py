"""Near-duplicates for people and for scripts: a table of the largest groups, or JSON."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lamella.cluster.commands.output import SHOWN, emit, say
from lamella.cluster.commands.show import plain
from lamella.pipeline.export.duplicates import Duplicates, group_rows
from lamella.pipeline.text import byte_size, counted


def show_duplicates(
    console: Console,
    found: Duplicates,
    written: Mapping[str, Path | None],
    *,
    as_json: bool = False,
) -> None:
    """Print what was found, and the files that were written, by their options."""
    if as_json:
        rows = [row | {"image_id": str(row["image_id"])} for row in group_rows(found)]
        files = {name: None if path is None else str(path) for name, path in written.items()}
        emit({**found.counts(), "members": rows, "written": files})
        return
    counts = found.counts()
    if found.groups:
        console.print(_table(found))
    if len(found.groups) > SHOWN:
        say(f"and {len(found.groups) - SHOWN:,} more groups: --groups FILE has all of them")
    say(
        f"{counted(counts['pairs'], 'pair')} of {counted(counts['images'], 'picture')} score "
        f"{found.above:g} or more, all of them found: {counted(counts['groups'], 'group')} of "
        f"{counted(counts['in_groups'], 'picture')}"
    )
    if found.groups:
        say(
            f"{counts['spare']:,} could go ({byte_size(counts['spare_bytes'])}); "
            f"{counts['same_files']:,} are the same file as another one of their group"
        )
    if found.apart:
        say(
            f"{counted(found.apart, 'picture')} more: the same file as another one, and no pair "
            f"with it. They score less than {found.above:g} with themselves, for a layer sees "
            "nothing in them: --layers names those that count",
            style="yellow",
        )
    for name, path in written.items():
        if path is not None:
            say(f"{name}: {path}")


def _table(found: Duplicates) -> Table:
    """Return the largest groups: the picture to keep, and how far the others are from it."""
    table = Table("group", "kept", title_justify="left")
    for column in ("pictures", "could go", "same file", "least score"):
        table.add_column(column, justify="right")
    for number, group in enumerate(found.groups[:SHOWN], start=1):
        spare = [member for member in group if not member.keep]
        same = sum(member.same_file for member in spare)
        least = min(member.score or 0.0 for member in spare)
        table.add_row(
            f"{number:,}", plain(group[0].name), f"{len(group):,}", f"{len(spare):,}", f"{same:,}",
            f"{least:.3f}",
        )  # fmt: skip
    return table
