"""The main commands. Each reads settings, opens an engine, and calls one job of the pipeline."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from lamella.cluster.commands import (
    bench,
    keeping,
    maintenance,
    options,
    plan,
    reindex,
    status,
    vocabulary,
)
from lamella.cluster.commands.output import begin, emit
from lamella.pipeline.errors import InputError
from lamella.pipeline.jobs.settings import load_job
from lamella.pipeline.text import printable
from lamella.schemas.job import EngineSettings

app = typer.Typer(
    name="lamella",
    help="Index pictures by several layers of a network, and rank by all of them together.\n\n"
    "Start with [bold]lamella demo[/], then [bold]lamella index ~/Pictures --into ./index[/]. "
    "To continue a command that was stopped, give it again.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()


@app.callback()
def options_of_all(version: options.Version = False) -> None:
    """Takes what stands before a command."""


PROTOCOLS = ("ukb", "oxford", "holidays", "roxford", "rparis", "groups")


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for pictures, index and report.")] = Path(
        "lamella-demo"
    ),
    objects: Annotated[int, typer.Option(help="Objects to plant, four views each.")] = 100,
    engine: options.Engine = None,
    workers: options.Workers = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Make a corpus of real pictures with known truth, index it, evaluate it, draw its page.

    Takes a few minutes and needs no network connection. If stopped, give the
    command again.
    """
    from lamella.cluster.commands.evaluate import Asked, evaluate_store
    from lamella.cluster.commands.index import index_store
    from lamella.pipeline.planted.generate import generate

    pictures = folder / "pictures"
    if not pictures.exists():
        folder.mkdir(parents=True, exist_ok=True)
        generate(pictures, objects=objects)
    elif (found := len(list(pictures.iterdir()))) != objects:
        raise InputError(
            f"{pictures} holds {found} objects, {objects} are wanted: give another folder"
        )
    settings = {"name": "planted", **options.engine_overrides(engine, None, workers)}
    job = load_job(None, settings)
    out = Console(quiet=as_json)
    what = f" {objects} objects in 4 views each, cut from real photographs: {pictures}"
    out.print(Text.assemble(("1", "bold"), printable(what)))
    out.print("[bold]2[/] Indexing: decode, one forward pass, visual words, inverted files")
    with _engine(job.engine, quiet=as_json) as opened:
        index_store(opened, str(folder / "index"), str(pictures), job, quiet=as_json)
        out.print("[bold]3[/] Every picture asks for its other three views")
        asked = Asked(protocol="groups", metric="N-S")
        report, page = evaluate_store(
            opened, str(folder / "index"), job, asked, quiet=as_json, page=folder / "report.html"
        )
    if as_json:
        emit({"report": report.model_dump(mode="json"), "page": str(page)})
        return
    _print_report(report, page)
    out.print("Now yours: [bold]lamella index ~/Pictures --into ./index[/]")


