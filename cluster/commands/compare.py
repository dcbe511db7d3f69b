"""`lamella compare`: two snapshots or runs under the same queries."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lamella.cluster.commands import option_values, options
from lamella.cluster.commands import protocol_options as rules
from lamella.cluster.commands.output import begin, unfolded

console = unfolded(Console())

SIDE = (
    "[bold]STORE[/] for its promoted snapshot, [bold]STORE@3[/] or [bold]STORE@TAG[/] for another, "
    "[bold]STORE@RUN[/] for a run that `lamella query --into` kept, or the file of a TREC run. "
    "[bold]run:[/], [bold]tag:[/] or [bold]snapshot:[/] after the @ says which is meant."
)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(compare)


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help=SIDE, show_default=False)],
    b: Annotated[str, typer.Argument(metavar="B", help="Another of these.", show_default=False)],
    protocol: rules.Rules = None,
    qrels: rules.Qrels = None,
    truth: rules.Truth = None,
    box: rules.Box = None,
    difficulty: rules.OneDifficulty = "medium",
    part: rules.Part = None,
    within: rules.Within = None,
    pattern: rules.Pattern = None,
    metric: rules.FirstMetric = "mAP",
    measure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="M[,M]",
            help="Measures, such as mAP, N-S, R@100 or nDCG@10; may be given several times. The "
            "first one leads.",
            show_default="that of the protocol, R@10",
        ),
    ] = None,
    in_both: Annotated[
        bool,
        typer.Option(
            "--in-both",
            help="Score over the pictures that both corpora have: new and removed ones leave the "
            "rankings and the right answers.",
        ),
    ] = False,
    queries: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Without right answers: ask so many pictures that both have, drawn by a seed.",
            show_default="200 of two snapshots, all of a run",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a row a query to this file of Parquet."),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a page to this file, with the queries that changed most side by side.",
        ),
    ] = None,
    fail_on_loss: Annotated[
        bool,
        typer.Option(
            "--fail-on-loss", help="End with 1 where B is worse by a measure, as its verdict says."
        ),
    ] = False,
    pictures: options.Pictures = None,
    weights: options.Weights = None,
    engine: options.Engine = None,
    address: options.Address = None,
    workers: options.Workers = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Compare B with A: the same queries to two snapshots, or two runs.

    What last night's index changed, on a page:
    [bold]lamella compare ./index@6 ./index@7 --page night.html[/]

    Stop a nightly script where last night's index ranks worse, whatever came and went:
    [bold]lamella compare ./index@6 ./index@7 --protocol groups --in-both --fail-on-loss[/]

    Which of two runs is better, by judgements:
    [bold]lamella compare ./index@plain ./index@mapped --qrels qrels.txt[/]

    Differences are B less A. A gain or a loss is called one where its interval excludes zero and
    its corrected p is at most .05. Overlaps say how alike the rankings are; over the pictures that
    both corpora have, new and removed pictures have no effect. Queries that only one side has are
    left out and counted. A query's own picture is left out of the rankings that are compared.

    The exit code is 0 whatever is found; with [bold]--fail-on-loss[/] a loss gives 1.
    """
    begin(f"opening {a} and {b}", quiet=as_json)
    from lamella.cluster.commands.compare_run import Asked, Copies, run_comparison
    from lamella.cluster.commands.show_compare import show_comparison
    from lamella.pipeline.evaluate.protocols.by_name import ProtocolOptions
    from lamella.pipeline.jobs.settings import load_job

    option_values.check_output("--out", out)
    option_values.check_output("--page", page)
    asked = Asked(
        protocol=protocol,
        said=ProtocolOptions(truth, box or "roi", pattern, metric, difficulty, part, within),
        qrels=qrels,
        measures=tuple(option_values.words(",".join(measure or ())) or ()),
        queries=queries,
        weights=weights,
        in_both=in_both,
        needs_verdict=fail_on_loss,
    )
    job = load_job(None, option_values.engine_overrides(engine, address, workers))
    found = run_comparison(a, b, asked, job.engine, Copies(out, page, pictures), quiet=as_json)
    show_comparison(console, found, out, page, as_json=as_json)
    if fail_on_loss and found.comparison.lost:
        raise typer.Exit(1)
