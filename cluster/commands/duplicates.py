"""`lamella duplicates`: pictures that are nearly the same, in pairs and in groups."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lamella.cluster.commands import option_values, options
from lamella.cluster.commands.output import begin, unfolded
from lamella.pipeline.jobs.settings import load_job

console = unfolded(Console())


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(duplicates)


def duplicates(
    store: options.Store,
    above: Annotated[
        float | None,
        typer.Option(
            metavar="F",
            help="The least score of a pair. A picture scores the sum of the layers' weights with "
            "itself, 2 for two layers of weight 1. Nine tenths of that (1.8) find most copies that "
            "were saved anew, made brighter, mirrored or cut a little; 0.995 of it (1.99) little "
            "but copies of the pixels; 0.7 of it (1.4) other views of a thing too.",
            show_default="0.9 of the score of a picture with itself",
        ),
    ] = None,
    layers: options.Layers = None,
    t: options.Thresholds = None,
    p: options.Powers = None,
    w: options.LayerWeights = None,
    fusion: options.Fusion = None,
    profile: options.Profile = None,
    k: Annotated[
        int | None,
        typer.Option(
            "--k",
            "-k",
            help="How many pictures each one is asked for at first. Those that have as many are "
            "asked again for ten times as many, so that no pair is lost.",
            show_default="100",
        ),
    ] = None,
    into: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Keep the answers in the store under this name.",
            show_default="kept under a digest from 65 pictures on",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the pairs to this file: .parquet, .csv or .json. The score and the "
            "similarities of a pair, and whether the files are the same.",
        ),
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the groups to this file of CSV: a row a picture, with [bold]keep[/] true "
            "for what to keep. Every other one makes a pair with one that is kept.",
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page with the pictures of the groups."),
    ] = None,
    pictures: options.Pictures = None,
    job_file: options.Job = None,
    number: options.Snapshot = None,
    engine: options.Engine = None,
    address: options.Address = None,
    workers: options.Workers = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Find pictures that are nearly the same: all pairs above a score, and their groups.

    Look at them first:
    [bold]lamella duplicates ./index --page same.html[/]

    What could be deleted, for a script:
    [bold]lamella duplicates ./index --above 1.9 --groups groups.csv[/]

    Every picture is asked, exactly, and each answer is certified: no pair is left out. A group is
    what pairs link, also through others. Of a group the picture with the most pixels is kept, and
    any other that makes no pair with one that is kept. Nothing is deleted. Files that are the same
    to the byte are told apart from pictures that look alike.

    To continue a search that was stopped, give the same command again.
    """
    begin(f"opening {store}", quiet=as_json)
    from lamella.cluster.commands.duplicates_run import Asked, run_duplicates
    from lamella.cluster.commands.show_duplicates import show_duplicates
    from lamella.pipeline.export.duplicates import write_groups, write_pairs
    from lamella.pipeline.jobs.ranking_copies import check_kind

    for name, path in (("--out", out), ("--groups", groups), ("--page", page)):
        option_values.check_output(name, path)
    if out is not None:
        check_kind(out)
    overrides = {
        "search.k": k,
        "search.above": above,
        **option_values.fusion_overrides(t, p, w, fusion),
        "profile": profile,
        **option_values.engine_overrides(engine, address, workers),
    }
    asked = Asked(option_values.words(layers), number, into, page, pictures)
    found = run_duplicates(store, load_job(job_file, overrides), asked, quiet=as_json)
    if out is not None:
        write_pairs(found, out)
    if groups is not None:
        write_groups(found, groups)
    written = {"out": out, "groups": groups, "page": page}
    show_duplicates(console, found, written, as_json=as_json)
