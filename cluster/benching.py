"""`lamella bench`: what this machine does, tried before pictures are at hand."""

import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cluster import options
from cluster.progress import ProgressLines
from pipeline.errors import InputError

bench = typer.Typer(
    help="Measure what this machine does, on drawn pictures: search.", no_args_is_help=True
)
console = Console()


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(bench, name="bench")


@bench.callback()
def _group() -> None:
    """Keep `search` a command of its own: typer makes an only command the group itself."""


@bench.command()
def search(
    pictures: Annotated[int, typer.Option("--pictures", "-n", min=1, help="To draw.")] = 20_000,
    queries: Annotated[int, typer.Option("--queries", "-q", min=1, help="Of one batch.")] = 64,
    k: Annotated[int, typer.Option("-k", min=1, help="Images of each answer.")] = 100,
    segment: Annotated[
        int, typer.Option("--segment-images", min=1, help="Pictures of a segment.")
    ] = 20_000,
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Where segments lie meanwhile, 10 kB a picture.",
            show_default="the system's folder for temporary files",
        ),
    ] = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Draw pictures after the law of real ones, build their segments, answer a batch exactly.

    1,280 dimensions and some 219 of 100,000 words a picture, as of a layer of EfficientNet-Lite0.
    A million take some minutes, 10 GB on disk, and 3 GB of memory or more.
    """
    from pipeline.planted.trial import try_search

    if folder is not None and not folder.is_dir():
        raise InputError(f"{folder} is no folder: make it, or give another --folder")
    with (
        tempfile.TemporaryDirectory(prefix="lamella-bench-", dir=folder) as scratch,
        ProgressLines(Console(stderr=True), quiet=as_json) as lines,
    ):
        found = try_search(
            Path(scratch),
            pictures,
            queries,
            k=k,
            segment_images=segment,
            threads=len(os.sched_getaffinity(0)),
            on_progress=lines.stage,
        )
    if as_json:
        from cluster.cli import emit

        emit(asdict(found))
        return
    table = Table("exact search", "", show_header=True, title_justify="left")
    for name, value in (
        ("pictures", f"{found.pictures:,} in {found.segments:,} segments"),
        ("built in", f"{found.build_seconds:,.1f} s, {found.bytes_per_picture:,.0f} bytes each"),
        ("answered", f"{found.queries_per_second:,.1f} queries/s, {found.queries:,} at once"),
        ("certified", f"{found.certified:,} of {found.queries:,}, the {found.k:,} best of each"),
        ("looked at closely", f"{found.looked_at:.2%} of all pairs of query and picture"),
        ("decided in float64", f"{found.decided:.4%}"),
    ):
        table.add_row(name, value)
    console.print(table)
