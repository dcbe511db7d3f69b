"""Tables of visual words for people: their health, and their drift."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lamella.cluster.commands.show import plain

if TYPE_CHECKING:
    from lamella.pipeline.diagnostics.drift import Drift
    from lamella.pipeline.diagnostics.inspect import LayerHealth, RoundLine, WordLine


def show_health(console: Console, health: "LayerHealth") -> None:
    """Print the health of a layer's words."""
    from lamella.pipeline.diagnostics.findings import findings
    from lamella.pipeline.diagnostics.health_page import story
    from lamella.pipeline.diagnostics.inspect import SAMPLE_FREED

    console.print(Text(story(health)), style="bold")
    if health.rounds:
        console.print(_rounds(health.rounds))
        console.print()
    console.print(_figures(health))
    console.print()
    console.print(_words("most used words", health.most_used))
    console.print()
    console.print(_words("most bursty words", health.most_bursty))
    console.print()
    for finding in findings(health):
        mark, style = ("+", "green") if finding.kind == "well" else ("!", "yellow")
        console.print(Text(f"{mark} {finding.text}"), style=style)
    if health.sample_freed:
        console.print(Text(f"  no patches and no `vocabulary compare`: {SAMPLE_FREED}"))
    console.print()


def _table(title: str, *columns: str) -> Table:
    """Return a table of numbers, narrow enough for 80 columns."""
    table = Table(
        title=plain(title),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
        pad_edge=False,
    )
    for name in columns:
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    return table


def _rounds(lines: Sequence["RoundLine"]) -> Table:
    table = _table(
        "training, round by round",
        *("round", "rows", "error", "fall", "held", "moved", "empty", "filled", "split"),
        *("imbal.", "recall"),
    )
    for line in lines:
        table.add_row(
            str(line.round),
            f"{line.share:.0%}",
            f"{line.objective:.4f}",
            "" if line.fall is None else f"{line.fall:.2%}",
            "" if line.held_error is None else f"{line.held_error:.4f}",
            f"{line.changed:.1%}",
            f"{line.empty_words:,}",
            f"{line.refilled:,}",
            f"{line.split:,}",
            f"{line.imbalance:.3f}",
            f"{line.recall:.3f}",
        )
    return table


def _figures(health: "LayerHealth") -> Table:
    summary, recall = health.summary, health.recall
    held = "no rows were held out"
    if health.held_error is not None:
        held = f"{health.held_error:.4f} on {health.held_rows:,} rows"
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in (
        ("error on rows held out", held),
        ("recall of assignment", "not measured" if recall is None else f"{recall:.4f}"),
        ("entropy of use", f"{summary.entropy:.3f} bits, evenness {summary.evenness:.3f}"),
        ("imbalance", f"{summary.imbalance:.3f}"),
        ("words in no picture", f"{summary.empty:,} of {summary.words:,}"),
        ("share of the most used", f"{summary.largest_share:.2%}"),
        ("mean burstiness", f"{health.mean_burstiness:.3f}"),
    ):
        table.add_row(name, value)
    return table


def _words(title: str, lines: Sequence["WordLine"]) -> Table:
    table = _table(title, "word", "descriptors", "share", "pictures", "burstiness")
    for line in lines:
        table.add_row(
            str(line.word),
            f"{line.count:,}",
            f"{line.share:.2%}",
            f"{line.pictures:,}",
            f"{line.burstiness:.2f}",
        )
    return table


def show_drift(console: Console, drift: "Drift") -> None:
    """Print how a layer's words fit other pictures, and the advice."""
    table = _table(f"words of {drift.layer}", "", "own pictures", "other pictures", "difference")
    own = "" if drift.held_out else " (trained on)"
    for row in (
        (
            "mean squared error",
            f"{drift.own_error:.4f}{own}",
            f"{drift.error:.4f}",
            f"{drift.rise:+.1%}",
        ),
        (
            "divergence of use, bits",
            f"{drift.floor:.4f}",
            f"{drift.divergence:.4f}",
            f"{drift.excess:+.4f}",
        ),
        ("used twice or half as much", f"{drift.changed_floor:.1%}", f"{drift.changed:.1%}", ""),
        ("words never used", "", f"{drift.unused:,} of {drift.words:,}", ""),
    ):
        table.add_row(*row)
    console.print(table)
    console.print(
        f"{drift.rows:,} descriptors of {drift.pictures:,} other pictures; use is compared on "
        f"{drift.compared:,} of them, beside two halves of the own pictures with as many each"
    )
    changed = ", ".join(
        f"{each.word} ({each.before:.2%} to {each.now:.2%})" for each in drift.most_changed
    )
    console.print(f"most changed words: {changed}", highlight=False)
    style = "green" if drift.advice == "keep" else "yellow"
    console.print(Text(f"{drift.advice}: {drift.because}"), style=style)
