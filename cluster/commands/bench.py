"""`lamella bench`: measure this machine before a corpus is indexed."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from lamella.cluster.commands import option_values, options
from lamella.cluster.commands.output import emit, unfolded
from lamella.cluster.commands.progress import ProgressLines
from lamella.pipeline.cores import available_cores
from lamella.pipeline.errors import InputError
from lamella.pipeline.scratch import scratch
from lamella.pipeline.text import counted

if TYPE_CHECKING:
    from lamella.pipeline.bench.extract import ExtractionTrial
    from lamella.pipeline.bench.passes import PassTrial

bench = typer.Typer(
    help="Measure search and extraction on this machine.",
    no_args_is_help=True,
)
console = unfolded(Console())
COMPARED_S = 60.0
"""No more pictures are compared after so long, in precisions or batch sizes."""

WAITED_FOR = {
    "core": "a core, while others were on all",
    "picture": "a picture: its bytes, or the process that decodes it",
    "network": "the network: Python's lock",
    "batch": "a batch to work on: the writer or a GPU is behind, or the run ends",
}


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(bench, name="bench")


@bench.command()
def search(
    pictures: Annotated[
        int, typer.Option("--pictures", "-n", min=1, help="Pictures to draw.")
    ] = 20_000,
    queries: Annotated[
        int, typer.Option("--queries", "-q", min=1, help="Queries in the batch.")
    ] = 64,
    k: Annotated[int, typer.Option("-k", min=1, help="Images a query.")] = 100,
    segment: Annotated[
        int, typer.Option("--segment-images", min=1, help="Pictures a segment.")
    ] = 20_000,
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Folder for temporary segments, 10 kB a picture.",
            show_default="the system's folder for temporary files",
        ),
    ] = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Build segments of drawn pictures with realistic statistics, and answer a batch exactly.

    A picture has 1,280 dimensions and some 60 of 20,000 words, like layers of
    EfficientNet-Lite0. A million pictures take some minutes, 10 GB of disk, and 3
    GB of memory or more.
    """
    from lamella.pipeline.bench.search import try_search

    if folder is not None and not folder.is_dir():
        raise InputError(f"{folder} is no folder: make it, or give another --folder")
    with (
        scratch("bench", folder) as files,
        ProgressLines(Console(stderr=True), quiet=as_json) as lines,
    ):
        found = try_search(
            files,
            pictures,
            queries,
            k=k,
            segment_images=segment,
            threads=available_cores(),
            on_progress=lines.stage,
        )
    if as_json:
        emit(asdict(found))
        return
    table = Table("exact search", "", show_header=True, title_justify="left")
    for name, value in (
        ("pictures", f"{found.pictures:,} in {counted(found.segments, 'segment')}"),
        ("built in", f"{found.build_seconds:,.1f} s, {found.bytes_per_picture:,.0f} bytes each"),
        ("answered", f"{found.queries_per_second:,.1f} queries/s, {found.queries:,} at once"),
        ("certified", f"{found.certified:,} of {found.queries:,}, the {found.k:,} best of each"),
        ("looked at closely", f"{found.looked_at:.2%} of all pairs of query and picture"),
        ("decided in float64", f"{found.decided:.4%}"),
    ):
        table.add_row(name, value)
    console.print(table)


@bench.command()
def extract(
    source: Annotated[
        str | None,
        typer.Argument(help="Pictures to measure with; drawn ones by default.", show_default=False),
    ] = None,
    pictures: Annotated[
        int, typer.Option("--pictures", "-n", min=1, help="The most pictures.")
    ] = 200,
    network: Annotated[
        str | None,
        typer.Option(help="Network, as for `lamella index`.", show_default="the default"),
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="Layers from high to low, such as fc1,c5_1.")
    ] = None,
    weights: options.Weights = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Pictures a forward pass.", show_default="1")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of a worker.", show_default="one a core")
    ] = None,
    precisions: Annotated[
        str | None,
        typer.Option(help="Compare passes in these precisions too, such as bfloat16,float16."),
    ] = None,
    batch_sizes: Annotated[
        str | None, typer.Option(help="Compare passes of these batch sizes, such as 1,4,8.")
    ] = None,
    job_file: options.Job = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Measure each step of extraction alone, the whole, and what threads wait for.

    Times reading, decoding, the network, descriptors and writing, on all cores
    and a GPU if there is one; reckons the ceiling they allow together; and says
    how near the pipeline comes to it. On request compares passes in other
    precisions or batch sizes: their speed, and how far their vectors move.
    """
    from lamella.cluster.commands import show_passes
    from lamella.pipeline.bench.extract import device_here, try_extraction
    from lamella.pipeline.bench.extract_steps import choose_pictures
    from lamella.pipeline.bench.passes import alike, best_batch_size, compare_passes
    from lamella.pipeline.corpus.stage import decode_limits
    from lamella.pipeline.jobs.resolve import resolve_extraction
    from lamella.pipeline.jobs.settings import load_job
    from lamella.pipeline.planted.generate import generate_pictures

    overrides = {
        "network.name": network,
        "network.layers": option_values.words(layers),
        "network.weights": str(weights) if weights else None,
        "network.batch_size": batch_size,
    }
    job = load_job(job_file, overrides)
    spec, path = resolve_extraction(job)
    by_precision = show_passes.specs_of_precisions(spec, precisions)
    by_size = show_passes.specs_of_batch_sizes(spec, batch_sizes)
    threads = threads or available_cores()
    with (
        scratch("bench") as folder,
        ProgressLines(Console(stderr=True), quiet=as_json) as lines,
    ):
        if source is None:
            generate_pictures(folder / "pictures", pictures)
        chosen = choose_pictures(
            source or str(folder / "pictures"),
            pictures,
            decode_limits(job),
            job.corpus.column if source else None,
        )
        found = try_extraction(folder, chosen, spec, path, threads=threads, on_progress=lines.stage)
        compare = partial(
            compare_passes,
            weights=path,
            threads=threads,
            device=device_here(),
            seconds=COMPARED_S,
        )
        tried: Sequence[PassTrial] = ()
        sizes: Sequence[PassTrial] = ()
        if precisions:
            tried = compare(chosen, by_precision)
        if by_size:
            sizes = compare(alike(chosen, spec), by_size)
    best = best_batch_size(sizes) if sizes else None
    if as_json:
        compared = {"precisions": tried, "batch_sizes": sizes}
        values = {name: [asdict(each) for each in trials] for name, trials in compared.items()}
        emit(asdict(found) | values | {"best_batch_size": best})
        return
    _show(found)
    if tried:
        show_passes.show_precisions(console, tried)
    if best is not None:
        show_passes.show_batch_sizes(console, sizes, best)


def _show(found: "ExtractionTrial") -> None:
    rates = Table(f"{found.network}, {', '.join(found.layers)}", "by", "pictures/s")
    for step in found.steps:
        by = found.device if step.on_gpu else counted(step.threads, "thread")
        rates.add_row(f"{step.name} alone", by, f"{step.pictures_per_second:,.1f}")
    rates.add_section()
    rates.add_row("what they allow together", "", f"{found.ceiling:,.1f}")
    rates.add_row(
        f"pipeline, {found.of_ceiling:.0%} of that",
        f"{found.busy_cores:.1f} cores",
        f"{found.pipeline:,.1f}",
    )
    console.print(rates)
    waits = Table("what its threads waited for", "share of their time")
    for cause, share in found.waiting.items():
        waits.add_row(WAITED_FOR[cause], f"{share:.1%}")
    console.print(waits)
