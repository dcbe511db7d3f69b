"""`lamella vocabulary`: show, compare and export the visual words of a store."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lamella.cluster.commands import option_values, options
from lamella.cluster.commands.output import emit, unfolded
from lamella.cluster.commands.progress import ProgressLines

app = typer.Typer(
    name="vocabulary",
    help="Inspect the visual words of an index: their health, and whether they fit other "
    "pictures.\n\nExample: [bold]lamella vocabulary show ./index --page words.html[/]",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
console = unfolded(Console())

Layer = Annotated[
    str | None,
    typer.Option(help="Only this local layer, such as b11.", show_default="all of them"),
]


@app.command()
def show(
    store: options.Store,
    layer: Layer = None,
    number: options.Snapshot = None,
    page: Annotated[
        Path | None,
        typer.Option(
            help="Write a page with charts, and patches that excite the words, to this file."
        ),
    ] = None,
    words: Annotated[
        int,
        typer.Option(
            min=1, max=64, help="How many words of each kind to list and to show on the page."
        ),
    ] = 8,
    pictures: options.Pictures = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Show the health of visual words: training round by round, fit, and use by the pictures.

    [bold]Error[/]: mean squared distance of descriptors to their words; on held-out rows
    it shows how the words fit descriptors they were not trained on.

    [bold]Imbalance[/]: 1 where all words are used equally.

    [bold]Burstiness[/]: how often a word occurs in a picture that has it; high for windows
    and leaves.

    Example: [bold]lamella vocabulary show ./index --page words.html[/]
    """
    from lamella.cluster.commands.vocabulary_tables import show_health
    from lamella.pipeline.diagnostics.health_page import excited_words, render
    from lamella.pipeline.diagnostics.inspect import inspect_layer, local_layers
    from lamella.pipeline.jobs.resolve import chosen_snapshot
    from lamella.pipeline.store.storage import open_store

    option_values.check_output("--page", page)
    opened = open_store(store)
    snapshot = chosen_snapshot(opened, number)
    with ProgressLines(Console(stderr=True), quiet=as_json) as lines:
        found = [
            inspect_layer(opened, snapshot, name, listed=words, on_progress=lines.stage)
            for name in local_layers(snapshot, layer)
        ]
        if page is not None:
            layers = [
                (
                    each,
                    excited_words(
                        opened, snapshot, each, words, pictures=pictures, on_progress=lines.stage
                    ),
                )
                for each in found
            ]
            page.write_text(render(snapshot, layers), encoding="utf-8")
    if as_json:
        written = None if page is None else str(page)
        emit(
            {
                "snapshot": snapshot.number,
                "layers": [each.plain() for each in found],
                "page": written,
            }
        )
        return
    for each in found:
        show_health(console, each)
    if page is not None:
        from lamella.cluster.commands.show import plain

        console.print(plain(f"page of words: {page}"), style="bold", soft_wrap=True)


@app.command()
def compare(
    a: Annotated[
        str, typer.Argument(metavar="A", help="The index that has the words: a folder or s3://.")
    ],
    b: Annotated[
        str, typer.Argument(metavar="B", help="The index that has the pictures; may be the same.")
    ],
    layer: Layer = None,
    number_a: Annotated[
        str | None,
        typer.Option(
            "--snapshot-a",
            help="Of A, by number or tag; the promoted one by default.",
            show_default=False,
        ),
    ] = None,
    number_b: Annotated[
        str | None,
        typer.Option(
            "--snapshot-b",
            help="Of B, by number or tag; the promoted one by default.",
            show_default=False,
        ),
    ] = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Tell whether the words of index A still fit the pictures of index B.

    Draws equally many descriptors of each of B's pictures. Compares their error
    by A's words with the error of A's own rows, and their use of words with the
    difference between two halves of A's pictures.

    The last line advises to keep the words or to train anew, and names the rule.

    Example: [bold]lamella vocabulary compare ./index ./index-of-may[/]
    """
    from lamella.cluster.commands.vocabulary_tables import show_drift
    from lamella.pipeline.diagnostics.compare_snapshots import compare_layer
    from lamella.pipeline.diagnostics.inspect import local_layers
    from lamella.pipeline.jobs.resolve import chosen_snapshot
    from lamella.pipeline.store.storage import open_store

    stores = open_store(a), open_store(b)
    snapshots = chosen_snapshot(stores[0], number_a), chosen_snapshot(stores[1], number_b)
    with ProgressLines(Console(stderr=True), quiet=as_json) as lines:
        found = [
            compare_layer(stores, snapshots, name, on_progress=lines.stage)
            for name in local_layers(snapshots[0], layer)
        ]
    if as_json:
        emit(
            {
                "snapshots": [snapshot.number for snapshot in snapshots],
                "layers": [each.plain() for each in found],
            }
        )
        return
    for each in found:
        show_drift(console, each)


@app.command()
def export(
    store: options.Store,
    into: Annotated[Path, typer.Option(help="A folder for the arrays and their JSON.")],
    layer: Layer = None,
    number: options.Snapshot = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Export the words as NumPy arrays with a JSON each, for use in another index.

    The JSON holds the recipe of the descriptors; an index with another network,
    layer or recipe refuses the words.

    Example: [bold]lamella vocabulary export ./index --into ./words[/], then
    [bold]lamella index ~/Others --into ./other --vocabulary ./words[/]
    """
    from lamella.cluster.commands.show import plain
    from lamella.pipeline.diagnostics.inspect import local_layers
    from lamella.pipeline.jobs.resolve import chosen_snapshot
    from lamella.pipeline.store.storage import open_store
    from lamella.pipeline.vocabulary.exchange import export_vocabulary

    opened = open_store(store)
    snapshot = chosen_snapshot(opened, number)
    written = [
        export_vocabulary(opened, snapshot.vocabularies[name], snapshot.extraction, into)
        for name in local_layers(snapshot, layer)
    ]
    if as_json:
        emit({"written": [[str(path) for path in paths] for paths in written]})
        return
    for centroids, description in written:
        console.print(plain(f"{centroids} and {description.name}"), soft_wrap=True)
