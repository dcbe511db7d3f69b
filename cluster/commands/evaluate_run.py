"""`lamella evaluate --run`: score rankings that lie there, without pictures or segments."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from rich.console import Console

from lamella.cluster.commands.evaluate import Asked, Copies, sizes_in
from lamella.cluster.commands.progress import ProgressLines
from lamella.cluster.commands.show import plain
from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.measures import parse_measures
from lamella.pipeline.evaluate.run_report import (
    check_all_known,
    report_scores,
    unknown_ranked,
    usual_measures,
)
from lamella.pipeline.evaluate.run_table import intervals_text, run_notes, run_table
from lamella.pipeline.evaluate.score_ranked import score_ranked
from lamella.pipeline.evaluate.score_tables import run_scores
from lamella.pipeline.evaluate.trec_runs import write_run
from lamella.pipeline.evaluate.truth import GroundTruth
from lamella.pipeline.jobs.ranking_copies import whole
from lamella.pipeline.jobs.scoring import (
    OpenRun,
    corpus_names,
    open_run,
    read_judgements,
    write_judgements,
)
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.store.tables import write_parquet
from lamella.schemas.run_report import RunReport


@dataclass(frozen=True)
class _Truth:
    """What is right, judged pictures that the corpus lacks, and the SHA-256 of the qrels."""

    truth: GroundTruth
    unknown: tuple[str, ...]
    qrels: str | None


def evaluate_run(
    url: str,
    run: str,
    asked: Asked,
    *,
    measures: Sequence[str] | None = None,
    number: int | str | None = None,
    quiet: bool = False,
    copies: Copies,
) -> RunReport:
    """Return how well a run answers, and write the copies that are wanted.

    Args:
        run: the name of a run of the store, or the path of a TREC run.
        measures: their names; the usual ones by default.
        number: for a file, the snapshot that it is about.

    Raises:
        InputError: the run is not there or empty, a measure is not known, the truth cannot be
            made, or it has no query of the run.
    """
    began = time.monotonic()
    wanted = parse_measures(measures) if measures is not None else None
    store = open_store(url)
    with ProgressLines(Console(stderr=True), quiet=quiet) as lines:
        opened = open_run(store, run, number, progress=lines.stage)
        corpus = None if opened.snapshot is None else corpus_names(store, opened.snapshot)
        names = None if corpus is None else corpus.column("name").to_pylist()
        found = _truth(store, asked, opened, corpus, names)
        unranked = unknown_ranked(opened.ranked, names) if names is not None else ()
        if asked.strict and names is not None:
            check_all_known(f"run {opened.name}", unranked, names)
        wanted = wanted or usual_measures(found.truth, opened.depth)
        label = f"run {opened.name}"
        scored = score_ranked(opened.ranked, found.truth, label, wanted, progress=lines.stage)
    report = report_scores(
        scored,
        found.truth,
        wanted,
        run=opened.name,
        snapshot=opened.root_digest,
        qrels=found.qrels,
        depth=opened.depth,
        complete=opened.complete,
        unknown=None if names is None else (found.unknown, unranked),
        elapsed_seconds=time.monotonic() - began,
    )
    if copies.scores is not None:
        with whole(copies.scores) as part:
            write_parquet(run_scores(scored.scored), part)
    if copies.qrels is not None:
        write_judgements(found.truth, corpus, copies.qrels)
    if copies.run is not None:
        with whole(copies.run) as part:
            write_run(scored.scored, part, opened.name)
    return report


def _truth(
    store: Store,
    asked: Asked,
    opened: OpenRun,
    corpus: pa.Table | None,
    names: Sequence[str] | None,
) -> _Truth:
    if asked.qrels is not None:
        # Its queries were asked, whether they are pictures of the corpus or not.
        judged = read_judgements(asked.qrels, names, indexed_queries=False, strict=asked.strict)
        return _Truth(judged.truth, judged.unknown, judged.sha256)
    if corpus is None or names is None or opened.snapshot is None:
        raise InputError(
            f"protocol {asked.protocol} makes its queries of the names of the corpus, and the "
            f"snapshot that run {opened.name} asked (root {opened.root_digest[:12]}) has expired: "
            "give --qrels, or a run of a snapshot that is there"
        )
    ids = dict(zip(names, corpus.column("image_id").to_pylist(), strict=True))
    found = asked.of_protocol(names, "full", sizes_in(store, opened.snapshot, ids))
    if len(found) > 1:
        raise InputError(
            f"a run is scored by one ground truth; protocol {asked.protocol} has {len(found)}, "
            f"{found[0].protocol} to {found[-1].protocol}: say which by --part or --difficulty"
        )
    return _Truth(found[0], (), None)


def show_run(console: Console, report: RunReport) -> None:
    """Print the table of measures, how intervals were made, and what could not be scored."""
    for said in run_table(report):
        console.print(said)
    console.print(plain(intervals_text(report)), style="dim", soft_wrap=True)
    for note in run_notes(report):
        console.print(plain(note), style="yellow", soft_wrap=True)
