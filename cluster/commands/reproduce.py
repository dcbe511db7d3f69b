"""`lamella reproduce`: the paper's tables beside what the networks and data sets at hand give."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer
from rich.console import Console

from lamella.cluster.commands import option_values, options
from lamella.cluster.commands.choices import choice
from lamella.cluster.commands.output import begin, emit, unfolded
from lamella.cluster.commands.progress import ProgressLines
from lamella.pipeline.errors import InputError
from lamella.schemas.report import BoxMode
from lamella.schemas.reproduced import DataSetName, Reproduced

if TYPE_CHECKING:
    from lamella.cluster.ray.engine import Engine
    from lamella.pipeline.reproduce.planning import Index, Program

console = unfolded(Console())


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(reproduce)


def reproduce(
    data: Annotated[
        list[str],
        typer.Option(
            help="A data set, as oxford=FOLDER, holidays=FOLDER or ukb=FOLDER; or a folder that "
            "holds some, as they are released. Give it again for more.",
        ),
    ],
    into: Annotated[Path, typer.Option(help="The folder of all indexes; made if absent.")],
    network: Annotated[
        list[str] | None,
        typer.Option(
            help="alexnet, vgg16 or efficientnet_lite0 (which the paper does not have). Give it "
            "again for more.",
            show_default="all of them",
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="A network's weights, as vgg16=FILE. Layers that the file lacks are not run.",
            show_default="those installed or downloaded before",
        ),
    ] = None,
    caffe: Annotated[
        bool,
        typer.Option(
            "--caffe",
            help="The file of vgg16 or alexnet is Caffe's: its channels are BGR, 0 to 255.",
        ),
    ] = False,
    distractors: Annotated[
        list[str] | None,
        typer.Option(
            help="A folder that is indexed with every data set, or as ukb=FOLDER with one. Give it "
            "again for more."
        ),
    ] = None,
    words: Annotated[
        list[str] | None,
        typer.Option(
            help="Visual words of each local layer: N, or ukb=N for one data set, vgg16=N for one "
            "network. Give it again for more.",
            show_default="as published: 50,000 for Oxford, 100,000 for the others",
        ),
    ] = None,
    per_picture: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Descriptors a picture that words are trained on.",
            show_default="as many as give 4 million over the whole data set",
        ),
    ] = None,
    box: Annotated[
        BoxMode,
        choice("--box", get_args(BoxMode), help="Oxford: roi crops queries to their boxes."),
    ] = "roi",
    page: Annotated[
        Path | None, typer.Option(help="The page.", show_default="reproduce.html in --into")
    ] = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Estimate hours and bytes of what is missing; run nothing."),
    ] = False,
    sample: Annotated[int, typer.Option(min=2, help="--plan: pictures that are probed.")] = 24,
    engine: options.Engine = None,
    address: options.Address = None,
    workers: options.Workers = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Print the paper's tables beside what is measured here, and draw a page.

    One index a network and data set, with all its layers, words and settings as
    published; singles, pairs and triples of layers are scored from one pass. What
    is there already is not made again, so a command that was stopped goes on when
    it is given again. What cannot be run is listed with the command that would.

    Examples: [bold]lamella reproduce --data ~/data --into ./paper --plan[/];
    [bold]lamella reproduce --data oxford=~/oxford5k --into ./paper --network vgg16 --weights
    vgg16=vgg16.pth[/]
    """
    begin("looking for data sets and weights", quiet=as_json)
    from lamella.pipeline.reproduce.data_sets import find_data_sets, numbers_by_name
    from lamella.pipeline.reproduce.networks import NETWORKS, network_here, weights_given
    from lamella.pipeline.reproduce.paper import DATA_SETS
    from lamella.pipeline.reproduce.planning import Wanted, program

    option_values.check_output("--page", page)
    names = list(dict.fromkeys(network or NETWORKS))
    if unknown := [name for name in names if name not in NETWORKS]:
        raise InputError(f"--network takes {', '.join(NETWORKS)}; got {unknown[0]!r}")
    files = weights_given(weights or [], names)
    folder = into.expanduser().absolute()
    wanted = Wanted(
        into=folder,
        words=numbers_by_name("--words", words or [], [*NETWORKS, *DATA_SETS]),
        per_picture=per_picture,
        box=box,
        spoken=_spoken(
            ("--data", data),
            ("--network", network or []),
            ("--weights", weights or []),
            ("--caffe", [""] if caffe else []),
            ("--distractors", distractors or []),
            ("--words", words or []),
            ("--per-picture", [str(per_picture)] if per_picture else []),
            ("--into", [str(into)]),
        ),
    )
    running = {
        key.removeprefix("engine."): value
        for key, value in option_values.engine_overrides(engine, address, workers).items()
        if value is not None
    }
    found = program(
        wanted,
        [network_here(name, files.get(name), caffe=caffe) for name in names],
        find_data_sets(data, distractors or []),
        running,
    )
    for each in found.data_sets:
        begin(f"found {each.name} in {each.pictures}", quiet=as_json)
    if plan:
        _plan(found, sample, as_json=as_json)
        return
    _run(found, page or folder / "reproduce.html", as_json=as_json)


