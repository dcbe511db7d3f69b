"""The commands that describe a store: status, snapshots; and runs, in a file of its own."""

import signal
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from lamella.cluster.commands import options, runs
from lamella.cluster.commands.failures import Stopped
from lamella.cluster.commands.output import emit, unfolded
from lamella.cluster.commands.progress import ProgressLines
from lamella.pipeline.errors import InputError

if TYPE_CHECKING:
    from lamella.pipeline.store.protocol import Store

console = unfolded(Console())


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(status)
    app.command()(snapshots)
    runs.register(app)


def status(
    store: options.Store,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Show the jobs alone, again and again; Ctrl-C ends it, with exit code 0. Into a "
            "pipe it prints a line for each beat.",
        ),
    ] = False,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Show what runs on a store and what it holds.

    The jobs that run, on any machine, with their stage, pictures done of all, speed and time left,
    workers, refused pictures and last problem, as of their last beat: a job writes one a minute. A
    job without a beat for three minutes is silent: it died, or its machine is cut off. Then
    corpora, refused pictures and why, the current snapshot, bytes.
    """
    from lamella.pipeline.jobs.beats import Jobs
    from lamella.pipeline.jobs.status import store_status
    from lamella.pipeline.store.storage import open_store
    from lamella.pipeline.upkeep.sizes import store_sizes

    if watch and as_json:
        raise InputError("--json is one value, and --watch never ends: give --json again and again")
    opened, err = open_store(store), Console(stderr=True)
    if watch:
        _watch(opened)
        return
    jobs = Jobs(opened)
    seen = jobs.look()
    if not as_json:
        from lamella.cluster.commands.show_jobs import show_jobs

        show_jobs(console, seen, own_clock=jobs.own_clock)
    found = store_status(opened)
    with ProgressLines(err, quiet=as_json or not err.is_terminal) as lines:
        sizes = store_sizes(opened, on_progress=lines.stage)
    if as_json:
        told = {"jobs": [job.plain() for job in seen]}
        emit(told | found | {"bytes": asdict(sizes) | {"total": sizes.total}})
        return
    from lamella.cluster.commands.show import show_status
    from lamella.cluster.commands.show_sizes import show_sizes

    show_status(console, found)
    show_sizes(console, store, sizes)


def _watch(store: "Store") -> None:
    """Show the jobs of a store until Ctrl-C, which is how a person ends that: no failure."""
    from lamella.cluster.commands.watch import watch

    try:
        watch(store, console)
    except Stopped as stopped:
        if stopped.number != signal.SIGINT:
            raise


def snapshots(
    store: options.Store,
    promote: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER|TAG",
            help="Make this snapshot the one that queries use. An older one than the current is a "
            "rollback, and holds.",
            show_default=False,
        ),
    ] = None,
    release: Annotated[
        bool,
        typer.Option("--release", help="End the hold of a rollback; its snapshot stays current."),
    ] = False,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """List snapshots and how their gates judged them; promote one, roll back, end a hold.

    While a rollback holds, [bold]lamella index[/] makes snapshots and promotes none.
    """
    from lamella.cluster.commands.show_snapshots import say_promotion, show_snapshots
    from lamella.pipeline.index import promotions
    from lamella.pipeline.index.expired import snapshot_numbers
    from lamella.pipeline.index.tags import snapshot_named, tags_by_snapshot
    from lamella.pipeline.jobs.gate import judgements
    from lamella.pipeline.store.storage import open_store

    if promote is not None and release:
        raise InputError("--promote and --release are two promotions: give one")
    opened = open_store(store)
    made = None
    if promote is not None:
        made = promotions.promote(opened, snapshot_named(opened, promote))
    elif release:
        made = promotions.release(opened)
    now = promotions.standing(opened)
    judged_so = judgements(opened, 0 if now is None else now.snapshot.number)
    listed = [promotions.read_snapshot(opened, n) for n in snapshot_numbers(opened)]
    tags = tags_by_snapshot(opened)
    if as_json:
        emit(
            [
                _standing_of(s, now, judged_so.get(s.number)) | {"tags": tags.get(s.number, [])}
                for s in listed
            ]
        )
        return
    show_snapshots(console, listed, now, judged_so, tags)
    if made is not None:
        say_promotion(console, store, made, listed, judged_so)


def _standing_of(snapshot: Any, now: Any, judgement: Any) -> dict[str, Any]:
    """Return a snapshot as plain values, with what the last promotion and its gate say of it."""
    current = now is not None and snapshot == now.snapshot
    found = summary(snapshot) | {"current": current, "held": current and now.promotion.held}
    gate = None if judgement is None else judgement.model_dump(mode="json")
    return found | {"listed_at": snapshot.listed_at, "gate": gate}


def judged(judgement: Any, withheld: Any) -> dict[str, Any]:
    """Return as plain values whether a snapshot was promoted, and what its gate said.

    Args:
        judgement: None where there was nothing to judge it against.
        withheld: the error that says why it was not promoted, None if it was.
    """
    gate = None if judgement is None else judgement.model_dump(mode="json")
    why = {} if withheld is None else {"not_promoted": str(withheld)}
    return {"promoted": withheld is None, "gate": gate} | why


def summary(snapshot: Any) -> dict[str, Any]:
    """Return a snapshot as plain values, for scripts."""
    return {
        "snapshot": snapshot.number,
        "root_digest": snapshot.root_digest,
        "corpus": snapshot.corpus,
        "network": snapshot.extraction.network,
        "images": snapshot.images,
        "indexed": snapshot.indexed,
        "refused": snapshot.refused,
        "refused_by_reason": snapshot.refused_by_reason,
        "ignored": snapshot.ignored,
        "published_at": snapshot.published_at,
        "machine": snapshot.machine,
        "words": {name: v.words for name, v in snapshot.vocabularies.items()},
    }
