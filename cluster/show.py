"""Tables for people. Names come from the world: they are shown, never obeyed."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.evaluate.page import heat_rows, printable, short_score
from pipeline.evaluate.table import score_table
from schemas.rankings import QueryRun
from schemas.report import RetrievalReport

SHOWN_QUERIES = 5
SHOWN_RANKS = 10


def show_rankings(console: Console, run: QueryRun, table: Any) -> None:
    """Print the first ranks of the first queries, and what became of all of them."""
    layers = [entry.layer for entry in run.fusion.layers]
    rows = [row for row in table.to_pylist() if row["rank"] <= SHOWN_RANKS]
    queries = list(dict.fromkeys(row["query"] for row in rows))
    for number in queries[:SHOWN_QUERIES]:
        mine = [row for row in rows if row["query"] == number]
        shown = Table(title=Text(printable(mine[0]["query_name"])), title_justify="left")
        shown.add_column("rank", justify="right")
        shown.add_column("picture", overflow="fold")
        shown.add_column("id", justify="right")
        shown.add_column("score", justify="right")
        for layer in layers:
            shown.add_column(f"S {layer}", justify="right")
        for row in mine:
            shown.add_row(
                str(row["rank"]),
                Text(printable(row["name"])),
                str(row["image_id"]),
                f"{row['score']:.4f}",
                *(f"{row[f'S.{layer}']:.4f}" for layer in layers),
            )
        console.print(shown)
    if len(queries) > SHOWN_QUERIES:
        console.print(f"and {len(queries) - SHOWN_QUERIES:,} more queries")
    for refusal in run.refusals[:SHOWN_RANKS]:
        name = Text(printable(str(refusal["name"])))
        console.print(Text("not asked: ") + name + Text(f" ({refusal['reason']})"), style="yellow")
    console.print(
        f"{run.answered:,} queries answered, {run.certified:,} certified complete, "
        f"{run.refused:,} refused; run {run.run}"
    )


def show_report(
    console: Console, report: RetrievalReport, page: Path, *, sweep: bool = False
) -> None:
    """Print the score table, the grid where asked for, and where the page is."""
    console.print(score_table(report))
    if sweep and report.sweep:
        console.print(_grid(report))
    console.print(f"page of pictures: [bold]{page}[/]")


def _grid(report: RetrievalReport) -> Table:
    """Return the scores over t (columns) and p (rows)."""
    rows = heat_rows(report)
    layer = report.fusion.layers[0].layer
    grid = Table(title=f"{report.metric} over t and p of {printable(layer)}", title_justify="left")
    grid.add_column("p \\ t", justify="right")
    for t in sorted({point.t for point in report.sweep}):
        grid.add_column(f"{t:g}", justify="right")
    best = report.best
    for p, cells in rows:
        texts = []
        for cell in cells:
            score = None if cell is None else cell.point.score
            text = "" if score is None else short_score(score, report.metric)
            is_best = best is not None and cell is not None and cell.point == best
            texts.append(f"[bold green]{text}[/]" if is_best else text)
        grid.add_row(f"{p:g}", *texts)
    return grid


def show_status(console: Console, found: dict[str, Any]) -> None:
    """Print what a store holds."""
    for corpus in found["corpora"]:
        table = Table(
            "state", "pictures", title=Text(printable(corpus["name"])), title_justify="left"
        )
        for state, count in corpus["states"].items():
            table.add_row(state, f"{count:,}")
        table.add_section()
        table.add_row("of the manifest", f"{corpus['images']:,}")
        console.print(table)
        if corpus["duplicates"]:
            console.print(
                f"  {corpus['duplicates']:,} pictures have the same bytes as an earlier one"
            )
        for refusal in corpus["refused"]:
            line = f"  {refusal['reason']}: {printable(refusal['name'])} {refusal['detail']}"
            console.print(Text(line, style="yellow"))
    for stage in found["stages"]:
        console.print(f"{stage['folder']}: {stage['done']:,} tasks done")
    current = found["current"]
    console.print(
        f"current snapshot: {current['number']} (root {current['root_digest'][:12]}, "
        f"{current['indexed']:,} pictures)"
        if current
        else "no snapshot yet: give the same `lamella index` again to continue"
    )
