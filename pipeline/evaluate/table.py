"""The tables of scores and of gains for a terminal.

Names are plain text: markup and escape sequences in them have no effect.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lamella.pipeline.evaluate.figures import (
    interval_text,
    label_text,
    measure_texts,
    short_score,
)
from lamella.pipeline.evaluate.headline import method, story
from lamella.pipeline.evaluate.page import gain_lines, score_lines
from lamella.pipeline.text import counted, printable
from lamella.schemas.report import RetrievalReport, ScoreRow

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def score_table(report: RetrievalReport) -> "tuple[Text, Table, Text]":
    """Return for rich what the scores say, their table with the lines of the page, and the method.

    As title and caption of the table they would be folded at its width.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(show_edge=False)
    table.add_column("ranking")
    table.add_column(report.metric, justify="right", no_wrap=True)
    if report.bootstrap is not None:
        table.add_column("interval", justify="right", no_wrap=True)
    table.add_column("setting")
    styles = {"mapped": "bold", "swept": "dim"}
    for line in score_lines(report):
        setting = "; ".join(part for part in (line.setting, line.ties) if part)
        interval = [line.interval] if report.bootstrap is not None else []
        texts = (line.label, line.score, *interval, setting)
        table.add_row(*map(Text, texts), style=styles.get(line.kind))
    about = (
        f"{printable(report.protocol)}, {counted(report.queries, 'query')}, "
        f"snapshot {report.snapshot[:12]}"
    )
    if "queries" in report.settings:
        about += f", queries {printable(report.settings['queries'])}"
    caption = Text(". ".join(part for part in (about, method(report)) if part), style="dim")
    return Text(story(report), style="italic"), table, caption


def parts_table(reports: Sequence[RetrievalReport]) -> "Table":
    """Return for rich the scores of the parts of a protocol, a line each, with their intervals."""
    from rich.table import Table
    from rich.text import Text

    first = reports[0]
    table = Table(show_edge=False)
    table.add_column("part")
    table.add_column("queries", justify="right")
    for row in first.rows:
        table.add_column(f"{printable(label_text(row))}, {row.metric}", justify="right")
    for report in reports:
        cells = [_part_cell(row) for row in report.rows]
        table.add_row(Text(printable(report.protocol)), f"{report.queries:,}", *map(Text, cells))
    return table


def _part_cell(row: ScoreRow) -> str:
    """Return a score, and below it its interval and other measures."""
    said = [short_score(row.score, row.metric)]
    if row.interval is not None:
        said.append(interval_text(row.interval, row.metric))
    return "\n".join([*said, *measure_texts(row)])


def gain_table(report: RetrievalReport) -> "Table | None":
    """Return what fusions gain over other rankings, for rich; None without gains."""
    from rich.table import Table
    from rich.text import Text

    if not report.gains:
        return None
    table = Table(show_edge=False)
    table.add_column("")
    table.add_column(report.metric, justify="right")
    table.add_column("interval", justify="right")
    tested = any(gain.corrected_p is not None for gain in report.gains)
    if tested:
        table.add_column("p", justify="right")
    table.add_column("shows")
    styles = {"gain": "green", "loss": "red"}
    for line in gain_lines(report):
        p = [line.p] if tested else []
        texts = (f"{line.label} over {line.over}", line.difference, line.interval, *p, line.verdict)
        table.add_row(*map(Text, texts), style=styles.get(line.verdict))
    return table
