"""The evaluation job: score a snapshot by a protocol; return a report and what its page shows."""

import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.sandbox import shrink
from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate import protocols
from lamella.pipeline.evaluate.explain import QueryPicture, explain_query, telling_queries
from lamella.pipeline.evaluate.revisited import revisited
from lamella.pipeline.evaluate.sweep import (
    SweepPlan,
    SweepResult,
    plan_sweep,
    score_batch,
    summarise,
)
from lamella.pipeline.evaluate.truth import GroundTruth
from lamella.pipeline.jobs.query_run import Place
from lamella.pipeline.jobs.querying import encode_queries
from lamella.pipeline.run.drive import Progress
from lamella.pipeline.search.coordinator import Coordinator
from lamella.pipeline.search.encode import cropped, read_queries
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.search.searcher import take_queries
from lamella.pipeline.search.segment import QueryBatch
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import create_once
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.record_rules import report_run
from lamella.pipeline.store.records import sealed_text
from lamella.schemas.query import FusionSpec, Weighting
from lamella.schemas.report import BoxMode, Difficulty, Metric, Protocol, RetrievalReport

QUERIES_A_BATCH = 64
THUMBNAIL_EDGE = 144
SHOWN_QUERIES = 8
SHOWN_PICTURES = 8


@dataclass(frozen=True)
class Evaluated:
    """A report and what its page shows.

    Attributes:
        queries: the queries on the page.
        thumbnails: JPEGs by image id.
        result: the scores of each query.
        note: why the page has no pictures, if it has none.
    """

    report: RetrievalReport
    queries: tuple[QueryPicture, ...]
    thumbnails: dict[int, bytes]
    result: SweepResult
    note: str = ""


def ground_truth(
    protocol: Protocol,
    names: Sequence[str],
    *,
    truth: Path | None = None,
    box: BoxMode = "roi",
    pattern: str | None = None,
    metric: Metric = "mAP",
    difficulty: Difficulty = "medium",
) -> GroundTruth:
    """Return a protocol's queries over the images of an index.

    Args:
        names: names of the indexed images.
        truth: Oxford: the folder of `*_query.txt` and so on; Holidays: `holidays_images.dat`;
            revisited: `gnd_roxford5k.pkl` or `gnd_rparis6k.pkl`.
        box: Oxford and revisited: `roi` crops queries to their box.
        pattern: groups: a regular expression with one group, which captures an image's group.
        metric: groups: the metric.
        difficulty: revisited: which answers are right.

    Raises:
        InputError: the protocol needs files that were not given, or no indexed image belongs to
            it.
    """
    match protocol:
        case "ukb":
            return protocols.ukb(names)
        case "oxford":
            if truth is None:
                raise InputError(
                    "protocol oxford needs --truth, the folder of its ground-truth files"
                )
            return protocols.oxford(names, truth, box)
        case "holidays":
            return protocols.holidays(names, truth)
        case "roxford" | "rparis":
            if truth is None:
                raise InputError(f"protocol {protocol} needs --truth, its gnd_*.pkl file")
            return revisited(protocol, names, truth, difficulty, box)
        case "groups":
            return protocols.groups(names, pattern, metric)


def evaluate(
    place: Place,
    coordinator: Coordinator,
    names: Sequence[str],
    image_ids: NDArray[np.int64],
    truth: GroundTruth,
    fusion: FusionSpec,
    weighting: Weighting,
    *,
    weights: Path | None = None,
    expand: int = 0,
) -> Evaluated:
    """Score each layer, their plain sum, the mapped fusion, and a sweep over (t, p).

    All images are scored exactly. Every ranking and every point of the sweep is computed from the
    same similarities, one batch of queries at a time.

    Args:
        names, image_ids: names and ids of the indexed images, in the same order, ids rising.
        expand: how many of its best pictures by the mapped fusion each query is averaged with;
            all rankings are then those of the expanded queries.

    Raises:
        InputError: a query is not in the index, or its picture cannot be read for cropping.
    """
    began = time.monotonic()
    plan = plan_sweep(truth, names, fusion)
    layers = [entry.layer for entry in fusion.layers]
    queries = query_features(place, coordinator, image_ids, truth, layers, weights, plan)
    queries = [(first, coordinator.expanded(batch, fusion, expand)) for first, batch in queries]
    parts = []
    for first, batch in queries:
        parts.append(score_batch(plan, first, coordinator.similarities(batch, layers)[1]))
        done = first + len(batch)
        place.progress(Progress("evaluate", done, len(truth.queries), done, len(truth.queries)))
    result = summarise(plan, parts)
    snapshot = place.snapshot
    report = RetrievalReport(
        snapshot=snapshot.root_digest,
        protocol=truth.protocol,
        metric=truth.metric_name,
        fusion=fusion,
        weighting=weighting,
        mode="exact",
        rows=result.rows,
        gains=result.gains,
        bootstrap=result.bootstrap,
        sweep=result.sweep,
        best=result.best,
        cross_validated=result.cross_validated,
        background=result.background,
        settings=_settings(place, expand),
        queries=len(truth.queries),
        missing=len(truth.missing),
        indexed=snapshot.indexed,
        refused=snapshot.refused,
        elapsed_seconds=time.monotonic() - began,
    )
    shown = []
    for query, note in telling_queries(result, SHOWN_QUERIES):
        batch = next(
            take_queries(batch, [query - first])
            for first, batch in queries
            if first <= query < first + len(batch)
        )
        table = coordinator.similarities(batch, layers)[1][:, 0]
        shown.append(explain_query(plan, query, image_ids, table, SHOWN_PICTURES, note))
    try:
        return Evaluated(report, tuple(shown), _thumbnails(place, shown), result)
    except InputError as error:
        return Evaluated(report, tuple(shown), {}, result, f"the page shows no pictures: {error}")