def _spoken(*given: tuple[str, Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Return the options of a command, each once for each of its values; "" is no value."""
    return tuple(
        (option, value) if value else (option,) for option, values in given for value in values
    )


def _plan(found: "Program", sample: int, *, as_json: bool) -> None:
    from lamella.cluster.commands.index import prepare_index
    from lamella.cluster.commands.show_reproduced import show_program
    from lamella.pipeline.plan.make import make_plan
    from lamella.pipeline.reproduce.estimates import Estimate
    from lamella.pipeline.store.storage import free_bytes

    found.wanted.into.mkdir(parents=True, exist_ok=True)
    estimates = []
    for index in found.indexes:
        if has_snapshot(index):
            estimates.append(Estimate(index, done=True))
            continue
        index.corpus.write()
        prepared = prepare_index(index.corpus.source, str(index.store), index.job, quiet=as_json)
        with ProgressLines(Console(stderr=True), quiet=as_json) as lines:
            made = make_plan(
                prepared,
                sample=sample,
                free_bytes=free_bytes(str(found.wanted.into)),
                on_progress=lines.stage,
            )
        estimates.append(Estimate.of(index, made))
    if as_json:
        emit(
            {
                "indexes": [each.plain() for each in estimates],
                "not_run": [vars(each) for each in found.not_run],
            }
        )
        return
    show_program(console, found, estimates)


def has_snapshot(index: "Index") -> bool:
    """Say whether an index is made already."""
    from lamella.pipeline.index.promotions import current_snapshot
    from lamella.pipeline.store.storage import open_store

    if not index.store.is_dir():
        return False
    return current_snapshot(open_store(str(index.store))) is not None


def _run(found: "Program", page: Path, *, as_json: bool) -> None:
    from lamella.cluster.commands.show_reproduced import show_reproduced
    from lamella.cluster.ray.engine import engine
    from lamella.pipeline.reproduce.page import render
    from lamella.pipeline.reproduce.planning import NotRun, command_of
    from lamella.pipeline.reproduce.summary import summary
    from lamella.schemas.job import EngineSettings

    found.wanted.into.mkdir(parents=True, exist_ok=True)
    settings = found.indexes[0].job.engine if found.indexes else EngineSettings()
    records: dict[tuple[str, DataSetName], Reproduced] = {}
    not_run: list[NotRun] = list(found.not_run)
    with engine(settings, quiet=as_json) as opened:
        for index in found.indexes:
            begin(index.title, quiet=as_json)
            try:
                for record in _scored(opened, found, index, as_json=as_json):
                    records[record.network, record.data_set] = record
            except InputError as error:
                not_run.append(NotRun(index.title, str(error), command_of(found.wanted)))
    page.write_text(render(found, records, not_run), encoding="utf-8")
    if as_json:
        emit(summary(records, not_run) | {"page": str(page)})
        return
    show_reproduced(console, records, not_run, page)


def _scored(
    engine: "Engine", found: "Program", index: "Index", *, as_json: bool
) -> list[Reproduced]:
    from lamella.cluster.commands.index import index_store, prepare_index
    from lamella.pipeline.jobs.query_run import Place
    from lamella.pipeline.reproduce.run import reproduce as score
    from lamella.pipeline.store.storage import open_store

    index.corpus.write()
    prepared = prepare_index(index.corpus.source, str(index.store), index.job, quiet=as_json)
    snapshot = index_store(engine, str(index.store), prepared, quiet=as_json).snapshot
    store, records = open_store(str(index.store)), []
    for data_set in index.data_sets:
        with ProgressLines(Console(stderr=True), quiet=as_json) as lines:
            place = Place(
                store, snapshot, engine.runner, engine.threads, lines.stage, index.corpus.source
            )
            records.append(
                score(
                    place,
                    partial(engine.coordinator, store, snapshot, snapshot.weighting),
                    data_set,
                    box=found.wanted.box,
                    weights=index.network.weights,
                    drawn=data_set == found.data_sets[0],
                )
            )
    return records
