"""The commands that say what stays: expire, tag, forget."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from lamella.cluster.commands import option_values, options
from lamella.cluster.commands.output import SHOWN, emit, say
from lamella.cluster.commands.progress import ProgressLines
from lamella.pipeline.errors import InputError
from lamella.pipeline.text import counted


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(expire)
    app.command()(tag)
    app.command()(forget)


def expire(
    store: options.Store,
    keep_last: Annotated[
        int | None,
        typer.Option(min=0, help="So many of the newest snapshots stay.", show_default="7"),
    ] = None,
    keep_days: Annotated[
        int | None,
        typer.Option(min=0, help="Snapshots younger than this stay, in days.", show_default="30"),
    ] = None,
    number: Annotated[
        str | None,
        typer.Option(
            "--snapshot",
            help="Let this one go, by number or tag, and no other.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would expire; change nothing.")
    ] = False,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Let old snapshots go: those neither among the last nor young.

    Every night, after the index has grown:
    [bold]lamella expire ./index --keep-last 7 --keep-days 30 && lamella gc ./index[/]

    The current snapshot, a held one and one with a tag stay ([bold]lamella tag[/]). A number is
    never used again. The bytes go with the next [bold]lamella gc[/], except those that a
    snapshot still needs.
    """
    from lamella.pipeline.index.tags import snapshot_named
    from lamella.pipeline.store.storage import open_store
    from lamella.pipeline.upkeep.expire import (
        Expiry,
        expire_one,
        expire_snapshots,
    )

    if number is not None and (keep_last is not None or keep_days is not None):
        raise InputError("--snapshot names one, --keep-last and --keep-days a rule: give one")
    opened = open_store(store)
    found: Expiry
    if number is not None:
        found = expire_one(opened, snapshot_named(opened, number), dry_run=dry_run)
    else:
        found = expire_snapshots(
            opened,
            keep_last=7 if keep_last is None else keep_last,
            keep_days=30 if keep_days is None else keep_days,
            dry_run=dry_run,
        )
    if as_json:
        kept = {str(number): why for number, why in found.kept.items()}
        emit({"dry_run": dry_run, "expired": list(found.expired), "kept": kept})
        return
    verb = "would expire" if dry_run else "expired"
    listed = ", ".join(str(number) for number in found.expired) or "none"
    say(f"snapshots that {verb}: {listed}")
    for one, why in found.kept.items():
        say(f"  snapshot {one} stays: {why}")
    if found.expired and not dry_run:
        say(f"their files go once they are old: `lamella gc {store}`")


def tag(
    store: options.Store,
    name: Annotated[
        str | None, typer.Argument(help="A name for the snapshot; without one, tags are listed.")
    ] = None,
    snapshot: Annotated[
        str | None,
        typer.Argument(help="The number of the snapshot, or another tag.", show_default=False),
    ] = None,
    remove: Annotated[
        str | None, typer.Option(metavar="NAME", help="Remove this tag; the snapshot stays.")
    ] = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Give a snapshot a name, which keeps it from expiring; list or remove names.

    Before a clean-up of the pictures:
    [bold]lamella tag ./index before-cleanup 12[/]

    The name then stands for the number: [bold]--snapshot before-cleanup[/].
    """
    from lamella.pipeline.index.tags import (
        read_tags,
        remove_tag,
        snapshot_named,
        tag_snapshot,
    )
    from lamella.pipeline.store.storage import open_store

    if (name is None) != (snapshot is None) or (remove is not None and name is not None):
        raise InputError("give a name and the number of a snapshot, or --remove NAME, or neither")
    opened = open_store(store)
    if remove is not None:
        remove_tag(opened, remove)
    elif name is not None and snapshot is not None:
        tag_snapshot(opened, name, snapshot_named(opened, snapshot))
    tags = read_tags(opened)
    if as_json:
        emit(tags)
        return
    for each, number in sorted(tags.items()):
        say(f"{each}: snapshot {number}")
    if not tags:
        say("no tags")


def forget(
    store: options.Store,
    name: Annotated[
        str | None, typer.Option(help="The picture's name, as answers and the index give it.")
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="The SHA-256 of its bytes: under whatever names."),
    ] = None,
    reason: Annotated[
        str | None, typer.Option(help="Why, for the record. It must not hold the name.")
    ] = None,
    anyway: Annotated[
        bool,
        typer.Option("--anyway", help="Bar it from ever being indexed, though it is not there."),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Change nothing: read everything, and name what is left of it."
        ),
    ] = False,
    pictures: options.Pictures = None,
    engine: options.Engine = None,
    address: options.Address = None,
    workers: options.Workers = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Forget a picture: it is never indexed again, and nothing in the store names or shows it.

    [bold]lamella forget ./index --name cats/7.jpg --reason "asked by its owner"[/]

    A new snapshot without the picture is published at once, and every snapshot that holds it
    expires, tagged and held ones too. No other command may run on the store meanwhile. To
    continue a forget that was stopped, give it again. [bold]--check[/] reads every file and
    exits with 1 if anything is left; without a name it looks for all that was ever forgotten.
    """
    from lamella.pipeline.store.storage import open_store
    from lamella.pipeline.upkeep.forgotten_check import check_forgotten

    opened = open_store(store)
    if check:
        with ProgressLines(Console(stderr=True), quiet=as_json) as lines:
            left = check_forgotten(opened, name=name, sha256=sha256, on_progress=lines.stage)
        if as_json:
            emit([{"path": each.path, "holds": each.holds} for each in left])
        else:
            for each in left[:SHOWN]:
                say(f"{each.path} holds {each.holds}", "red")
            files = counted(len(left), "file")
            say(f"left of it: something in {files}" if left else "nothing is left of it")
        if left:
            sys.exit(1)
        return
    from lamella.cluster.ray.engine import engine as opened_engine
    from lamella.pipeline.jobs.settings import load_job
    from lamella.pipeline.stages import Watch
    from lamella.pipeline.upkeep.forget import OUT_OF_REACH, forget_picture

    if (name is None) == (sha256 is None):
        raise InputError("a picture is forgotten by its name or by its bytes: give one of both")
    if reason is None:
        raise InputError("say why, for the record: --reason TEXT")
    job = load_job(None, option_values.engine_overrides(engine, address, workers))
    with (
        opened_engine(job.engine, quiet=as_json) as running,
        ProgressLines(Console(stderr=True), quiet=as_json) as lines,
    ):
        found = forget_picture(
            opened,
            running.runner,
            by="name" if name is not None else "sha256",
            value=name if name is not None else str(sha256),
            reason=reason,
            anyway=anyway,
            threads=running.threads,
            watch=Watch(lines.stage, lines.round, note=lines.note),
            pictures=pictures,
        )
    if as_json:
        emit(found.plain() | {"out_of_reach": OUT_OF_REACH})
        return
    say(
        f"{counted(found.pictures, 'picture')} forgotten; snapshots that held it and expired: "
        f"{', '.join(map(str, found.expired)) or 'none'}; current snapshot: "
        f"{found.current or 'none'}; {counted(found.removed, 'file')} removed"
    )
    for tag_name in found.tags:
        say(f"the tag {tag_name} went with its snapshot", "yellow")
    if found.twins:
        say(
            f"under other names the same bytes stay, {counted(found.twins, 'picture')}: to forget "
            f"them as well, give --sha256 {found.sha256}",
            "yellow",
        )
    say(f"what this cannot reach: {'; '.join(OUT_OF_REACH)}", "yellow")
