"""The score table for a terminal."""

from typing import TYPE_CHECKING

from lamella.pipeline.evaluate.page import score_lines, story
from lamella.pipeline.text import printable
from lamella.schemas.report import RetrievalReport

if TYPE_CHECKING:
    from rich.table import Table


def score_table(report: RetrievalReport) -> "Table":
    """Return the score table for rich, with the lines of the page.

    Names are plain text: markup and escape sequences in them have no effect.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(story(report)), title_justify="left", show_edge=False)
    table.add_column("ranking")
    table.add_column(f"{report.metric}, {report.queries:,} queries", justify="right")
    table.add_column("setting")
    styles = {"mapped": "bold", "swept": "dim"}
    for line in score_lines(report):
        setting = "; ".join(part for part in (line.setting, line.ties) if part)
        table.add_row(
            Text(line.label), Text(line.score), Text(setting), style=styles.get(line.kind)
        )
    caption = f"{printable(report.protocol)}, snapshot {report.snapshot[:12]}"
    if "queries" in report.settings:
        caption += f", queries {printable(report.settings['queries'])}"
    table.caption = Text(caption)
    table.caption_justify = "left"
    return table
