"""What a run of `index` or `reindex` made, for people and for scripts."""

import shlex

from rich.console import Console
from rich.text import Text

from lamella.cluster.commands import plan, status
from lamella.cluster.commands.failures import emit_failed
from lamella.cluster.commands.index import Indexed
from lamella.cluster.commands.output import emit
from lamella.cluster.commands.status import summary
from lamella.pipeline.text import counted, printable


def show_indexed(console: Console, indexed: Indexed, into: str, *, as_json: bool) -> None:
    """Print a snapshot and what it is made of.

    Args:
        into: the store, as the user named it.

    Raises:
        NotPromoted: the snapshot is not promoted; it is shown all the same.
        Told: likewise, and the JSON says so.
    """
    snapshot = indexed.snapshot
    others = sum(indexed.passed_over.values()) or snapshot.ignored
    if as_json:
        values = summary(snapshot) | {"passed_over": indexed.passed_over}
        values["words_fit"] = [fit.plain() for fit in indexed.fits]
        values |= status.judged(indexed.judgement, indexed.withheld)
        values |= plan.compared_values(indexed.compared)
        if indexed.withheld is not None:
            emit_failed(values, indexed.withheld)
        emit(values)
        return
    console.print(
        f"[green]snapshot {snapshot.number}[/]: {counted(snapshot.indexed, 'picture')} indexed, "
        f"{snapshot.refused:,} refused, {counted(others, 'other file')} passed over "
        f"[dim](root {snapshot.root_digest[:12]})[/]"
    )
    _print_refusals(console, snapshot.refused_by_reason)
    _print_passed_over(console, indexed.passed_over)
    if indexed.compared is not None:
        plan.show_comparison(console, indexed.compared)
    if indexed.withheld is not None:
        raise indexed.withheld
    ask = f"lamella query {shlex.quote(into)} PICTURE"
    console.print(Text.assemble("ask it: ", (printable(ask), "bold")), soft_wrap=True)


def _print_refusals(console: Console, reasons: dict[str, int]) -> None:
    from lamella.schemas.refusals import RefusalReason

    for reason, count in reasons.items():
        console.print(f"  [yellow]{count:,} {reason}[/]: {RefusalReason(reason).meaning}")


def _print_passed_over(console: Console, counted: dict[str, int]) -> None:
    from lamella.cluster.commands.show import show_passed_over

    show_passed_over(console, counted)
