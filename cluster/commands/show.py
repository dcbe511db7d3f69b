"""Tables for people. Names from pictures and stores are untrusted: shown, never interpreted.

Names go through `plain` and never into a string: rich would interpret brackets and colons in a
string as markup.
"""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lamella.pipeline.corpus.passed_over import advice, in_words
from lamella.pipeline.evaluate.data_set import absences
from lamella.pipeline.evaluate.figures import joint_text, short_score
from lamella.pipeline.evaluate.page import heat_rows
from lamella.pipeline.evaluate.table import gain_table, parts_table, score_table
from lamella.pipeline.jobs.report_page import Written
from lamella.pipeline.text import counted, printable
from lamella.schemas.report import RetrievalReport


def plain(value: object) -> Text:
    """Return a value as plain text: no markup, no escape sequences, one line."""
    return Text(printable(str(value)))


def show_reports(
    console: Console, found: Sequence[tuple[RetrievalReport, Written]], *, sweep: bool = False
) -> None:
    """Print one report as `show_report` does; of several parts, their scores in one table."""
    if len(found) == 1:
        show_report(console, *found[0], sweep=sweep)
        return
    console.print(parts_table([report for report, _ in found]))
    lacking = {report.protocol: absences(report) for report, _ in found}
    for said in dict.fromkeys(said for each in lacking.values() for said in each):
        parts = [part for part, each in lacking.items() if said in each]
        whose = "" if len(parts) == len(found) else f"{', '.join(parts)}: "
        console.print(plain(f"{whose}{said}"), style="yellow", soft_wrap=True)
    for report, page in found:
        if sweep:
            _show_grid(console, report)
        _show_page(console, page, f"page of {printable(report.protocol)}")


def show_report(
    console: Console, report: RetrievalReport, page: Written, *, sweep: bool = False
) -> None:
    """Print the tables of scores and gains, the grid where asked for, and where the page is."""
    for said in score_table(report):
        console.print(said)
    if (gains := gain_table(report)) is not None:
        console.print("What fusion gains")
        console.print(gains)
    for missing in absences(report):
        console.print(plain(missing), style="yellow", soft_wrap=True)
    if sweep:
        _show_grid(console, report)
    _show_page(console, page, "page of pictures")


def _show_page(console: Console, page: Written, what: str) -> None:
    where = (printable(str(page.path)), "bold")
    said = Text.assemble(f"{what}: ", where, printable(f" ({page.extent})"))
    console.print(said, soft_wrap=True)


def _show_grid(console: Console, report: RetrievalReport) -> None:
    if report.sweep:
        layer = report.fusion.layers[0].layer
        console.print(plain(f"{report.protocol}: {report.metric} over t and p of {layer}"))
        console.print(_grid(report))
    if report.joint is not None:
        console.print(plain(joint_text(report.joint, report.metric)), soft_wrap=True)


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
        for source, images in corpus["sources"].items():
            table.add_row(plain(f"of {source}"), f"{images:,}")
        table.add_row("of the manifest", f"{corpus['images']:,}")
        console.print(table)
        for column in corpus["columns"]:
            of = ", ".join(f"{count:,} of {name}" for name, count in column["sources"].items())
            said = f"{column['name']} ({column['type']}): known of {column['known']:,} pictures"
            console.print(plain(f"  kept {said}{f', {of}' if of else ''}"), soft_wrap=True)
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