def query_features(
    place: Place,
    coordinator: Coordinator,
    image_ids: NDArray[np.int64],
    truth: GroundTruth,
    layers: Sequence[str],
    weights: Path | None,
    plan: SweepPlan,
) -> list[tuple[int, QueryBatch]]:
    """Return the queries in batches: their indexed features, or extracted if any is cropped."""
    ids = [int(image_ids[row]) for row in plan.truth.query_ids]
    starts = range(0, len(ids), QUERIES_A_BATCH)
    if all(query.box is None for query in truth.queries):
        return [
            (first, coordinator.features(ids[first : first + QUERIES_A_BATCH], layers))
            for first in starts
        ]
    table = ImageTable(place.store, place.snapshot, pictures=place.pictures)
    rows = [
        cropped(table.row(image_id), query.box) if query.box else table.row(image_id)
        for image_id, query in zip(ids, truth.queries, strict=True)
    ]
    records = encode_queries(place, rows, table.root, weights, DecodeLimits(), QUERIES_A_BATCH)
    found: list[tuple[int, QueryBatch]] = []
    for first, record in zip(starts, records, strict=True):
        numbers, batch = read_queries(place.store, record, place.snapshot)
        expected = min(QUERIES_A_BATCH, len(ids) - first)
        if batch is None or len(numbers) != expected:
            raise InputError(
                f"{expected - len(numbers)} query pictures under {table.root} cannot be read or "
                "have changed since they were indexed: restore them, or index again"
            )
        found.append((first, batch))
    return found


def _settings(place: Place, expand: int) -> dict[str, str]:
    extraction = place.snapshot.extraction
    words = {name: f"{v.words:,}" for name, v in place.snapshot.vocabularies.items()}
    return {
        "corpus": place.snapshot.corpus,
        "network": extraction.network,
        "weights": f"{extraction.weights.name} ({extraction.weights.sha256[:12]})",
        "short edge": str(extraction.preprocess.short_edge),
        **{f"words of {name}": count for name, count in words.items()},
        **({"queries": f"expanded by {expand}"} if expand else {}),
    }


def _thumbnails(place: Place, queries: Sequence[QueryPicture]) -> dict[int, bytes]:
    """Return small JPEGs of the pictures on the page, by image id; unreadable ones are left out.

    Raises:
        InputError: the pictures may not be read, as `picture_root` says.
    """
    images = ImageTable(place.store, place.snapshot, pictures=place.pictures)
    found: dict[int, bytes] = {}
    for image_id in dict.fromkeys(_shown(queries)):
        data = images.picture_bytes(image_id)
        small = thumbnail(data) if data is not None else None
        if small is not None:
            found[image_id] = small
    return found


def _shown(queries: Sequence[QueryPicture]) -> Iterator[int]:
    for query in queries:
        yield query.image_id
        for ranking in query.rankings:
            for picture in ranking.pictures:
                yield picture.image_id


def thumbnail(data: bytes) -> bytes | None:
    """Return a picture as a small JPEG, None if it cannot be decoded."""
    from PIL import Image

    try:
        small = shrink(data, 2 * THUMBNAIL_EDGE, THUMBNAIL_EDGE, DecodeLimits())
    except Refused:
        return None
    out = io.BytesIO()
    Image.fromarray(small).save(out, "JPEG", quality=80)
    return out.getvalue()


def store_report(store: Store, report: RetrievalReport, page: str) -> Path:
    """Store a report and its page in the folder of a run; return a local path of the page.

    The run is named by the contents of the report. A report that is already stored stays as it is.
    """
    run = report_run(report)
    create_once(store, tree.PAGE.at(run=run), sealed_text(page))
    create_once(store, tree.REPORT.at(run=run), report.to_json())
    return store.local_path(tree.PAGE.at(run=run))
