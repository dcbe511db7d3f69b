"""The command that evaluates: its options, and what it shows."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer
from rich.console import Console

from lamella.cluster.commands import option_values, options
from lamella.cluster.commands import protocol_options as rules
from lamella.cluster.commands.choices import choice
from lamella.cluster.commands.output import emit, unfolded
from lamella.pipeline.errors import InputError
from lamella.pipeline.jobs.settings import load_job
from lamella.schemas.report import AskedDifficulty

if TYPE_CHECKING:
    from lamella.cluster.commands.evaluate import Asked, Copies

console = unfolded(Console())


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(evaluate)


def evaluate(
    store: options.Store,
    protocol: rules.Rules = None,
    qrels: rules.Qrels = None,
    run: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Score this run of the store, or the TREC run in this file, as it is: without "
            "pictures or network.",
        ),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="M[,M]",
            help="With --run: mAP (trapezoids), N-S, mAP@k, mP@k, AP, RR, P@k, R@k, and all others "
            "of ir-measures, such as nDCG@10. May be given several times.",
            show_default="the protocol's own, and usual ones",
        ),
    ] = None,
    truth: rules.Truth = None,
    box: rules.Box = None,
    difficulty: Annotated[
        AskedDifficulty,
        choice(
            "--difficulty",
            get_args(AskedDifficulty),
            help="roxford, rparis: what is right; all gives a report for each.",
        ),
    ] = "medium",
    part: rules.Part = None,
    within: rules.Within = None,
    rotations: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="holidays: the published holidays-rotate.yaml, to say whether its pictures "
            "stand upright.",
        ),
    ] = None,
    pattern: rules.Pattern = None,
    metric: rules.FirstMetric = "mAP",
    expand: options.Expand = None,
    layers: options.Layers = None,
    t: options.Thresholds = None,
    p: options.Powers = None,
    w: options.LayerWeights = None,
    fusion: options.Fusion = None,
    profile: options.Profile = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Print the grid over (t, p).")] = False,
    page: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Write a page of all queries: sorted, searched and looked into in a browser. Its "
            "pictures go into the folder FILE-files beside it.",
        ),
    ] = None,
    single_file: Annotated[
        bool, typer.Option("--single-file", help="Put the pictures into the page itself.")
    ] = False,
    page_queries: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Of how many queries the page shows pictures, those first that tell most; the "
            "others are in its table.",
            show_default="1000",
        ),
    ] = None,
    shared_words: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Of how many queries the page draws the visual words that they share with their "
            "pictures, on both; each of these goes through the network again.",
        ),
    ] = 0,
    scores: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write what each query scores to this Parquet file, a column a measure.",
        ),
    ] = None,
    qrels_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write what is right as TREC qrels, and the ids of their pictures to "
            "FILE.ids.parquet.",
        ),
    ] = None,
    run_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --run: write the run as it was scored, without ignored pictures, as a TREC "
            "run.",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Refuse qrels, and a run, that name pictures which the corpus lacks."
        ),
    ] = False,
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
    group. Data sets are known by the names of their pictures, and need official files:
    [bold]lamella evaluate ./index --protocol roxford --truth gnd_roxford5k.pkl --difficulty all[/]

    A page of every query, beside its pictures:
    [bold]lamella evaluate ./index --protocol groups --page report.html[/]

    With [bold]--run[/] it scores rankings that are there, by any measure:
    [bold]lamella evaluate ./index --run pairs --qrels judged.qrels --measure mAP,nDCG@10[/]
    """
    from lamella.cluster.commands.evaluate import Asked, Copies, evaluate_parts, page_json
    from lamella.cluster.commands.show import show_reports
    from lamella.cluster.ray.engine import engine as opened_engine
    from lamella.pipeline.jobs.report_page import wanted_page

    option_values.check_output("--page", page)
    option_values.check_output("--scores", scores)
    option_values.check_output("--qrels-out", qrels_out)
    option_values.check_output("--run-out", run_out)
    asked = Asked(
        protocol=protocol,
        truth=truth,
        box=box,
        pattern=pattern,
        metric=metric,
        difficulty=difficulty,
        within=within,
        part=part,
        rotations=rotations,
        layers=option_values.words(layers),
        qrels=qrels,
        strict=strict,
    )
    wanted = wanted_page(
        page, single_file=single_file, queries=page_queries, shared_words=shared_words
    )
    copies = Copies(scores, qrels_out, run_out, wanted)
    if run is not None:
        _check_asks_nothing(
            {"--layers": layers, "--t": t, "--p": p, "--w": w, "--fusion": fusion}
            | {"--profile": profile, "--expand": expand, "--sweep": sweep or None}
            | {"--page": page, "--pictures": pictures, "--weights": weights}
        )
        _score_run(store, run, asked, measure, number, copies, as_json=as_json)
        return
    if measure or run_out is not None:
        raise InputError(
            f"{'--measure' if measure else '--run-out'} is about a run; got no --run: keep answers "
            f"with `lamella query {store} --queries snapshot --into NAME`, and give --run NAME"
        )
    overrides = {
        **option_values.fusion_overrides(t, p, w, fusion),
        "search.expand": expand,
        "profile": profile,
        **option_values.engine_overrides(engine, address, workers),
    }
    job = load_job(None, overrides)
    with opened_engine(job.engine, quiet=as_json) as opened:
        found = evaluate_parts(
            opened,
            store,
            job,
            asked,
            number=number,
            weights=weights,
            quiet=as_json,
            pictures=pictures,
            copies=copies,
        )
    if as_json:
        parts = [
            {"report": report.model_dump(mode="json"), **page_json(written)}
            for report, written in found
        ]
        emit(parts[0] if len(parts) == 1 else {"reports": parts})
        return
    show_reports(console, found, sweep=sweep)


def _check_asks_nothing(given: Mapping[str, object]) -> None:
    """Check that nothing is given that decides how queries are asked: a run was asked before.

    Raises:
        InputError: something is.
    """
    wrong = [name for name, value in given.items() if value is not None]
    if wrong:
        raise InputError(
            f"a run is scored as it was asked; {wrong[0]} is for asking: leave it out, or leave "
            "--run out, and the snapshot is asked anew"
        )


def _score_run(
    store: str,
    run: str,
    asked: "Asked",
    measures: list[str] | None,
    number: int | str | None,
    copies: "Copies",
    *,
    as_json: bool,
) -> None:
    """Score a run, and print its report."""
    from lamella.cluster.commands.evaluate_run import evaluate_run, show_run
    from lamella.pipeline.evaluate.measures import listed

    names = [name for text in measures or () for name in listed(text)] or None
    report = evaluate_run(
        store, run, asked, measures=names, number=number, quiet=as_json, copies=copies
    )
    if as_json:
        emit({"report": report.model_dump(mode="json")})
        return
    show_run(console, report)
