"""The table of snapshots, in 80 columns, and what a promotion by hand means from now on."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from lamella.pipeline.index.promotions import Standing
from lamella.pipeline.text import printable
from lamella.schemas.gate import Judgement
from lamella.schemas.snapshot import IndexSnapshot, Promotion


def show_snapshots(
    console: Console,
    listed: Sequence[IndexSnapshot],
    now: Standing | None,
    judged: Mapping[int, Judgement],
    tags: Mapping[int, Sequence[str]],
) -> None:
    """Print a row for each snapshot: which one is current or held, its tags, what its gate said."""
    table = Table(
        Column("snapshot\nroot", no_wrap=True),
        Column("gate", overflow="fold"),
        Column("listed\npublished", no_wrap=True),
        Column("corpus\nnetwork", overflow="fold"),
        Column("pictures\nrefused", justify="right", no_wrap=True),
    )
    for snapshot in listed:
        mark = ""
        if now is not None and snapshot.number == now.snapshot.number:
            mark = " [yellow]held[/]" if now.promotion.held else " [green]current[/]"
        named = "".join(f"\n[blue]{name}[/]" for name in tags.get(snapshot.number, ()))
        table.add_row(
            f"{snapshot.number}{mark}\n{snapshot.root_digest[:12]}{named}",
            _gate(judged.get(snapshot.number)),
            Text(f"{_minute(snapshot.listed_at)}\n{_minute(snapshot.published_at)}"),
            Text(f"{printable(snapshot.corpus)}\n{printable(snapshot.extraction.network)}"),
            f"{snapshot.indexed:,}\n{snapshot.refused:,}",
        )
    console.print(table)


def say_promotion(
    console: Console,
    store: str,
    made: Promotion,
    listed: Sequence[IndexSnapshot],
    judged: Mapping[int, Judgement],
) -> None:
    """Print what a promotion by hand means for the jobs that follow, and what waits."""
    said = f"snapshot {made.snapshot} answers queries now"
    if made.held:
        said += (
            " and is held: `lamella index` makes snapshots and promotes none, until `lamella "
            f"snapshots {store} --release`"
        )
    waiting = [snapshot.number for snapshot in listed if snapshot.number > made.snapshot]
    if waiting and not made.held:
        named = ", ".join(f"{number} ({gate_word(judged.get(number))})" for number in waiting)
        said += f"; newer ones wait: {named}; promote one, or give the same `lamella index` again"
    console.print(Text(printable(said)), soft_wrap=True)


def gate_word(judgement: Judgement | None) -> str:
    """Return in a word or two how a gate judged a snapshot."""
    if judgement is None:
        return "no gate"
    failed = ", ".join(rule.rule for rule in judgement.failed)
    return f"failed: {failed}" if failed else "passed"


def _gate(judgement: Judgement | None) -> Text:
    style = "" if judgement is None else "green" if judgement.passed else "red"
    word = "none" if judgement is None else gate_word(judgement)
    return Text(word.replace(": ", "\n").replace(", ", "\n"), style=style)


def _minute(time: str) -> str:
    """Return a time of a record to the minute; a dash where there is none."""
    return printable(time[:16].replace("T", " ")) or "-"
