"""The commands that maintain a store: verify, gc, repair, retry."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from lamella.cluster.commands import option_values, options
from lamella.cluster.commands.failures import FOR_A_PERSON
from lamella.cluster.commands.output import SHOWN, emit, say
from lamella.cluster.commands.progress import ProgressLines
from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.text import byte_size, counted

if TYPE_CHECKING:
    from lamella.pipeline.upkeep.gc import Collected


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(verify)
    app.command()(gc)
    app.command()(repair)
    app.command()(retry)


def verify(
    store: options.Store, as_json: options.Json = False, debug: options.Debug = False
) -> None:
    """Read every file of a store; list damaged files and the command that rebuilds them.

    Exit code 4 if anything is damaged. Files that no record names are counted,
    not faults.
    """
    from lamella.pipeline.store.storage import open_store
    from lamella.pipeline.upkeep.verify import verify_store

    opened = open_store(store, damaged=True)
    with ProgressLines(Console(stderr=True), quiet=as_json) as lines:
        found = verify_store(opened, lines.stage)
    if as_json:
        emit(found.summary())
    else:
        for damage in found.damage[:SHOWN]:
            hurt = ", ".join(str(number) for number in damage.snapshots)
            say(
                f"{damage.path} {damage.problem}"
                + (f"; snapshot {hurt} answers from it" if hurt else "; no query reads it"),
                "red",
            )
        if len(found.damage) > SHOWN:
            say(f"and {len(found.damage) - SHOWN:,} more: see --json")
        for sentence in found.unfinished:
            say(sentence, "yellow")
        if found.orphans:
            size = sum(file.size_bytes for file in found.orphans)
            say(
                f"no record names {len(found.orphans):,} of the files, {byte_size(size)}: no "
                f"fault, `lamella gc {store}` removes them once they are old"
            )
        if found.strangers:
            say(f"{found.strangers:,} other files lie there that are not Lamella's: left alone")
        say(
            f"{counted(found.files, 'file')}, {byte_size(found.size_bytes)}, "
            f"{counted(found.records, 'record')}: {len(found.damage):,} damaged"
        )
        if found.damage:
            say(f"to rebuild what is damaged, and only that: {found.damage[0].command}")
    if found.damage:
        sys.exit(FOR_A_PERSON)


def gc(
    store: options.Store,
    older_than: Annotated[
        str, typer.Option(help="Remove only files at least this old: 90m, 24h, 7d.")
    ] = "24h",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be removed; remove nothing.")
    ] = False,
    intermediate: Annotated[
        bool,
        typer.Option(
            "--intermediate",
            help="Free as well what finished indexes need no more: descriptors of pictures, and "
            "samples and rounds of trainings. Answers and nightly reindexing stay as they are. New "
            "words (--retrain, other --words) send their pictures through the network again.",
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Allow any age. Be sure that no job runs on this store."),
    ] = False,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Remove what no snapshot and no recent job needs, and what dead attempts left.

    After [bold]lamella expire[/] that is all that only the expired snapshots had. Runs
    stay. Files that a running job writes are protected by their age; the newest job of
    each corpus can go on for 30 days. Files that are not Lamella's are never touched.
    """
    from lamella.pipeline.store.storage import open_store
    from lamella.pipeline.upkeep.gc import collect_garbage

    age_s = seconds(older_than)
    opened = open_store(store)
    with ProgressLines(Console(stderr=True), quiet=as_json) as lines:
        found = collect_garbage(
            opened,
            older_than_s=age_s,
            dry_run=dry_run,
            forced=force,
            intermediate=intermediate,
            on_progress=lines.stage,
        )
    if as_json:
        emit(
            {
                "dry_run": dry_run,
                "removed": [file.path for file in found.removed],
                "size_bytes": found.size_bytes,
                "too_young": [file.path for file in found.young],
            }
            | (_freed(found) if intermediate else {})
        )
        return
    for file in (*found.removed, *found.freed)[: SHOWN if dry_run else 0]:
        say(f"{file.path} {byte_size(file.size_bytes)}")
    would = "would be " if dry_run else ""
    say(
        f"{would}removed: {counted(len(found.removed), 'file')}, {byte_size(found.size_bytes)}; "
        f"left, as younger than {older_than}: {counted(len(found.young), 'file')}"
    )
    if intermediate:
        say(
            f"{would}freed: {counted(len(found.freed), 'file')}, {byte_size(found.freed_bytes)}; "
            f"left, as younger than {older_than}: {byte_size(found.young_bytes)}"
        )
        if found.pictures:
            say(
                f"new words would send {counted(found.pictures, 'picture')} through the network "
                "again; "
                "answers and nightly reindexing stay as they are"
            )
        for sentence in found.kept:
            say(sentence, "yellow")


