"""The command that asks: its options, and the order in which they are checked, asked and shown."""

from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.console import Console

from lamella.cluster.commands import beats, option_values, options
from lamella.cluster.commands.choices import choice
from lamella.cluster.commands.output import begin, unfolded
from lamella.pipeline.jobs.settings import load_job
from lamella.pipeline.scratch import scratch
from lamella.schemas.query import SearchMode

console = unfolded(Console())


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(query)


def query(
    store: options.Store,
    pictures: Annotated[
        list[str] | None,
        typer.Argument(
            help="The query pictures: pictures, folders, lists, patterns such as 'cats/*.jpg'; or "
            "one source of any kind that `index` takes; [bold]-[/] for standard input, which is a "
            "picture or a list; [bold]snapshot[/] for every indexed picture.",
            show_default=False,
        ),
    ] = None,
    queries: Annotated[
        str | None, typer.Option(help="The query pictures, given as an option.")
    ] = None,
    ids: Annotated[
        str | None,
        typer.Option(
            help="Query by indexed images instead, given by id: 3,17, or all; [bold]-[/] for ids "
            "on standard input, one a line."
        ),
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(
            help="Query by indexed images, given by name: cats/1.jpg,dogs/7.jpg; [bold]-[/] for "
            "names on standard input, one a line."
        ),
    ] = None,
    column: options.Column = None,
    vectors: options.QueryVectors = None,
    k: Annotated[
        int | None,
        typer.Option("--k", "-k", help="How many images to return a query.", show_default="100"),
    ] = None,
    mode: Annotated[
        str | None,
        choice(
            "--mode",
            get_args(SearchMode),
            help="[bold]exact[/] is certified; [bold]candidates[/] fuses the best images of each "
            "layer, found without a scan where the index has proposers; [bold]paper[/] fuses those "
            "of the high layer alone.",
            show_default="exact",
        ),
    ] = None,
    recall: options.Recall = None,
    expand: options.Expand = None,
    exclude_self: Annotated[
        bool | None,
        typer.Option(
            "--exclude-self",
            help="Leave an indexed picture out of its own answer, which then has k others.",
        ),
    ] = None,
    above: options.Above = None,
    where: options.Where = None,
    layers: options.Layers = None,
    t: options.Thresholds = None,
    p: options.Powers = None,
    w: options.LayerWeights = None,
    fusion: options.Fusion = None,
    profile: options.Profile = None,
    into: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Keep the answers in the store under this name; given alone, show them again.",
            show_default="kept under a digest from 65 queries on",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Copy the rankings to this file: .parquet, .csv or .json.", metavar="FILE"
        ),
    ] = None,
    trec: Annotated[
        Path | None,
        typer.Option(
            help="Copy the rankings to a TREC run by names of pictures; what splits lines or "
            "columns is percent-encoded in them.",
            metavar="FILE",
        ),
    ] = None,
    trec_ids: Annotated[
        bool,
        typer.Option(
            "--trec-ids",
            help="Have ids in the TREC run: of images, and the numbers of pictures from elsewhere.",
        ),
    ] = False,
    job_file: options.Job = None,
    weights: options.Weights = None,
    number: options.Snapshot = None,
    engine: options.Engine = None,
    address: options.Address = None,
    workers: options.Workers = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Rank the index for pictures, folders of pictures, or indexed images.

    By one picture, or several:
    [bold]lamella query ./index photo.jpg -k 10[/]

    By every indexed picture, itself left out, keeping the answers as the run pairs:
    [bold]lamella query ./index --queries snapshot --exclude-self --into pairs[/]

    Among the pictures of a folder, by a column that the index keeps:
    [bold]lamella query ./index photo.jpg --where 'year >= 2020 and startswith(name, "cats/")'[/]

    By vectors of your own, of an index that has such a layer:
    [bold]lamella query ./index --vectors clip=queries.parquet[/]

    Up to 64 queries are answered in this process, unless engine, workers or
    address are given, and the store keeps nothing of them, unless
    [bold]--into[/] names a run. The answers to more are kept: to continue a
    run that was stopped, give the same command again.
    """
    begin(f"opening {store}", quiet=as_json)
    from lamella.cluster.commands.query import Queries, answer_queries, prepare_queries
    from lamella.cluster.commands.query_output import Copies, Said, hand_out, show_again
    from lamella.cluster.ray.engine import engine as opened_engine

    option_values.check_output("--out", out)
    option_values.check_output("--trec", trec)
    copies = Copies(out, trec, as_json, trec_ids)
    pictures = pictures or None
    given = [each for each in (pictures, queries, ids, names) if each is not None]
    if len(given) > 1 or not (given or vectors or into):
        raise typer.BadParameter("give one of PICTURES, --queries, --ids, --names and --vectors")
    overrides = {
        "search.k": k,
        "search.mode": mode,
        "search.recall": recall,
        **option_values.fusion_overrides(t, p, w, fusion),
        "search.expand": expand,
        "search.exclude_self": exclude_self,
        "search.above": above,
        "search.where": where,
        "profile": profile,
        **option_values.engine_overrides(engine, address, workers),
    }
    job = load_job(job_file, overrides)
    if into is not None and not (given or vectors):
        show_again(console, store, into, copies, Said(job, option_values.words(layers), number))
        return
    with scratch("query") as folder:
        prepared = prepare_queries(
            store,
            job,
            Queries(pictures or queries, ids, names, into, column, tuple(vectors or ())),
            number=number,
            layers=option_values.words(layers),
            named_network=job_file is not None,
            scratch=folder,
        )
        if prepared.kept:
            beats.allow()
        with opened_engine(prepared.engine(job.engine), quiet=as_json) as opened:
            answered = answer_queries(opened, prepared, weights=weights, quiet=as_json)
        hand_out(console, answered, copies)
