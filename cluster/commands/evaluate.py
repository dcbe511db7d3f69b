"""`lamella evaluate`: score a store's snapshot by a protocol; write its report and page."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from lamella.cluster.commands.progress import ProgressLines
from lamella.cluster.ray.engine import Engine
from lamella.pipeline.evaluate.page import render
from lamella.pipeline.jobs.evaluating import evaluate, ground_truth, store_report
from lamella.pipeline.jobs.query_run import Place
from lamella.pipeline.jobs.resolve import asked_fusion, chosen_snapshot
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.text import printable
from lamella.schemas.job import JobConfig
from lamella.schemas.report import BoxMode, Difficulty, Metric, Protocol, RetrievalReport


@dataclass(frozen=True)
class Asked:
    """What to evaluate."""

    protocol: Protocol
    truth: Path | None = None
    box: BoxMode = "roi"
    pattern: str | None = None
    metric: Metric = "mAP"
    difficulty: Difficulty = "medium"
    layers: list[str] | None = None


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
            truth = ground_truth(
                asked.protocol,
                sorted(names),
                truth=asked.truth,
                box=asked.box,
                pattern=asked.pattern,
                metric=asked.metric,
                difficulty=asked.difficulty,
            )
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
    if found.note and not quiet:
        Console(stderr=True).print(Text(printable(found.note)), style="yellow", soft_wrap=True)
    html = render(found.report, found.queries, found.thumbnails)
    written = store_report(store, found.report, html)
    if page is not None:
        page.write_text(html, encoding="utf-8")
        written = page
    return found.report, written
