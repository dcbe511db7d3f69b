"""The main commands. Each reads settings, opens an engine, and calls one job of the pipeline."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from lamella.cluster.commands import (
    bench,
    compare,
    doctor,
    duplicates,
    evaluate_command,
    explain,
    export_command,
    keeping,
    maintenance,
    option_values,
    options,
    plan,
    query_command,
    reindex,
    reproduce,
    serve,
    status,
    vocabulary,
)
from lamella.cluster.commands.failures import Commands
from lamella.cluster.commands.help_text import unfold_help
from lamella.cluster.commands.observed import observe
from lamella.cluster.commands.output import begin, emit, unfolded
from lamella.pipeline.errors import InputError
from lamella.pipeline.jobs.settings import load_job
from lamella.pipeline.text import printable
from lamella.schemas.job import EngineSettings

app = typer.Typer(
    name="lamella",
    help="Index pictures by several layers of a network, and rank by all of them together.\n\n"
    "Start with [bold]lamella demo[/], then [bold]lamella index ~/Pictures --into ./index[/]. "
    "To continue a command that was stopped, give it again.\n\n"
    "Exit codes: 0 done, 1 the work failed or a check found something, 2 what was given cannot be "
    "used, 3 a snapshot was made and not promoted, 4 it needs a person (damage, rights), 75 try "
    "later (the store or the cluster is away or full), 130 stopped. A query of which nothing was "
    "answered ends with 2. With [bold]--json[/], stdout has one JSON value; if a command fails, "
    "an object with [bold]error[/].",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
console = unfolded(Console())


@app.callback()
def options_of_all(version: options.Version = False) -> None:
    """Takes what stands before a command."""


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
    from lamella.cluster.commands.evaluate import Asked, evaluate_store, page_json
    from lamella.cluster.commands.index import index_store, prepare_index
    from lamella.cluster.commands.show import show_report
    from lamella.pipeline.jobs.report_page import Wanted
    from lamella.pipeline.planted.generate import generate

    pictures = folder / "pictures"
    if not pictures.exists():
        folder.mkdir(parents=True, exist_ok=True)
        generate(pictures, objects=objects)
    elif (found := len(list(pictures.iterdir()))) != objects:
        raise InputError(
            f"{pictures} holds {found} objects, {objects} are wanted: give another folder"
        )
    settings = {"name": "planted", **option_values.engine_overrides(engine, None, workers)}
    job = load_job(None, settings)
    out = unfolded(Console(quiet=as_json))
    what = f" {objects} objects in 4 views each, cut from real photographs: {pictures}"
    out.print(Text.assemble(("1", "bold"), printable(what)), soft_wrap=True)
    out.print("[bold]2[/] Indexing: decode, one forward pass, visual words, inverted files")
    with _engine(job.engine, quiet=as_json) as opened:
        prepared = prepare_index(str(pictures), str(folder / "index"), job, quiet=as_json)
        index_store(opened, str(folder / "index"), prepared, quiet=as_json)
        out.print("[bold]3[/] Every picture asks for its other three views")
        asked = Asked(protocol="groups", metric="N-S")
        page = Wanted(folder / "report.html", single_file=True)
        report, written = evaluate_store(
            opened, str(folder / "index"), job, asked, quiet=as_json, page=page
        )
    if as_json:
        emit({"report": report.model_dump(mode="json"), **page_json(written)})
        return
    show_report(console, report, written)
    out.print("Now yours: [bold]lamella index ~/Pictures --into ./index[/]")


@app.command()
def index(
    into: options.Into,
    sources: options.Sources = None,
    vectors: options.Vectors = None,
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
    profile: options.Profile = None,
    t: options.Thresholds = None,
    p: options.Powers = None,
    w: options.LayerWeights = None,
    fusion: options.Fusion = None,
    max_refused: options.MaxRefused = None,
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

    With a million distractors in a folder of their own:
    [bold]lamella index ~/oxford ~/distractors --into ./index[/]

    With vectors that you have of every picture, beside the network's layers, or alone:
    [bold]lamella index ~/Pictures --vectors clip=clip.parquet --into ./index[/]

    A store that has a snapshot of the same source and settings keeps its words, and what
    it knows of pictures that are still there: so only what changed costs anything. See
    [bold]lamella reindex[/].

    A snapshot that loses or gains too many pictures, or answers golden queries worse,
    is made and not promoted: exit code 3, and the current one goes on answering.

    To continue a run that was stopped, give the same command again. [bold]lamella plan[/]
    with the same [bold]--into[/] estimates the costs first; the run then shows them beside
    what it took.
    """
    if sources:
        begin(f"listing the pictures of {', '.join(sources)}", quiet=as_json)
    else:
        begin(f"reading the vectors of {', '.join(vectors or ())}", quiet=as_json)
    from lamella.cluster.commands.index import Wishes, index_store, prepare_index
    from lamella.cluster.commands.show_indexed import show_indexed
    from lamella.pipeline.corpus.joined import source_of

    overrides = {
        **option_values.index_overrides(
            *(name, column, keep_columns, network, layers, weights),
            *(words, vocabulary, keep_activations, vectors),
        ),
        "profile": profile,
        **option_values.fusion_overrides(t, p, w, fusion),
        "corpus.max_refused": max_refused,
        **option_values.engine_overrides(engine, address, workers),
    }
    job = load_job(job_file, overrides)
    prepared = prepare_index(source_of(sources) if sources else None, into, job, quiet=as_json)
    with _engine(job.engine, quiet=as_json) as opened:
        wishes = Wishes(force, retrain, rehash)
        indexed = index_store(opened, into, prepared, quiet=as_json, wishes=wishes)
    show_indexed(console, indexed, into, as_json=as_json)


query_command.register(app)
evaluate_command.register(app)
compare.register(app)


def _engine(settings: EngineSettings, *, quiet: bool) -> Any:
    from lamella.cluster.ray.engine import engine

    return engine(settings, quiet=quiet)


# After the commands above, so that help lists them in the order of use.
explain.register(app)
duplicates.register(app)
export_command.register(app)
serve.register(app)
reproduce.register(app)
reindex.register(app)
plan.register(app)
bench.register(app)
status.register(app)
keeping.register(app)
maintenance.register(app)
doctor.register(app)
app.add_typer(vocabulary.app, name="vocabulary")
unfold_help(app)
observe(app)
