"""Show a comparison: tables for a terminal, one value for scripts."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lamella.cluster.commands.output import emit
from lamella.cluster.commands.show import plain
from lamella.pipeline.evaluate.compare_text import (
    agreement_lines,
    corpora_text,
    counted_text,
    measure_lines,
    method,
    scored_over,
    story,
)
from lamella.pipeline.evaluate.compare_values import values_of
from lamella.pipeline.jobs.comparing import Compared

STYLES = {"gain": "green", "loss": "red"}


def show_comparison(
    console: Console, found: Compared, out: Path | None, page: Path | None, *, as_json: bool
) -> None:
    """Print what a comparison found, and where its copies are."""
    comparison = found.comparison
    files = {name: str(path) for name, path in (("out", out), ("page", page)) if path is not None}
    if as_json:
        emit(values_of(comparison, found.counted) | files)
        return
    console.print(Text(" ".join(story(comparison)), style="italic"))
    console.print(plain(f"A {comparison.a.label}, B {comparison.b.label}"), soft_wrap=True)
    if comparison.rows:
        console.print(_measures(found))
    console.print(_agreement(found))
    said = [
        counted_text(comparison, found.counted),
        corpora_text(comparison),
        scored_over(comparison, found.counted),
        method(comparison),
    ]
    caption = ". ".join(part.rstrip(".") for part in said if part)
    console.print(Text(f"{caption}.", style="dim"))
    for name, path in files.items():
        what = "queries" if name == "out" else "page"
        console.print(Text.assemble(f"{what}: ", (plain(path).plain, "bold")), soft_wrap=True)


def _measures(found: Compared) -> Table:
    table = Table(show_edge=False)
    table.add_column("")
    for name in ("A", "B", "B - A", "interval", "p", "won/tied/lost"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("shows")
    for line in measure_lines(found.comparison):
        wins = line.wins.replace(" ", "")
        texts = (line.name, line.a, line.b, line.difference, line.interval, line.p, wins)
        table.add_row(*map(Text, (*texts, line.verdict)), style=STYLES.get(line.verdict))
    return table


def _agreement(found: Compared) -> Table:
    both = found.comparison.among_both is not None
    table = Table(show_edge=False)
    table.add_column("")
    table.add_column("all pictures", justify="right")
    if both:
        table.add_column("pictures in both", justify="right")
    for line in agreement_lines(found.comparison):
        table.add_row(*map(Text, (line.name, line.whole, *([line.both] if both else []))))
    return table
