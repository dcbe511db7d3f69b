"""The answers to queries for a person: the ranking of one, a summary of several."""

import itertools
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lamella.cluster.commands.show import plain
from lamella.pipeline.corpus.refused import top_reasons
from lamella.pipeline.errors import one_line
from lamella.pipeline.jobs.query_run import Answered
from lamella.pipeline.jobs.rankings import as_plain, first_rankings, refusal_tables, refused_by
from lamella.pipeline.search.where import KEPT
from lamella.pipeline.store import tree
from lamella.pipeline.text import counted
from lamella.schemas.rankings import QueryRun

SHOWN_REFUSALS = 10

LONGEST_VALUE = 100
"""Characters of a kept column that a table shows; all are in --out and --json."""


def show_answered(console: Console, answered: Answered, *, copied: bool) -> None:
    """Print the ranking of one query, or one table of several, and the account of all.

    Args:
        copied: all ranks are in a file that the call wrote.
    """
    store, run = answered.store, answered.run
    first = first_rankings(store, run)
    if answered.images is not None:
        first = answered.images.with_kept(first)
    rows = as_plain(first).to_pylist()
    if rows:
        console.print(ranking_table(run, rows) if run.answered == 1 else _summary(run, rows))
    if run.answered > 1:
        others = run.answered - len(rows)
        more = f"and {counted(others, 'more query')}; " if others else ""
        every = "" if copied else "all ranks: --out FILE.csv, .json or .parquet"
        if more or every:
            console.print(plain((more + every).removesuffix("; ")))
    refusals = (row for table in refusal_tables(store, run) for row in table.to_pylist())
    for refusal in itertools.islice(refusals, SHOWN_REFUSALS):
        line = plain(f"not asked: {refusal['name']} ({refusal['reason']})")
        console.print(line, style="yellow")
    if run.refused > SHOWN_REFUSALS:
        console.print(
            f"and {run.refused - SHOWN_REFUSALS:,} more, by name in --json", style="yellow"
        )
    if run.k > run.longest:
        but = ", and a query is not in its own ranking" if run.exclude_self else ""
        indexed = f"{counted(run.images, 'picture')} {'is' if run.images == 1 else 'are'} indexed"
        console.print(
            f"k is {run.k:,} and {indexed}{but}: no ranking can hold more",
            style="yellow",
            highlight=False,
        )
    show_account(console, answered)


def ranking_table(run: QueryRun, rows: list[dict[str, Any]]) -> Table:
    """Return the first ranks of one query."""
    table = Table(title=plain(rows[0]["query_name"]), title_justify="left")
    table.add_column("rank", justify="right")
    table.add_column("picture", overflow="fold")
    table.add_column("id", justify="right", overflow="fold")
    _add_scores(table, run, rows)
    for row in rows:
        found = str(row["rank"]), plain(row["name"]), str(row["image_id"])
        table.add_row(*found, *_scores(run, row), *_kept(row))
    return table


def _summary(run: QueryRun, rows: list[dict[str, Any]]) -> Table:
    """Return the best image of each query."""
    others = run.asked == "images" and run.longest + run.exclude_self > 1
    table = Table(title_justify="left")
    table.add_column("query", overflow="fold")
    table.add_column("best other picture" if others else "best picture", overflow="fold")
    _add_scores(table, run, rows)
    for row in rows:
        names = plain(row["query_name"]), plain(row["name"])
        table.add_row(*names, *_scores(run, row), *_kept(row))
    return table


def _add_scores(table: Table, run: QueryRun, rows: list[dict[str, Any]]) -> None:
    table.add_column("score", justify="right", overflow="fold")
    for layer in run.fusion.layers:
        table.add_column(plain(f"S {layer.layer}"), justify="right", overflow="fold")
    for name in rows[0]:
        if name.startswith(KEPT):
            table.add_column(plain(name.removeprefix(KEPT)), overflow="fold")


def _scores(run: QueryRun, row: dict[str, Any]) -> list[Text]:
    names = ["score", *(f"S.{layer.layer}" for layer in run.fusion.layers)]
    return [plain(f"{row[name]:.4f}") for name in names]


def _kept(row: dict[str, Any]) -> list[Text]:
    """Return the kept columns of a picture, an empty text where a value is not known."""
    values = (value for name, value in row.items() if name.startswith(KEPT))
    return [plain("" if value is None else one_line(value, LONGEST_VALUE)) for value in values]


def show_account(console: Console, answered: Answered) -> None:
    """Print how many queries were answered, how well, and where the answers are."""
    store, run = answered.store, answered.run
    why = f" ({top_reasons(refused_by(store, run))})" if run.refused else ""
    where = f"run {run.run}" if answered.kept else "not kept; --into NAME keeps the answers"
    console.print(
        plain(
            f"{counted(run.answered, 'query')} answered, {run.certified:,} certified complete, "
            f"{run.refused:,} refused{why}: {where}"
        ),
        soft_wrap=True,
    )
    if answered.images is None:
        line = "the snapshot that was asked is gone, and with it what was kept beside pictures"
        console.print(line, style="yellow", soft_wrap=True)
    if run.where is not None:
        console.print(plain(f"of the pictures where {run.where}"), soft_wrap=True)
    if run.expand:
        console.print(
            plain(
                f"expanded by {run.expand}: scores and proofs are those of the mean of each query "
                f"and its {run.expand} best pictures"
            ),
            soft_wrap=True,
        )
    if run.recall is not None:
        low = run.target is not None and run.recall < run.target
        console.print(
            plain(
                f"recall {run.recall:.3f} of the exact answers, measured on {run.audited:,} of the "
                f"queries (mode {run.mode}{_target(run)})"
            ),
            style="yellow" if low else None,
            soft_wrap=True,
        )
    if answered.kept:
        named_by = f"{store.url}/{tree.RUN.at(run=run.run)}"
        console.print(plain(f"its files are named by {named_by}"), soft_wrap=True)


def _target(run: QueryRun) -> str:
    """Return what proposers were asked to find and how far they looked, if they found a run."""
    if run.target is None or run.reach is None or run.recall is None:
        return ""
    reach = run.reach
    below = "below the target" if run.recall < run.target else "target"
    return (
        f", {below} {run.target:g}; reach {reach.cells:,}, {reach.proposed:,} pictures a layer, "
        f"{reach.postings:,} postings, {reach.decided:,} decided on"
    )