def _freed(found: "Collected") -> dict[str, Any]:
    """Return as plain values what was freed of intermediate files."""
    return {
        "freed": [file.path for file in found.freed],
        "freed_bytes": found.freed_bytes,
        "pictures_without_descriptors": found.pictures,
        "too_young_bytes": found.young_bytes,
        "kept": list(found.kept),
    }


def seconds(text: str) -> float:
    """Return the seconds of an age such as 90m, 24h or 7d.

    Raises:
        InputError: it is no such age.
    """
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    number, unit = text[:-1], text[-1:]
    if unit not in units or not number.isascii() or not number.isdecimal() or len(number) > 9:
        raise InputError(
            f"an age is a whole number of at most nine digits and s, m, h or d, such as 24h; got "
            f"{one_line(repr(text), 60)}"
        )
    return int(number) * units[unit]


def repair(
    store: options.Store,
    pictures: options.Pictures = None,
    engine: options.Engine = None,
    address: options.Address = None,
    workers: options.Workers = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Rebuild damaged files, and only those, with the recorded settings.

    No job may run on the store meanwhile. Pictures are needed only if their
    tables or activations are damaged. Exit code 4 if anything is still damaged.
    """
    from lamella.cluster.ray.engine import engine as opened_engine
    from lamella.pipeline.jobs.settings import load_job
    from lamella.pipeline.stages import Watch
    from lamella.pipeline.store.storage import open_store
    from lamella.pipeline.upkeep.repair import repair_store

    job = load_job(None, option_values.engine_overrides(engine, address, workers))
    opened = open_store(store, damaged=True)
    with (
        opened_engine(job.engine, quiet=as_json) as running,
        ProgressLines(Console(stderr=True), quiet=as_json) as lines,
    ):
        watch = Watch(lines.stage, lines.round, note=lines.note)
        found = repair_store(
            opened, running.runner, threads=running.threads, watch=watch, pictures=pictures
        )
    if as_json:
        emit(
            {
                "damaged": [each.path for each in found.before],
                "tasks": list(found.tasks),
                "still_damaged": [each.path for each in found.after],
                "notes": list(found.notes),
            }
        )
    else:
        for note in found.notes:
            say(note, "yellow")
        for each in found.after[:SHOWN]:
            say(f"still damaged: {each.path} {each.problem}", "red")
        say(
            f"damaged: {len(found.before):,}; tasks run again: {len(found.tasks):,}; "
            f"still damaged: {len(found.after):,}"
        )
    if found.after:
        sys.exit(FOR_A_PERSON)


def retry(
    store: options.Store,
    state: Annotated[
        str | None,
        typer.Option(
            help="Only pictures refused for these reasons: unreadable,fetch-failed.",
            show_default="all that may pass",
        ),
    ] = None,
    force: options.Force = False,
    pictures: options.Pictures = None,
    engine: options.Engine = None,
    address: options.Address = None,
    workers: options.Workers = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Retry pictures that were refused for a reason that may have passed.

    Only those are read. If any can be read now, a new snapshot is published,
    equal to that of a first run. Pictures refused for their contents stay
    refused.
    """
    from lamella.cluster.ray.engine import engine as opened_engine
    from lamella.pipeline.corpus.refused import top_reasons
    from lamella.pipeline.jobs.settings import load_job
    from lamella.pipeline.stages import Watch
    from lamella.pipeline.store.storage import open_store
    from lamella.pipeline.upkeep.retry_refused import WORTH_RETRYING, retry_store

    known = {reason.value: reason for reason in WORTH_RETRYING}
    wanted = option_values.words(state) or list(known)
    if unknown := [name for name in wanted if name not in known]:
        raise InputError(
            f"another try helps no picture that is {unknown[0]!r}: give some of {', '.join(known)}"
        )
    job = load_job(None, option_values.engine_overrides(engine, address, workers))
    opened = open_store(store)
    with (
        opened_engine(job.engine, quiet=as_json) as running,
        ProgressLines(Console(stderr=True), quiet=as_json) as lines,
    ):
        found = retry_store(
            opened,
            running.runner,
            {known[name] for name in wanted},
            threads=running.threads,
            watch=Watch(lines.stage, lines.round, note=lines.note),
            pictures=pictures,
            force=force,
        )
    snapshot = found.snapshot
    if as_json:
        emit({"tried": found.tried, "became": found.became, "snapshot": snapshot.number})
        return
    became = ", ".join(f"{count:,} {name}" for name, count in found.became.items())
    say(f"{counted(found.tried, 'picture')} tried again" + (f": {became}" if became else ""))
    why = f" ({top_reasons(snapshot.refused_by_reason)})" if snapshot.refused else ""
    say(
        f"snapshot {snapshot.number}: {snapshot.indexed:,} indexed, {snapshot.refused:,} "
        f"refused{why}"
    )
