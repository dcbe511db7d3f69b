"""Score a data set under a network: every ranking, sweep and interval from one pass."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.evaluate.folds import CrossScores, cross_validate, groups_of
from lamella.pipeline.evaluate.intervals import Resampled, resample
from lamella.pipeline.evaluate.points import score_points
from lamella.pipeline.evaluate.sweep import joint_point
from lamella.pipeline.evaluate.truth import GroundTruth, ResolvedTruth, resolve
from lamella.pipeline.jobs.evaluating import query_features
from lamella.pipeline.jobs.query_run import Place
from lamella.pipeline.reproduce.rankings import Fused, Rankings, rankings_of
from lamella.pipeline.run.drive import Progress
from lamella.pipeline.search.coordinator import Coordinator
from lamella.pipeline.store.commit import create_once
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.record_rules import reproduced_path
from lamella.pipeline.store.records import parse_record, read_record
from lamella.schemas.base import digest_of
from lamella.schemas.query import FusionSpec, Weighting
from lamella.schemas.report import CrossValidated, SweepPoint
from lamella.schemas.reproduced import DataSetName, FusedScore, LayerScore, Reproduced
from lamella.schemas.snapshot import IndexSnapshot

RULES = 1
"""Counts what is scored and how: another number makes records anew."""


@dataclass(frozen=True)
class Scores:
    """What every query scored in every ranking.

    Attributes:
        truth: the queries.
        rankings: what was scored.
        scores: (G, Q) float64, a row a point of the rankings.
    """

    truth: ResolvedTruth
    rankings: Rankings
    scores: NDArray[np.float64]


def inputs_of(
    snapshot: IndexSnapshot, data_set: DataSetName, hashes: Mapping[str, str], box: str, drawn: bool
) -> str:
    """Return the digest of all that decides a record of scores.

    Args:
        hashes: of the data set's files.
        box: whether Oxford's queries are cropped.
        drawn: whether the record has the pictures of Figs. 1 and 2.
    """
    return digest_of([RULES, snapshot.root_digest, data_set, dict(hashes), box, drawn])


def stored_scores(store: Store, data_set: DataSetName, inputs: str) -> Reproduced | None:
    """Return the record that was made from these inputs, None if there is none.

    Raises:
        CorruptFile: it is damaged; `lamella repair` drops it.
    """
    path = reproduced_path(data_set, inputs)
    return read_record(store, path, Reproduced) if store.exists(path) else None


def keep_scores(store: Store, record: Reproduced) -> Reproduced:
    """Store a record; return the one that is there, which may be another's of the same inputs."""
    path = reproduced_path(record.data_set, record.inputs)
    return parse_record(store, path, Reproduced, create_once(store, path, record.to_json()))


def score_all(
    place: Place,
    coordinator: Coordinator,
    names: Sequence[str],
    image_ids: NDArray[np.int64],
    truth: GroundTruth,
    weights: Path | None,
) -> Scores:
    """Return the score of every query in every ranking, from one pass of exact similarities.

    Args:
        names, image_ids: names and ids of the indexed images, in the same order, ids rising.
        weights: of the network, for queries that are cropped.

    Raises:
        InputError: as `evaluate`.
    """
    snapshot = place.snapshot
    rankings = rankings_of(snapshot.extraction.layers, snapshot.calibration)
    resolved = resolve(truth, names)
    layers = list(rankings.layers)
    batches = query_features(place, coordinator, image_ids, resolved, layers, weights)
    scores = np.empty((len(rankings.points), len(truth.queries)))
    for first, batch in batches:
        table = coordinator.similarities(batch, layers)[1]
        for row in range(len(batch)):
            query = resolved.queries[first + row]
            scores[:, first + row] = score_points(
                truth.metric_name, query, table[:, row], rankings.points
            )
        done = first + len(batch)
        place.progress(Progress("score", done, len(truth.queries), done, len(truth.queries)))
    return Scores(resolved, rankings, scores)


