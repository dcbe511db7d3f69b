"""The table of `lamella doctor`."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lamella.pipeline.doctor.findings import Finding, Part
from lamella.pipeline.text import printable

STYLES = {"ok": "green", "missing": "yellow", "broken": "bold red"}


def show_parts(console: Console, parts: Sequence[Part]) -> None:
    """Print what was found: a part a block, the state first, the cure below what is wrong."""
    widest = max(len(each.what) for part in parts for each in part.findings)
    for number, part in enumerate(parts):
        if number:
            console.print()
        console.print(Text(part.title, style="bold"))
        table = Table.grid(padding=(0, 2))
        table.add_column(width=max(map(len, STYLES)))
        table.add_column(width=widest)
        table.add_column(overflow="fold")
        for each in part.findings:
            style = STYLES[each.state]
            table.add_row(Text(each.state, style=style), Text(printable(each.what)), _said(each))
        console.print(table)


def _said(finding: Finding) -> Text:
    said = Text(printable(finding.says))
    if finding.cure:
        said.append(f"\n→ {printable(finding.cure)}", style="cyan")
    return said
