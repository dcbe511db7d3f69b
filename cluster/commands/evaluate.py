"""`lamella evaluate`: score a store's snapshot by a protocol; write its report and page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from lamella.cluster.commands.progress import ProgressLines
from lamella.cluster.ray.engine import Engine
from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.page import render
from lamella.pipeline.evaluate.run_report import named, reasons
from lamella.pipeline.evaluate.run_table import truth_notes
from lamella.pipeline.evaluate.score_tables import swept_scores
from lamella.pipeline.evaluate.truth import GroundTruth
from lamella.pipeline.jobs.evaluating import evaluate, ground_truth, store_report
from lamella.pipeline.jobs.query_run import Place
from lamella.pipeline.jobs.ranking_copies import whole
from lamella.pipeline.jobs.resolve import asked_fusion, chosen_snapshot
from lamella.pipeline.jobs.scoring import corpus_names, read_judgements, write_judgements
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.store.tables import write_parquet
from lamella.pipeline.text import printable
from lamella.schemas.job import JobConfig
from lamella.schemas.report import BoxMode, Difficulty, Metric, Protocol, RetrievalReport


@dataclass(frozen=True)
class Asked:
    """What to evaluate: by a protocol, or by qrels; `strict` refuses pictures that are unknown.

    Without `box` it is the usual one: `roi`, and `full` for a run, whose queries were asked as they
    are.

    Raises:
        InputError: neither a protocol nor qrels are given, or both.
    """

    protocol: Protocol | None
    truth: Path | None = None
    box: BoxMode | None = None
    pattern: str | None = None
    metric: Metric = "mAP"
    difficulty: Difficulty = "medium"
    layers: list[str] | None = None
    qrels: Path | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        if (self.protocol is None) == (self.qrels is None):
            raise InputError(
                f"what is right is said by --protocol or by --qrels; got "
                f"{'neither' if self.protocol is None else 'both'}: give one of them"
            )

    def of_protocol(self, names: Sequence[str], box: BoxMode) -> GroundTruth:
        """Return the truth by the protocol over these names. Raises as `ground_truth`."""
        if self.protocol is None:
            raise ValueError("qrels say what is right here, no protocol does")
        return ground_truth(
            self.protocol,
            sorted(names),
            truth=self.truth,
            box=self.box or box,
            pattern=self.pattern,
            metric=self.metric,
            difficulty=self.difficulty,
        )


@dataclass(frozen=True)
class Copies:
    """Where copies go: scores by query as Parquet, the truth as qrels, the run as scored."""

    scores: Path | None = None
    qrels: Path | None = None
    run: Path | None = None


NO_COPIES = Copies()


def evaluate_store(
    engine: Engine,
    url: str,
    job: JobConfig,
    asked: Asked,
    *,
    number: int | str | None = None,
    weights: Path | None = None,
    quiet: bool = False,
    page: Path | None = None,
    pictures: str | None = None,
    copies: Copies = NO_COPIES,
) -> tuple[RetrievalReport, Path]:
    """Return the report and where its page is: in the run's folder, or where `page` says."""
    store = open_store(url)
    snapshot = chosen_snapshot(store, number)
    fusion, weighting = asked_fusion(snapshot, job, asked.layers)
    with ProgressLines(Console(stderr=True), quiet=quiet) as lines:
        place = Place(store, snapshot, engine.runner, engine.threads, lines.stage, pictures)
        with engine.coordinator(store, snapshot, weighting) as coordinator:
            image_ids = coordinator.image_ids()
            names = ImageTable(store, snapshot).names_of(image_ids).to_pylist()
            truth, unknown = _truth(asked, names)
            found = evaluate(
                place,
                coordinator,
                names,
                image_ids,
                truth,
                fusion,
                weighting,
                weights=weights,
                expand=job.search.expand,
            )
    said = truth_notes(reasons(truth), named(unknown))
    for note in [*said, *([found.note] if found.note else [])] if not quiet else []:
        Console(stderr=True).print(Text(printable(note)), style="yellow", soft_wrap=True)
    if copies.scores is not None:
        with whole(copies.scores) as part:
            write_parquet(swept_scores(found.result, truth), part)
    if copies.qrels is not None:
        write_judgements(truth, corpus_names(store, snapshot), copies.qrels)
    html = render(found.report, found.queries, found.thumbnails)
    written = store_report(store, found.report, html)
    if page is not None:
        page.write_text(html, encoding="utf-8")
        written = page
    return found.report, written


def _truth(asked: Asked, names: Sequence[str]) -> tuple[GroundTruth, tuple[str, ...]]:
    """Return what is right over the indexed pictures, and judged pictures that are not indexed."""
    if asked.qrels is None:
        return asked.of_protocol(names, "roi"), ()
    judged = read_judgements(asked.qrels, names, indexed_queries=True, strict=asked.strict)
    return judged.truth, judged.unknown