def record_of(
    found: Scores,
    snapshot: IndexSnapshot,
    data_set: DataSetName,
    inputs: str,
    *,
    hashes: Mapping[str, str],
    settings: Mapping[str, str],
    rows: Mapping[str, int],
    began: float,
) -> Reproduced:
    """Return the record of what was scored, without pictures.

    Args:
        began: when the work began, as of `time.monotonic`.
        rows: descriptors that each layer's words were trained on.
    """
    groups = groups_of(found.truth)
    truth, rankings, count = found.truth.truth, found.rankings, len(found.rankings.layers)
    told, crossed = list(found.scores[:count]), []  # what has an interval
    for fused, scores in _each(found):
        told += list(scores[: len(fused.specs) - len(fused.swept)])
        crossed.append(cross_validate(groups, scores[-len(fused.swept) :]))
        if (honest := crossed[-1]) is not None:
            told.append(honest.scores)
    drawn = resample(np.array(told), groups)
    alone = tuple(
        LayerScore(
            layer=layer,
            score=float(found.scores[row].mean()),
            interval=drawn.interval(row) if drawn else None,
        )
        for row, layer in enumerate(rankings.layers)
    )
    return Reproduced(
        data_set=data_set,
        network=snapshot.extraction.network,
        inputs=inputs,
        snapshot=snapshot.root_digest,
        protocol=truth.protocol,
        metric=truth.metric_name,
        queries=len(truth.queries),
        missing=len(truth.missing),
        indexed=snapshot.indexed,
        bootstrap=drawn.bootstrap if drawn else None,
        alone=alone,
        fused=tuple(_fused_scores(found, crossed, drawn)),
        settings=dict(settings),
        hashes=dict(hashes),
        words={name: each.words for name, each in snapshot.vocabularies.items()},
        rows=dict(rows),
        elapsed_seconds=time.monotonic() - began,
    )


def _each(found: Scores) -> Iterator[tuple[Fused, NDArray[np.float64]]]:
    """Yield some layers together, and the scores (n, Q) of their `specs`."""
    first = len(found.rankings.layers)
    for fused in found.rankings.fused:
        yield fused, found.scores[first : first + len(fused.specs)]
        first += len(fused.specs)


def _fused_scores(
    found: Scores, crossed: Sequence[CrossScores | None], drawn: Resampled | None
) -> Iterator[FusedScore]:
    """Yield what is told of layers together; `drawn` has their rows in the order of `told`."""
    row = len(found.rankings.layers)
    for (fused, table), honest in zip(_each(found), crossed, strict=True):
        scores, scaled = table.mean(axis=1), fused.scaled is not None
        swept = scores[-len(fused.swept) :]
        best = int(np.argmax(swept))
        told = row + 2 + scaled  # where the row of the cross-validated scores is
        yield FusedScore(
            layers=fused.layers,
            t=tuple(entry.t for entry in fused.mapped.layers),
            p=tuple(entry.p for entry in fused.mapped.layers),
            direct=float(scores[0]),
            direct_interval=drawn.interval(row) if drawn else None,
            mapped=float(scores[1]),
            mapped_interval=drawn.interval(row + 1) if drawn else None,
            gain=float(scores[1] - scores[0]),
            gain_interval=drawn.difference(row + 1, row) if drawn else None,
            scaled=float(scores[2]) if scaled else None,
            scaled_interval=drawn.interval(row + 2) if drawn and scaled else None,
            weights=tuple(entry.weight for entry in fused.scaled.layers) if fused.scaled else (),
            grid=tuple(swept.tolist()) if len(fused.layers) == 2 else (),
            best=joint_point(fused.swept[best], float(swept[best])),
            cross_validated=None
            if honest is None
            else CrossValidated(
                score=float(honest.scores.mean()),
                chosen=_chosen(fused.swept, honest),
                interval=drawn.interval(told) if drawn else None,
            ),
        )
        row = told + (honest is not None)


def _chosen(swept: Sequence[FusionSpec], honest: CrossScores) -> tuple[SweepPoint, ...]:
    return tuple(
        joint_point(swept[place], honest.score_of(fold)) for fold, place in enumerate(honest.chosen)
    )


def settings_of(snapshot: IndexSnapshot, weighting: Weighting) -> dict[str, str]:
    """Return what else changes the figures, by name, for a reader."""
    extraction = snapshot.extraction
    seen = extraction.preprocess
    return {
        "weights": f"{extraction.weights.name} ({extraction.weights.sha256[:12]})",
        "short edge": str(seen.short_edge),
        "channels": seen.channel_order,
        "weighting": weighting,
        **{
            f"random pairs in {scale.layer}": f"median S {scale.median:.3f}, 99.9th percentile "
            f"{scale.high:.3f}"
            for scale in snapshot.calibration
        },
        **{f"words of {name}": f"{v.words:,}" for name, v in snapshot.vocabularies.items()},
    }
