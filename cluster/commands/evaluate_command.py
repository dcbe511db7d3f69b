"""The command that evaluates: its options, and what it shows."""

from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.console import Console

from lamella.cluster.commands import options
from lamella.cluster.commands.choices import choice
from lamella.cluster.commands.output import emit, unfolded
from lamella.pipeline.jobs.settings import load_job
from lamella.schemas.report import BoxMode, Difficulty, Metric, Protocol

console = unfolded(Console())


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(evaluate)


def evaluate(
    store: options.Store,
    protocol: Annotated[
        Protocol, choice("--protocol", get_args(Protocol), help="Whose rules, or your own groups.")
    ],
    truth: Annotated[
        Path | None,
        typer.Option(
            help="The ground truth: Oxford's folder, holidays_images.dat, gnd_roxford5k.pkl."
        ),
    ] = None,
    box: Annotated[
        BoxMode,
        choice(
            "--box",
            get_args(BoxMode),
            help="Oxford, Paris: roi crops queries to their boxes, full does not.",
        ),
    ] = "roi",
    difficulty: Annotated[
        Difficulty,
        choice("--difficulty", get_args(Difficulty), help="roxford, rparis: what is right."),
    ] = "medium",
    pattern: Annotated[
        str | None,
        typer.Option(
            help="groups: a regular expression with one group, which captures the group's name."
        ),
    ] = None,
    metric: Annotated[
        Metric, choice("--metric", get_args(Metric), help="groups: what is measured.")
    ] = "mAP",
    expand: options.Expand = None,
    layers: options.Layers = None,
    t: options.Thresholds = None,
    p: options.Powers = None,
    w: options.LayerWeights = None,
    fusion: options.Fusion = None,
    profile: options.Profile = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Print the grid over (t, p).")] = False,
    page: Annotated[
        Path | None, typer.Option(help="Copy the page of pictures to this file.")
    ] = None,
    pictures: options.Pictures = None,
    weights: options.Weights = None,
    number: options.Snapshot = None,
    engine: options.Engine = None,
    address: options.Address = None,
    workers: options.Workers = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Score each layer alone, their plain sum and the mapped fusion; draw a page of pictures.

    Example: [bold]lamella evaluate ./index --protocol groups[/], where each folder is a
    group.
    """
    from lamella.cluster.commands.evaluate import Asked, evaluate_store
    from lamella.cluster.commands.show import show_report
    from lamella.cluster.ray.engine import engine as opened_engine

    options.check_output("--page", page)
    asked = Asked(
        protocol=protocol,
        truth=truth,
        box=box,
        pattern=pattern,
        metric=metric,
        difficulty=difficulty,
        layers=options.words(layers),
    )
    overrides = {
        **options.fusion_overrides(t, p, w, fusion),
        "search.expand": expand,
        "profile": profile,
        **options.engine_overrides(engine, address, workers),
    }
    job = load_job(None, overrides)
    with opened_engine(job.engine, quiet=as_json) as opened:
        report, written = evaluate_store(
            opened,
            store,
            job,
            asked,
            number=number,
            weights=weights,
            quiet=as_json,
            page=page,
            pictures=pictures,
        )
    if as_json:
        emit({"report": report.model_dump(mode="json"), "page": str(written)})
        return
    show_report(console, report, written, sweep=sweep)
