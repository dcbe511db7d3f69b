"""The table of a scored run for a terminal, and what is to be said beside it.

Names are plain text: markup and escape sequences in them have no effect.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lamella.pipeline.text import counted, printable
from lamella.schemas.run_report import MeasureScore, Named, RunReport

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def run_table(report: RunReport) -> "tuple[Text, Table]":
    """Return for rich what was scored, and the table of measures."""
    from rich.table import Table
    from rich.text import Text

    of = "all pictures" if report.complete else f"the first {report.depth:,} pictures"
    about = (
        f"run {printable(report.run)} by {printable(report.truth)}: "
        f"{counted(report.queries, 'query')}, {of} of each ranking, snapshot "
        f"{report.snapshot[:12]}"
    )
    table = Table(show_edge=False)
    table.add_column("measure")
    table.add_column("score", justify="right", no_wrap=True)
    if report.bootstrap is not None:
        table.add_column("interval", justify="right", no_wrap=True)
    for place, row in enumerate(report.measures):
        texts = [measure_text(row), value_text(row, row.score)]
        if row.interval is not None:
            ends = (value_text(row, end) for end in (row.interval.low, row.interval.high))
            texts.append(" to ".join(ends))
        table.add_row(*map(Text, texts), style=None if place else "bold")
    return Text(about, style="italic"), table


def measure_text(row: MeasureScore) -> str:
    """Return what a measure is called: "R@10", or "AP of the first 100"."""
    name = printable(row.measure)
    return name if row.first is None else f"{name} of the first {row.first:,}"


def value_text(row: MeasureScore, value: float) -> str:
    """Return a mean as tables print it: .602, and 3.94 for what may be above 1."""
    largest = max(row.score, row.interval.high if row.interval else 0.0)
    if row.measure == "N-S" or largest > 1.0:
        return f"{value:,.2f}"
    return f"{value:.3f}".removeprefix("0")


def run_notes(report: RunReport) -> list[str]:
    """Return what a person should know of a score beside its value, a sentence each."""
    return [*_notes(report), *truth_notes(report.left_out, report.unknown_judged)]


def _notes(report: RunReport) -> Iterator[str]:
    if not report.names_known:
        yield (
            "the snapshot that the run asked has expired, so nothing is known of which pictures it "
            "had: right ones that it lacked count as missed"
        )
    if report.unanswered.count:
        yield (
            f"{counted(report.unanswered.count, 'judged query')} of {report.queries:,} without a "
            f"ranking in the run, which score 0: {_first(report.unanswered)}"
        )
    if report.unjudged.count:
        yield (
            f"{counted(report.unjudged.count, 'query')} of the run without judgements, left out: "
            f"{_first(report.unjudged)}"
        )
    if report.own_wrong.count:
        yield (
            f"{counted(report.own_wrong.count, 'query')} that found their own picture, which is "
            f"not judged and counts as wrong: {_first(report.own_wrong)}. To leave it out, ask "
            "with --exclude-self, or judge it -1"
        )
    if report.unknown_ranked.count:
        yield (
            f"{counted(report.unknown_ranked.count, 'picture')} of the rankings that the corpus "
            f"lacks, which keep their ranks: {_first(report.unknown_ranked)}"
        )


def truth_notes(left_out: dict[str, Named], unknown: Named) -> list[str]:
    """Return which queries a ground truth leaves out, and which pictures the corpus lacks."""
    said = [
        f"{counted(names.count, 'judged query')} left out, {printable(reason)}: {_first(names)}"
        for reason, names in left_out.items()
    ]
    if unknown.count:
        said.append(
            f"{counted(unknown.count, 'judged picture')} that the corpus lacks; right ones count "
            f"as missed: {_first(unknown)}"
        )
    return said


def intervals_text(report: RunReport) -> str:
    """Return how intervals were made; "" where there are none."""
    made = report.bootstrap
    if made is None:
        return "too few queries for intervals"
    units = "groups of queries that share right answers" if made.unit == "group" else "queries"
    return (
        f"{100 * made.level:g} % intervals: {made.resamples:,} resamples of {made.units:,} {units}"
    )


def _first(names: Named) -> str:
    listed = ", ".join(printable(name) for name in names.first)
    return f"{listed} and so on" if names.count > len(names.first) else listed
