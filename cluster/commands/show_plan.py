"""Tables of a plan, and of plan and actuals side by side."""

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lamella.cluster.commands.show import plain
from lamella.pipeline.corpus.refused import top_reasons
from lamella.pipeline.plan.actuals import Comparison
from lamella.pipeline.plan.fitting import needed_bytes, verdict
from lamella.pipeline.text import byte_size, counted, duration, three_digits
from lamella.schemas.plan import Figure, Plan, ProbedMachine

SMALL = 0.005
"""A kind below this share of all bytes is not shown apart."""


def show_plan(console: Console, plan: Plan, free_bytes: int | None = None) -> None:
    """Print a plan: its subject, time, bytes, memory, requests, advice, whether it fits.

    Args:
        free_bytes: free on the store's disk; None if no limit is known.
    """
    machine = plan.machine
    console.print(
        plain(
            f"{plan.name}: {counted(plan.entries, 'file')}, {plan.pictures.mean:,.0f}"
            f"{_within(plan.pictures)} to be indexed in {counted(plan.shards, 'shard')} and "
            f"{counted(plan.segments, 'segment')}; tried {plan.sampled:,} "
            f"({plan.refused:,} refused{_why_refused(plan)}, {plan.ignored:,} no pictures)"
        )
    )
    console.print(
        plain(f"here: {counted(machine.cores, 'core')}, {_at_work(machine)}"), style="dim"
    )
    _show_stages(console, plan)
    _show_hours(console, plan)
    _show_bytes(console, plan)
    _show_memory(console, plan)
    if plan.advice:
        console.print(plain(plan.advice))
    said = plain(verdict(plan, free_bytes))
    console.print(said, style="green" if plan.fits else "red")


def _why_refused(plan: Plan) -> str:
    if not plan.refused_by_reason:
        return ""
    share = plan.refused / (plan.sampled - plan.ignored)
    why = top_reasons(plan.refused_by_reason)
    return f": {why}; {share:.1%}, and the job allows {plan.max_refused:.1%}"


def _at_work(machine: ProbedMachine) -> str:
    if machine.gpus:
        workers, threads = counted(machine.workers, "worker"), counted(machine.threads, "thread")
        return f"{machine.gpus} x {machine.device}; {workers} of {threads}"
    # How they are shared out differs from stage to stage.
    return f"{min(machine.cores, machine.workers * machine.threads)} at work, no GPU"


def _table(*headings: str) -> Table:
    table = Table()
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    return table


def _show_stages(console: Console, plan: Plan) -> None:
    table = _table("stage", "pictures/s", "time here", "thread-ms a picture", "basis")
    for stage in plan.stages:
        steps = [
            plain(f"{name} {three_digits(1000 * step.mean)}") for name, step in stage.steps.items()
        ]
        table.add_row(
            plain(stage.name),
            _figure(stage.per_second),
            duration(stage.seconds.mean),
            Text("\n").join(steps),
            plain(stage.basis),
        )
    table.add_row("all", "", duration(3600 * plan.hours.mean), "", "", style="bold")
    console.print(table)


def _show_hours(console: Console, plan: Plan) -> None:
    by_gpus = plan.hours_by_gpus
    found, unit = (plan.hours_by_workers, "core") if by_gpus is None else (by_gpus, "GPU")
    table = _table("hours on", *(counted(n, unit) for n in found))
    table.add_row("", *(_figure(hours) for hours in found.values()))
    console.print(table)
    if by_gpus is None:
        console.print(
            "cores as fast as those here; hours on GPUs need a probe on a machine that has one",
            style="dim",
        )


def _show_bytes(console: Console, plan: Plan) -> None:
    kept = [each for each in plan.stored if each.kept]
    everything = sum(each.size_bytes.mean for each in kept)
    table = _table("stored", "bytes", "±", "a picture")
    rest = 0.0
    for each in kept:
        size = each.size_bytes
        if size.mean < SMALL * everything:
            rest += size.mean
            continue
        a_picture = size.mean / max(plan.pictures.mean, 1)
        table.add_row(plain(each.kind), byte_size(size.mean), _error(size), byte_size(a_picture))
    table.add_row("the rest", byte_size(rest), "", "")
    table.add_row("all", byte_size(everything), "", "", style="bold")
    most = needed_bytes(plan.stored)
    if most > everything:
        table.add_row("at most, while words are trained", byte_size(most), "", "")
    console.print(table)


def _show_memory(console: Console, plan: Plan) -> None:
    table = _table("stage", "memory of a worker, at most", "requests to an object store, at most")
    for stage in dict.fromkeys([*plan.requests, *plan.memory]):
        held = sum(plan.memory.get(stage, {}).values())
        asked = ", ".join(f"{n:,} {kind}" for kind, n in plan.requests.get(stage, {}).items() if n)
        table.add_row(plain(stage), byte_size(held) if held else "", plain(asked))
    console.print(table)


def show_comparison(console: Console, rows: Sequence[Comparison]) -> None:
    """Print what a run took, beside its plan."""
    console.print("planned → measured in this run:")
    table = _table("stage", "pictures/s", "time", "bytes")
    for row in rows:
        name = plain(row.stage)
        if row.note:
            name.append(f"\n{row.note}", style="dim")
        table.add_row(
            name,
            _both(row.planned_per_second, row.per_second, three_digits),
            _both(row.planned_seconds, row.seconds, duration),
            _both(row.planned_bytes, row.size_bytes, byte_size),
        )
    console.print(table)


def _both(planned: float | None, measured: float | None, show: Callable[[float], str]) -> str:
    told, found = ("-" if each is None else show(each) for each in (planned, measured))
    return f"{told} → {found}"


def _figure(figure: Figure) -> str:
    digits = next((n for n, least in enumerate((100, 10, 1, 0.1)) if figure.mean >= least), 4)
    error = f" ± {figure.error:,.{digits}f}" if figure.error else ""
    return f"{figure.mean:,.{digits}f}{error}"


def _within(figure: Figure) -> str:
    return f" ± {figure.error:,.0f}" if figure.error else ""


def _error(figure: Figure) -> str:
    return f"{figure.error / figure.mean:.1%}" if figure.error and figure.mean else ""
