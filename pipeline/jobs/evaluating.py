"""The evaluation job: score a snapshot by a protocol; return a report and the scores of queries."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.beside import query_measures, with_measures
from lamella.pipeline.evaluate.data_set import data_set_of
from lamella.pipeline.evaluate.measures import parse_measures
from lamella.pipeline.evaluate.protocols.by_name import ProtocolOptions, ground_truths
from lamella.pipeline.evaluate.sweep import (
    SweepPart,
    SweepPlan,
    SweepResult,
    plan_sweep,
    score_batch,
    summarise,
)
from lamella.pipeline.evaluate.truth import Box, GroundTruth, ResolvedTruth
from lamella.pipeline.jobs.query_run import Place
from lamella.pipeline.jobs.querying import encode_queries
from lamella.pipeline.run.drive import Progress
from lamella.pipeline.search.coordinator import Coordinator
from lamella.pipeline.search.encode import cropped, read_queries
from lamella.pipeline.search.given_queries import check_computed
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.search.segment import QueryBatch
from lamella.schemas.query import FusionSpec, Weighting
from lamella.schemas.report import BoxMode, Difficulty, Metric, Protocol, RetrievalReport

QUERIES_A_BATCH = 64


@dataclass(frozen=True)
class Evaluated:
    """A report, and what each query got in every ranking.

    Attributes:
        plan, result: how the queries were scored, and what came of it.
        image_ids: (N,) int64, the image at each place of the plan's names.
    """

    report: RetrievalReport
    plan: SweepPlan
    result: SweepResult
    image_ids: NDArray[np.int64]


def ground_truth(
    protocol: Protocol,
    names: Sequence[str],
    *,
    truth: Path | None = None,
    box: BoxMode = "roi",
    pattern: str | None = None,
    metric: Metric = "mAP",
    difficulty: Difficulty = "medium",
    within: str | None = None,
) -> GroundTruth:
    """Return the queries of a protocol of one part; options as of `ProtocolOptions`.

    Raises:
        InputError: as `ground_truths`, or the protocol has several parts.
    """
    said = ProtocolOptions(truth, box, pattern, metric, difficulty, within=within)
    found = ground_truths(protocol, names, said)
    if len(found) > 1:
        raise InputError(
            f"one ground truth is wanted; {protocol} has {len(found)} here, "
            f"{found[0].protocol} to {found[-1].protocol}: score each by itself"
        )
    return found[0]


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
    """Score one ground truth, as `evaluate_all` scores several."""
    return next(
        evaluate_all(
            *(place, coordinator, names, image_ids, [truth], fusion, weighting),
            weights=weights,
            expand=expand,
        )
    )


def evaluate_all(
    place: Place,
    coordinator: Coordinator,
    names: Sequence[str],
    image_ids: NDArray[np.int64],
    truths: Sequence[GroundTruth],
    fusion: FusionSpec,
    weighting: Weighting,
    *,
    weights: Path | None = None,
    expand: int = 0,
) -> Iterator[Evaluated]:
    """Score each layer, their plain sum, the mapped fusion, and a sweep over (t, p).

    All images are scored exactly. Every ranking and every point of the sweep is computed from the
    same similarities, one batch of queries at a time. A query that several ground truths ask, as
    easy, medium and hard do, is extracted and searched once.

    Args:
        names, image_ids: names and ids of the indexed images, in the same order, ids rising.
        truths: the parts of a protocol; a report comes for each, in their order.
        expand: how many of its best pictures by the mapped fusion each query is averaged with;
            all rankings are then those of the expanded queries.

    Raises:
        InputError: a query is not in the index, or its picture cannot be read for cropping.
    """
    began = time.monotonic()
    plans = [plan_sweep(truth, names, fusion) for truth in truths]
    asked = _asked(plans)
    questions = list(asked)
    layers = [entry.layer for entry in fusion.layers]
    queries = question_features(place, coordinator, image_ids, questions, layers, weights)
    queries = [(first, coordinator.expanded(batch, fusion, expand)) for first, batch in queries]
    parts: list[list[SweepPart]] = [[] for _ in plans]
    beside = [parse_measures(truth.measures) for truth in truths]
    measured = [
        np.empty((len(truth.queries), len(plan.rankings), len(truth.measures)))
        for truth, plan in zip(truths, plans, strict=True)
    ]
    for first, batch in queries:
        table = coordinator.similarities(batch, layers)[1]
        done = first + len(batch)
        for column, question in enumerate(questions[first:done]):
            one = table[:, column]
            for number, query in asked[question]:
                parts[number].append(score_batch(plans[number], query, one[:, None]))
                found = query_measures(plans[number], query, one, beside[number])
                measured[number][query] = found
        place.progress(Progress("evaluate", done, len(asked), done, len(asked)))
    for number, (truth, plan) in enumerate(zip(truths, plans, strict=True)):
        result = with_measures(summarise(plan, parts[number]), beside[number], measured[number])
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
            joint=result.joint,
            cross_validated=result.cross_validated,
            background=result.background,
            settings=_settings(place, expand),
            queries=len(truth.queries),
            missing=len(truth.missing),
            data_set=data_set_of(truth, _digests(place, names, image_ids, truth)),
            indexed=snapshot.indexed,
            refused=snapshot.refused,
            elapsed_seconds=time.monotonic() - began,
        )
        yield Evaluated(report, plan, result, image_ids)


Question = tuple[int, Box | None]
"""What is asked: a picture by its place among the indexed ones, and the box that is cut from it."""


def _question(truth: ResolvedTruth, query: int) -> Question:
    return truth.query_ids[query], truth.truth.queries[query].box


def _asked(plans: Sequence[SweepPlan]) -> dict[Question, list[tuple[int, int]]]:
    """Return every question once, and who asks it: the plan, and its place among the queries."""
    found: dict[Question, list[tuple[int, int]]] = {}
    for number, plan in enumerate(plans):
        for query in range(len(plan.truth.queries)):
            found.setdefault(_question(plan.truth, query), []).append((number, query))
    return found


def _digests(
    place: Place, names: Sequence[str], image_ids: NDArray[np.int64], truth: GroundTruth
) -> dict[str, bytes]:
    """Return the SHA-256 of every picture that a ground truth names."""
    wanted = truth.named
    indexed = zip(names, image_ids.tolist(), strict=True)
    found = {name: image_id for name, image_id in indexed if name in wanted}
    table = ImageTable(place.store, place.snapshot)
    return dict(zip(found, table.digests_of(list(found.values())), strict=True))


def query_features(
    place: Place,
    coordinator: Coordinator,
    image_ids: NDArray[np.int64],
    truth: ResolvedTruth,
    layers: Sequence[str],
    weights: Path | None,
) -> list[tuple[int, QueryBatch]]:
    """Return the queries of one ground truth in batches, as `question_features`."""
    asked = [_question(truth, query) for query in range(len(truth.queries))]
    return question_features(place, coordinator, image_ids, asked, layers, weights)


def question_features(
    place: Place,
    coordinator: Coordinator,
    image_ids: NDArray[np.int64],
    asked: Sequence[Question],
    layers: Sequence[str],
    weights: Path | None,
) -> list[tuple[int, QueryBatch]]:
    """Return what is asked in batches: indexed features, or extracted if any is cropped."""
    ids = [int(image_ids[row]) for row, _ in asked]
    starts = range(0, len(ids), QUERIES_A_BATCH)
    if all(box is None for _, box in asked):
        return [
            (first, coordinator.features(ids[first : first + QUERIES_A_BATCH], layers))
            for first in starts
        ]
    check_computed(place.snapshot.extraction, layers, "a query that is cut out by a box")
    table = ImageTable(place.store, place.snapshot, pictures=place.pictures)
    rows = [
        cropped(table.row(image_id), box) if box else table.row(image_id)
        for image_id, (_, box) in zip(ids, asked, strict=True)
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
