"""Tables for people. Names from pictures and stores are untrusted: shown, never interpreted.

Names go through `plain` and never into a string: rich would interpret brackets and colons in a
string as markup.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lamella.pipeline.corpus.passed_over import advice, in_words
from lamella.pipeline.evaluate.figures import short_score
from lamella.pipeline.evaluate.page import heat_rows
from lamella.pipeline.evaluate.table import gain_table, score_table
from lamella.pipeline.store import tree
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.text import counted, printable
from lamella.schemas.rankings import QueryRun
from lamella.schemas.report import RetrievalReport

SHOWN_REFUSALS = 10


def plain(value: object) -> Text:
    """Return a value as plain text: no markup, no escape sequences, one line."""
    return Text(printable(str(value)))


def show_rankings(
    console: Console,
    store: Store,
    run: QueryRun,
    table: Any,
    more: int,
    refusals: Sequence[dict[str, Any]],
) -> None:
    """Print the first ranks of the first queries, and the account of all queries.

    Args:
        table: the rankings of the first queries, up to the ranks shown.
        more: how many further queries there are.
        refusals: the first refused query pictures.
    """
    layers = [entry.layer for entry in run.fusion.layers]
    for _, rows in itertools.groupby(table.to_pylist(), key=lambda row: row["query"]):
        mine = list(rows)
        console.print(plain(mine[0]["query_name"]), style="italic", soft_wrap=True)
        shown = Table()
        shown.add_column("rank", justify="right")
        shown.add_column("picture", overflow="fold")
        shown.add_column("id", justify="right", overflow="fold")
        shown.add_column("score", justify="right", overflow="fold")
        for layer in layers:
            shown.add_column(plain(f"S {layer}"), justify="right", overflow="fold")
        for row in mine:
            shown.add_row(
                str(row["rank"]),
                plain(row["name"]),
                str(row["image_id"]),
                f"{row['score']:.4f}",
                *(f"{row[f'S.{layer}']:.4f}" for layer in layers),
            )
        console.print(shown)
    if more:
        console.print(f"and {counted(more, 'more query')}")
    for refusal in refusals:
        line = plain(f"not asked: {refusal['name']} ({refusal['reason']})")
        console.print(line, style="yellow", soft_wrap=True)
    if run.k > run.images:
        indexed = f"{counted(run.images, 'picture')} {'is' if run.images == 1 else 'are'} indexed"
        console.print(
            f"k is {run.k:,} and {indexed}: no ranking can hold more",
            style="yellow",
            highlight=False,
        )
    console.print(
        plain(
            f"{counted(run.answered, 'query')} answered, {run.certified:,} certified complete, "
            f"{run.refused:,} refused: run {run.run}"
        )
    )
    if run.expand:
        console.print(
            plain(
                f"expanded by {run.expand}: scores and proofs are those of the mean of each query "
                f"and its {run.expand} best pictures"
            ),
            soft_wrap=True,
        )
    if run.recall is not None:
        console.print(
            plain(
                f"recall {run.recall:.3f} of the exact answers, measured on {run.audited:,} of the "
                f"queries (mode {run.mode})"
            )
        )
    named_by = f"{store.url}/{tree.RUN.at(run=run.run)}"
    console.print(plain(f"its files are named by {named_by}"), soft_wrap=True)


def show_report(
    console: Console, report: RetrievalReport, page: Path, *, sweep: bool = False
) -> None:
    """Print the tables of scores and gains, the grid where asked for, and where the page is."""
    for said in score_table(report):
        console.print(said)
    if (gains := gain_table(report)) is not None:
        console.print("What fusion gains")
        console.print(gains)
    if sweep and report.sweep:
        layer = report.fusion.layers[0].layer
        console.print(plain(f"{report.metric} over t and p of {layer}"))
        console.print(_grid(report))
    said = Text.assemble("page of pictures: ", (printable(str(page)), "bold"))
    console.print(said, soft_wrap=True)


def _grid(report: RetrievalReport) -> Table:
    """Return the scores over t (columns) and p (rows)."""
    rows = heat_rows(report)
    grid = Table()
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


def show_passed_over(console: Console, counted: dict[str, int]) -> None:
    """Print by kind the files of a source that are no pictures, and advice about data sets."""
    if counted:
        console.print(plain(f"  passed over: {in_words(counted)}"), soft_wrap=True)
    if (said := advice(counted)) is not None:
        console.print(plain(f"  {said}"), style="yellow", soft_wrap=True)


def show_status(console: Console, found: dict[str, Any]) -> None:
    """Print what a store holds."""
    for corpus in found["corpora"]:
        console.print(plain(corpus["name"]), style="italic", soft_wrap=True)
        table = Table("state", "pictures")
        for state, count in corpus["states"].items():
            table.add_row(plain(state), f"{count:,}")
        table.add_section()
        table.add_row("of the manifest", f"{corpus['images']:,}")
        console.print(table)
        if corpus["duplicates"]:
            repeated = corpus["repeated"]
            console.print(
                f"  contents that stand under more than one name: {repeated['contents']:,}, "
                f"{counted(repeated['pictures'], 'picture')} in all"
            )
        show_passed_over(console, corpus["passed_over"])
        for said, remark in corpus["remarks"].items():
            text = f"  {remark['count']:,} read all the same: {said}, such as {remark['first']}"
            console.print(plain(text), style="yellow", soft_wrap=True)
        for refusal in corpus["refused"]:
            line = plain(f"  {refusal['reason']}: {refusal['name']} {refusal['detail']}")
            console.print(line, style="yellow", soft_wrap=True)
    for stage in found["stages"]:
        line = plain(f"{stage['folder']}: {counted(stage['done'], 'task')} done")
        console.print(line, soft_wrap=True)
    current = found["current"]
    console.print(
        plain(
            f"current snapshot: {current['number']} (root {current['root_digest'][:12]}, "
            f"{counted(current['indexed'], 'picture')})"
        )
        if current
        else "no snapshot yet: give the same `lamella index` again to continue"
    )
    for fit in current["words_fit"] if current else ():
        if fit["far"] or fit["ratio"] is None:
            console.print(plain(f"  {fit['text']}"), style="yellow", soft_wrap=True)
