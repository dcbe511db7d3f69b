"""`lamella export`: layers of an index, in formats that other programs read."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from lamella.cluster.commands import option_values, options
from lamella.cluster.commands.choices import choice
from lamella.cluster.commands.output import begin, emit, say
from lamella.pipeline.export.formats import FORMATS


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(export)


def export(
    store: options.Store,
    to: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="A new or empty folder. It appears once everything is in it, with a README.md "
            "that says how to open each file, and an export.json that says it for programs.",
        ),
    ],
    layer: Annotated[
        list[str] | None,
        typer.Option(
            help="A layer, such as head; may be given several times.", show_default="all of them"
        ),
    ] = None,
    format: Annotated[
        str | None,
        choice(
            "--format",
            FORMATS,
            help="Of vectors. [bold]parquet[/], [bold]arrow[/], [bold]lance[/]: columns image_id, "
            "name, vector. [bold]npy[/]: a matrix, with ids.npy and names.txt. [bold]faiss[/]: a "
            "flat index of cosines, its ids are image ids, with names.parquet. Words go into a "
            "sparse matrix for scipy.sparse.load_npz, whatever the format of vectors.",
            show_default="parquet",
        ),
    ] = None,
    unit: Annotated[
        bool,
        typer.Option(
            "--unit",
            help="Divide each vector, and each row of words, by its length, so that inner products "
            "are cosines. FAISS always gets these. Without it vectors are as they are stored.",
        ),
    ] = False,
    weighted: Annotated[
        bool,
        typer.Option(
            "--weighted",
            help="Multiply counts of words by the snapshot's weights: tf-idf, unless it was made "
            "with --profile paper.",
        ),
    ] = False,
    clusters: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1_000_000,
            metavar="N",
            help="Sort the images of each global layer into N clusters too, by spherical k-means "
            "of FAISS; which one an image is in is decided in float64.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Draws the first centres of clusters.")
    ] = 0,
    number: options.Snapshot = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Export vectors and visual words, for pandas, polars, DuckDB, FAISS, SciPy and others.

    All layers, vectors as Parquet and words as sparse matrices:
    [bold]lamella export ./index --to ./vectors[/]

    The vectors of one layer as an index of FAISS:
    [bold]lamella export ./index --layer head --format faiss --to ./vectors[/]

    Sort the pictures into 100 clusters:
    [bold]lamella export ./index --layer head --clusters 100 --to ./clusters[/]

    Rows are in the order of image ids, so the files have the same bytes however the index is cut
    into segments (but for Lance, which names its files at random). Memory holds a few batches of
    images, except for FAISS, whose index is made in memory.
    """
    begin(f"opening {store}", quiet=as_json)
    from lamella.cluster.commands.progress import ProgressLines
    from lamella.pipeline.export.write import Wanted, export_layers
    from lamella.pipeline.jobs.resolve import chosen_snapshot
    from lamella.pipeline.store.storage import open_store

    option_values.check_local("--to", to)
    opened = open_store(store)
    snapshot = chosen_snapshot(opened, number)
    wanted = Wanted(tuple(layer or ()), format, unit, weighted, clusters, seed)  # type: ignore[arg-type]
    with ProgressLines(Console(stderr=True), quiet=as_json) as lines:
        facts = export_layers(opened, snapshot, to, wanted, lines.stage)
    if as_json:
        emit(facts | {"folder": str(to)})
        return
    _show(facts, to)


def _show(facts: dict[str, Any], to: Path) -> None:
    from lamella.pipeline.text import byte_size, counted

    for layer in facts["layers"]:
        rows, columns = layer["shape"]
        what = "dimensions" if layer["kind"] == "global" else "words"
        said = f"{layer['name']}: {counted(rows, 'image')}, {columns:,} {what}, {layer['format']}"
        if layer.get("clusters"):
            said += (
                f"; {counted(layer['clusters'], 'cluster')}, the largest of "
                f"{layer['largest_cluster']:,}, {layer['empty_clusters']:,} empty"
            )
        say(said)
    say(f"{byte_size(sum(facts['files'].values()))} in {to}; README.md says how to open them")
