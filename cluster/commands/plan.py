"""`lamella plan`: estimate an index before it is made, and compare afterwards."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from lamella.cluster.commands import option_values, options
from lamella.cluster.commands.failures import emit_failed
from lamella.cluster.commands.output import begin, emit, unfolded
from lamella.cluster.commands.progress import ProgressLines
from lamella.pipeline.errors import DoesNotFit
from lamella.pipeline.jobs.settings import load_job

if TYPE_CHECKING:
    from lamella.pipeline.plan.actuals import Comparison

console = unfolded(Console())


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(plan)


def plan(
    sources: options.Sources = None,
    vectors: options.Vectors = None,
    into: Annotated[
        str | None,
        typer.Option(
            "--into",
            help="The index's store: its free space is checked, and the plan is kept there, to be "
            "shown beside what the run takes.",
        ),
    ] = None,
    job_file: options.Job = None,
    name: options.Name = None,
    column: options.Column = None,
    keep_columns: options.KeepColumns = None,
    network: options.Network = None,
    layers: options.NewLayers = None,
    weights: options.Weights = None,
    words: options.Words = None,
    vocabulary: options.GivenWords = None,
    keep_activations: options.KeepActivations = None,
    max_refused: options.MaxRefused = None,
    sample: Annotated[int, typer.Option(min=2, help="Files in the sample, evenly spread.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample.")] = 0,
    engine: options.Engine = None,
    workers: options.Workers = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Estimate an index: hours, bytes, memory, requests. Nothing is indexed.

    Runs every stage on a sample of the pictures, on this machine, and
    extrapolates. Takes the options of [bold]lamella index[/]. The figure after ± is the
    standard error over the sample. Figures for GPUs need a machine that has one.
    Exit code 1 if disk or memory is too small, or more pictures will be refused
    than the job allows; the message says what would fit.

    Examples: [bold]lamella plan ~/Pictures[/];
    [bold]lamella plan s3://bucket/pictures --into ./index --job job.toml[/], then
    [bold]lamella index[/] with the same settings.
    """
    begin(f"listing {', '.join([*(sources or ()), *(vectors or ())])}", quiet=as_json)
    from lamella.cluster.commands.index import prepare_index
    from lamella.pipeline.corpus.joined import source_of
    from lamella.pipeline.plan.history import keep_plan
    from lamella.pipeline.plan.make import make_plan
    from lamella.pipeline.store.storage import free_bytes, open_store

    job = load_job(
        job_file,
        {
            **option_values.index_overrides(
                *(name, column, keep_columns, network, layers, weights),
                *(words, vocabulary, keep_activations, vectors),
            ),
            "corpus.max_refused": max_refused,
            **option_values.engine_overrides(engine, None, workers),
        },
    )
    source = source_of(sources) if sources else None
    prepared = prepare_index(source, into or None, job, quiet=as_json)
    free = free_bytes(into) if into else None
    with ProgressLines(Console(stderr=True), quiet=as_json) as lines:
        for line in prepared.notes:
            lines.note(line)
        made = make_plan(
            prepared,
            sample=sample,
            seed=seed,
            free_bytes=free,
            on_progress=lines.stage,
        )
    kept = keep_plan(open_store(into, create=True), made) if into else None
    misfit = None if made.fits else DoesNotFit("; ".join(made.refusals))
    if as_json:
        value = made.model_dump(mode="json") | {"kept": kept}
        if misfit is not None:
            emit_failed(value, misfit)
        emit(value)
        return
    from lamella.cluster.commands.show_plan import show_plan

    show_plan(console, made, free)
    sys.stdout.flush()  # what is wrong comes after it, on the other stream
    if misfit is not None:
        raise misfit


def compared_values(rows: "Sequence[Comparison] | None") -> dict[str, Any]:
    """Return plan and actuals as plain values; empty without a plan."""
    return {} if rows is None else {"plan": [asdict(row) for row in rows]}


def show_comparison(console: Console, rows: "Sequence[Comparison]") -> None:
    """Print plan and actuals side by side."""
    from lamella.cluster.commands.show_plan import show_comparison

    show_comparison(console, rows)