@app.command()
def index(
    source: options.Source,
    into: options.Into,
    job_file: options.Job = None,
    name: options.Name = None,
    column: options.Column = None,
    network: options.Network = None,
    layers: options.NewLayers = None,
    weights: options.Weights = None,
    words: options.Words = None,
    vocabulary: options.GivenWords = None,
    keep_activations: options.KeepActivations = None,
    profile: options.Profile = None,
    t: options.Thresholds = None,
    p: options.Powers = None,
    w: options.LayerWeights = None,
    fusion: options.Fusion = None,
    max_refused: Annotated[
        float | None,
        typer.Option(help="Share of unreadable pictures above which the job stops, 0 to 1."),
    ] = None,
    force: options.Force = False,
    retrain: options.Retrain = False,
    rehash: options.Rehash = False,
    engine: options.Engine = None,
    address: options.Address = None,
    workers: options.Workers = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Index pictures and publish a snapshot; promote it, so that it answers queries.

    With the defaults:
    [bold]lamella index ~/Pictures --into ./index[/]

    As in the paper:
    [bold]lamella index s.parquet --into ./index --network vgg16 --layers fc1,c5_1[/]

    A store that has a snapshot of the same source and settings keeps its words, and what
    it knows of pictures that are still there: so only what changed costs anything. See
    [bold]lamella reindex[/].

    A snapshot that loses or gains too many pictures, or answers golden queries worse,
    is made and not promoted: exit code 3, and the current one goes on answering.

    To continue a run that was stopped, give the same command again. [bold]lamella plan[/]
    with the same [bold]--into[/] estimates the costs first; the run then shows them beside
    what it took.
    """
    begin(f"listing the pictures of {source}", quiet=as_json)
    from lamella.cluster.commands.index import Wishes, index_store
    from lamella.cluster.commands.show_indexed import show_indexed

    overrides = {
        **options.index_overrides(
            name, column, network, layers, weights, words, vocabulary, keep_activations
        ),
        "profile": profile,
        **options.fusion_overrides(t, p, w, fusion),
        "corpus.max_refused": max_refused,
        **options.engine_overrides(engine, address, workers),
    }
    job = load_job(job_file, overrides)
    with _engine(job.engine, quiet=as_json) as opened:
        wishes = Wishes(force, retrain, rehash)
        indexed = index_store(opened, into, source, job, quiet=as_json, wishes=wishes)
    show_indexed(console, indexed, into, as_json=as_json)


@app.command()
def query(
    store: options.Store,
    pictures: Annotated[
        str | None,
        typer.Argument(
            help="The query pictures: one picture, any source that `index` takes, or "
            "[bold]snapshot[/] for every indexed picture."
        ),
    ] = None,
    queries: Annotated[
        str | None, typer.Option(help="The query pictures, given as an option.")
    ] = None,
    ids: Annotated[
        str | None, typer.Option(help="Query by indexed images instead, given by id: 3,17, or all.")
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(help="Query by indexed images, given by name: cats/1.jpg,dogs/7.jpg."),
    ] = None,
    column: options.Column = None,
    k: Annotated[
        int | None,
        typer.Option("--k", "-k", help="How many images to return a query.", show_default="100"),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            help="[bold]exact[/] is certified; [bold]candidates[/] fuses the best images of each "
            "layer, [bold]paper[/] those of the high layer alone.",
            show_default="exact",
        ),
    ] = None,
    expand: options.Expand = None,
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
            show_default="a digest",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Copy the rankings to this Parquet file.")
    ] = None,
    trec: Annotated[
        Path | None,
        typer.Option(
            help="Copy the rankings to a TREC run: qid is the image id of an indexed query, else "
            "its number in the source; docid is the image id."
        ),
    ] = None,
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

    By one picture:
    [bold]lamella query ./index photo.jpg -k 10[/]

    By every indexed picture, keeping the answers as a run named pairs:
    [bold]lamella query ./index --queries snapshot --into pairs[/]

    To continue a run that was stopped, give the same command again.
    Up to 64 pictures are answered in this process, unless engine, workers or address are given.
    """
    from lamella.cluster.commands.query import Queries, answer_queries, prepare_queries
    from lamella.cluster.commands.query_output import Copies, Said, hand_out, show_again

    options.check_output("--out", out)
    options.check_output("--trec", trec)
    copies = Copies(out, trec, as_json)
    given = [each for each in (pictures, queries, ids, names) if each is not None]
    if len(given) != 1 and (given or into is None):
        raise typer.BadParameter("give one of PICTURES, --queries, --ids and --names")
    overrides = {
        "search.k": k,
        "search.mode": mode,
        **options.fusion_overrides(t, p, w, fusion),
        "search.expand": expand,
        "profile": profile,
        **options.engine_overrides(engine, address, workers),
    }
    job = load_job(job_file, overrides)
    if into is not None and not given:
        show_again(console, store, into, copies, Said(job, options.words(layers), number))
        return
    prepared = prepare_queries(
        store,
        job,
        Queries(pictures or queries, ids, names, into, column),
        number=number,
        layers=options.words(layers),
        named_network=job_file is not None,
    )
    with _engine(prepared.engine(job.engine), quiet=as_json) as opened:
        answered = answer_queries(opened, prepared, weights=weights, quiet=as_json)
    hand_out(console, store, answered, copies)


@app.command()
def evaluate(
    store: options.Store,
    protocol: Annotated[str, typer.Option(help=", ".join(PROTOCOLS))],
    truth: Annotated[
        Path | None,
        typer.Option(
            help="The ground truth: Oxford's folder, holidays_images.dat, gnd_roxford5k.pkl."
        ),
    ] = None,
    box: Annotated[
        str, typer.Option(help="Oxford, Paris: roi crops queries to their boxes, full does not.")
    ] = "roi",
    difficulty: Annotated[
        str, typer.Option(help="roxford, rparis: easy, medium or hard.")
    ] = "medium",
    pattern: Annotated[
        str | None,
        typer.Option(
            help="groups: a regular expression with one group, which captures the group's name."
        ),
    ] = None,
    metric: Annotated[str, typer.Option(help="groups: mAP or N-S.")] = "mAP",
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

    options.check_output("--page", page)
    asked = Asked(
        protocol=_one_of("--protocol", protocol, PROTOCOLS),
        truth=truth,
        box=_one_of("--box", box, ("roi", "full")),
        pattern=pattern,
        metric=_one_of("--metric", metric, ("mAP", "N-S")),
        difficulty=_one_of("--difficulty", difficulty, ("easy", "medium", "hard")),
        layers=options.words(layers),
    )
    overrides = {
        **options.fusion_overrides(t, p, w, fusion),
        "search.expand": expand,
        "profile": profile,
        **options.engine_overrides(engine, address, workers),
    }
    job = load_job(None, overrides)
    with _engine(job.engine, quiet=as_json) as opened:
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
    _print_report(report, written, sweep=sweep)


def _engine(settings: EngineSettings, *, quiet: bool) -> Any:
    from lamella.cluster.ray.engine import engine

    return engine(settings, quiet=quiet)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> Any:
    if value not in allowed:
        raise InputError(f"{name} is one of {', '.join(allowed)}; got {value!r}")
    return value


def _print_report(report: Any, page: Path, sweep: bool = False) -> None:
    from lamella.cluster.commands.show import show_report

    show_report(console, report, page, sweep=sweep)


# After the commands above, so that help lists them in the order of use.
reindex.register(app)
plan.register(app)
bench.register(app)
status.register(app)
keeping.register(app)
maintenance.register(app)
app.add_typer(vocabulary.app, name="vocabulary")
