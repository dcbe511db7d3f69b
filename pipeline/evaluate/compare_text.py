"""A comparison in words and lines: the same for a terminal and for the page."""

from dataclasses import dataclass

from lamella.pipeline.evaluate.compare import Agreement, Comparison, Counted, MeasureRow
from lamella.pipeline.evaluate.figures import apart_text, p_text
from lamella.pipeline.evaluate.headline import how_tested, intervals_text
from lamella.pipeline.evaluate.intervals import FEWEST_UNITS
from lamella.pipeline.text import counted, printable

DECIMALS = 3

FEW = "too few queries"


@dataclass(frozen=True)
class MeasureLine:
    """A measure's row as text. `verdict` is gain, loss, no difference or too few queries."""

    name: str
    a: str
    b: str
    difference: str
    interval: str
    p: str
    wins: str
    verdict: str


@dataclass(frozen=True)
class AgreementLine:
    """A figure of agreement: over all pictures, and over those that both corpora have."""

    name: str
    whole: str
    both: str


def measure_lines(comparison: Comparison) -> list[MeasureLine]:
    """Return a line for each measure."""
    return [_measure_line(row) for row in comparison.rows]


def _measure_line(row: MeasureRow) -> MeasureLine:
    difference, interval = _apart(row)
    return MeasureLine(
        name=printable(row.name),
        a=f"{row.a:.{DECIMALS}f}",
        b=f"{row.b:.{DECIMALS}f}",
        difference=f"+{difference}" if row.verdict == "gain" else difference,
        interval=interval,
        p=p_text(row.corrected_p),
        wins=f"{row.wins:,} / {row.ties:,} / {row.losses:,}",
        verdict=row.verdict or FEW,
    )


def _apart(row: MeasureRow) -> tuple[str, str]:
    if row.interval is None:
        text = f"{row.difference:.{DECIMALS}f}"
        return text, ""
    return apart_text(row.difference, row.interval, DECIMALS)


def agreement_lines(comparison: Comparison) -> list[AgreementLine]:
    """Return a line for each figure of agreement."""
    whole, both = comparison.agreement, comparison.among_both
    told = [_told(whole), _told(both) if both else {}]
    return [AgreementLine(name, said, told[1].get(name, "")) for name, said in told[0].items()]


def _told(agreement: Agreement) -> dict[str, str]:
    overlaps = {f"overlap@{k}": f"{row.mean():.3f}" for k, row in agreement.overlaps.items()}
    changed = int(agreement.first_changed.sum())
    return overlaps | {
        "rank-biased overlap": f"{agreement.biased.mean():.3f}",
        "another first picture": f"{changed:,} of {len(agreement.first_changed):,}",
    }


def story(comparison: Comparison) -> list[str]:
    """Return what a person should know first: which is better, if any, and what has changed."""
    said = [_scored(comparison)] if comparison.rows else []
    return [*said, _changed(comparison)]


def _scored(comparison: Comparison) -> str:
    row = comparison.rows[0]
    a, b = printable(comparison.a.label), printable(comparison.b.label)
    scores = f"{b} scores {row.b:.{DECIMALS}f} {printable(row.name)}"
    queries = counted(len(comparison.a.queries), "query")
    if row.verdict is None:
        return f"{scores}, {a} {row.a:.{DECIMALS}f}: {queries} are too few to say which is better."
    difference, interval = _apart(row)
    evidence = f"{interval}, p {p_text(row.corrected_p)}"
    if row.verdict == "no difference":
        return f"No difference that {queries} show: {scores}, {a} {row.a:.{DECIMALS}f} {evidence}."
    side = "above" if row.verdict == "gain" else "below"
    return f"A {row.verdict}: {scores}, {difference.lstrip('-')} {side} {a} {evidence}."


def _changed(comparison: Comparison) -> str:
    whole, both = comparison.agreement, comparison.among_both
    total, moved = len(comparison.a.queries), int(whole.first_changed.sum())
    if not moved and float(whole.biased.min()) > 1 - 1e-9:
        return f"All rankings of {counted(total, 'query')} are the same."
    said = f"{moved:,} of {counted(total, 'query')} have another first picture"
    if both is None or comparison.corpora is None:
        return f"{said}."
    there = counted(len(comparison.corpora.both), "picture")
    return f"{said}, {int(both.first_changed.sum()):,} among the {there} that both have."


def corpora_text(comparison: Comparison) -> str:
    """Return how the corpora differ; empty where they are not known."""
    found = comparison.corpora
    if found is None:
        return ""
    parts = [
        f"{counted(len(names), 'picture')} {what}"
        for names, what in ((found.new, "new"), (found.gone, "gone"), (found.changed, "changed"))
        if names
    ]
    return f"{', '.join(parts) or 'no picture new, gone or changed'}; {len(found.both):,} in both"


def counted_text(comparison: Comparison, of: Counted) -> str:
    """Return which queries were compared, and how many were left out."""
    said = f"{counted(of.compared, 'query')} compared"
    if of.protocol:
        said += f", {printable(of.protocol)}"
    if of.in_both:
        said += ", scored over the pictures that both have"
    if (of.of_a, of.of_b) != (of.compared, of.compared):
        a, b = printable(comparison.a.label), printable(comparison.b.label)
        said += f"; {a} has {of.of_a:,}, {b} {of.of_b:,}"
    for reason, count in of.left_out.items():
        said += f"; {count:,} left out: {printable(reason)}"
    return said


def scored_over(comparison: Comparison, of: Counted) -> str:
    """Return a warning where scores differ because corpora do; empty elsewhere."""
    found = comparison.corpora
    if not comparison.rows or of.in_both or found is None:
        return ""
    if not (found.new or found.gone or found.changed):
        return ""
    return (
        "Each side is scored by the right answers that its corpus has, so new and removed pictures "
        "change scores too: --in-both leaves them out."
    )


def method(comparison: Comparison) -> str:
    """Return how intervals and p were made; empty without measures."""
    if not comparison.rows:
        return ""
    if comparison.bootstrap is None:
        return f"Fewer than {FEWEST_UNITS} queries get no intervals."
    return f"{intervals_text(comparison.bootstrap)} {how_tested(len(comparison.rows))}"
