"""`lamella explain`: why a picture has its rank for a query, and the words that both share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from lamella.cluster.commands import option_values, options
from lamella.cluster.commands.output import begin, emit, unfolded
from lamella.pipeline.jobs.settings import load_job

if TYPE_CHECKING:
    from lamella.pipeline.evaluate.pair import Explanation
    from lamella.schemas.job import JobConfig

console = unfolded(Console())


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(explain)


def explain(
    store: options.Store,
    query: Annotated[
        str,
        typer.Argument(
            help="The query: the name of an indexed picture, or else a picture file. A name goes "
            "first; write ./NAME for a file of that name.",
        ),
    ],
    result: Annotated[
        str, typer.Argument(help="The result to explain: the name of an indexed picture.")
    ],
    by_id: Annotated[
        bool,
        typer.Option("--id", help="Take QUERY and RESULT for image ids where they are numbers."),
    ] = False,
    page: Annotated[
        Path | None,
        typer.Option(
            help="Write a page to this file: both pictures, and where their shared words are.",
            metavar="FILE",
        ),
    ] = None,
    layers: options.Layers = None,
    t: options.Thresholds = None,
    p: options.Powers = None,
    w: options.LayerWeights = None,
    fusion: options.Fusion = None,
    profile: options.Profile = None,
    pictures: options.Pictures = None,
    weights: options.Weights = None,
    number: options.Snapshot = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Say why a picture has its rank for a query: S, f(S) and rank by layer, words in common.

    Two indexed pictures, with a page that draws their shared words on both:
    [bold]lamella explain ./index cats/1.jpg cats/7.jpg --page why.html[/]

    A picture from elsewhere:
    [bold]lamella explain ./index ~/photo.jpg cats/7.jpg[/]

    Figures are those of [bold]lamella query[/] in its exact mode. The index keeps no places of
    words, so both pictures go through the network again; one that is gone or has changed is
    explained without places.
    """
    begin(f"opening {store}", quiet=as_json)
    from lamella.cluster.commands.show_explain import show_explanation

    option_values.check_output("--page", page)
    overrides = {**option_values.fusion_overrides(t, p, w, fusion), "profile": profile}
    explanation = explain_store(
        store,
        query,
        result,
        load_job(None, overrides),
        by_id=by_id,
        layers=option_values.words(layers),
        number=number,
        weights=weights,
        pictures=pictures,
        page=page,
        quiet=as_json,
    )
    if as_json:
        emit(explanation.to_dict() | {"page": None if page is None else str(page)})
        return
    show_explanation(console, explanation, page)


def explain_store(
    url: str,
    query: str,
    result: str,
    job: "JobConfig",
    *,
    by_id: bool = False,
    layers: list[str] | None = None,
    number: int | str | None = None,
    weights: Path | None = None,
    pictures: str | None = None,
    page: Path | None = None,
    quiet: bool = False,
) -> "Explanation":
    """Return why a result has its rank, and write the page of it where one is wanted.

    Raises:
        InputError: there is no snapshot, or no such picture.
        UnknownLayer: the snapshot has no such layer.
    """
    from lamella.cluster.commands.progress import ProgressLines
    from lamella.pipeline.cores import available_cores
    from lamella.pipeline.evaluate.pair_page import render
    from lamella.pipeline.jobs.explaining import explain_pair
    from lamella.pipeline.jobs.pair_names import chosen_query, chosen_result
    from lamella.pipeline.jobs.pictures_again import opening_at, shown_picture
    from lamella.pipeline.jobs.query_run import Place
    from lamella.pipeline.jobs.resolve import asked_fusion, chosen_snapshot
    from lamella.pipeline.products import choice
    from lamella.pipeline.run.serial import SerialRunner
    from lamella.pipeline.search.coordinator import Coordinator, LocalServers
    from lamella.pipeline.search.searcher import SegmentSearcher
    from lamella.pipeline.store.storage import open_store

    store = open_store(url)
    snapshot = chosen_snapshot(store, number)
    spec, weighting = asked_fusion(snapshot, job, layers)
    choice.use(job.engine.products)
    with ProgressLines(Console(stderr=True), quiet=quiet) as lines:
        threads = available_cores()
        place = Place(store, snapshot, SerialRunner(), threads, lines.stage, pictures)
        searcher = SegmentSearcher(store.url, snapshot, None, weighting)
        coordinator = Coordinator(LocalServers(searcher), snapshot.indexed)
        opening = opening_at(place, coordinator, weights)
        images = opening.images
        wanted = chosen_result(images, snapshot, result, by_id=by_id)
        asked = chosen_query(images, snapshot, query, by_id=by_id)
        explanation = explain_pair(opening, searcher, asked, wanted, spec, weighting)
        if page is not None:
            both = shown_picture(opening, asked), shown_picture(opening, wanted)
            page.write_text(render(explanation, *both), encoding="utf-8")
    return explanation
