"""Score every ranking from one table of similarities, without searching again.

Each layer alone, the direct sum, the mapped fusion, and the grids over (t, p) come from the same
exact similarities, a batch of queries at a time; the batch size changes no bit. Of a point of a
grid only the score of each query is kept, so memory does not grow with pictures times points.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.errors import InputError, MismatchedQueries
from lamella.pipeline.evaluate.folds import CrossScores, cross_validate, groups_of
from lamella.pipeline.evaluate.grid import (
    SWEPT_P,
    SWEPT_T,
    GridPoint,
    JointGrid,
    grid_of,
    joint_grid,
)
from lamella.pipeline.evaluate.intervals import Resampled, resample
from lamella.pipeline.evaluate.metrics import first_by_score
from lamella.pipeline.evaluate.points import Points, score_points
from lamella.pipeline.evaluate.truth import (
    GroundTruth,
    ResolvedTruth,
    rectangles_of,
    resolve,
    score_over_ties,
    score_query,
)
from lamella.pipeline.search.fuse import fuse
from lamella.schemas.query import FusionSpec
from lamella.schemas.report import (
    BackgroundSimilarity,
    Bootstrap,
    CrossValidated,
    FusionKind,
    Gain,
    JointSweep,
    MapSetting,
    RowKind,
    ScoreRow,
    SweepPoint,
)

KEPT_RANKS = 12
"""First pictures that are kept of each ranking of each query, for pages and comparisons."""

BACKGROUND_BINS = 10_000
"""Bins of the median background similarity: precise to 1e-4, in constant memory."""


@dataclass(frozen=True)
class SweepPlan:
    """What to score: the rankings of the table, then the points of the grids.

    Attributes:
        truth: the queries, in image ids.
        fusion: the mapped fusion, C layers from high to low.
        rankings: (kind, similarities it takes, fusion) of each row.
        grid: (t, p, fusion) of each point of the highest layer's map.
        joint: the points over the maps of all layers but the lowest, with three layers and more.
        points: those of both grids, in this order, as they are scored.
    """

    truth: ResolvedTruth
    fusion: FusionSpec
    rankings: tuple[tuple[RowKind, slice, FusionSpec], ...]
    grid: tuple[GridPoint, ...]
    joint: JointGrid
    points: Points


@dataclass(frozen=True)
class SweepPart:
    """The scores of queries first_query .. first_query + B.

    Attributes:
        first_query: place of the first one in the ground truth.
        scores: (R, B) float64, a row a ranking.
        lowest: (R, B), with equal scores in the worst order.
        highest: (R, B), in the best order.
        expected: (R, B), the mean over all orders of equal scores.
        rectangles: (R, B), average precision by rectangles; 0 where the metric is another than mAP.
        swept: (G, B), a row a point of the grids.
        background: (C, bins) int64, counts of similarities of unrelated pictures.
        first: (R, B, D) int64, the first D places of each ranking, best first.
        similarities: (R, B, D, C) float64, of those pictures in each layer.
    """

    first_query: int
    scores: NDArray[np.float64]
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]
    expected: NDArray[np.float64]
    rectangles: NDArray[np.float64]
    swept: NDArray[np.float64]
    background: NDArray[np.int64]
    first: NDArray[np.int64]
    similarities: NDArray[np.float64]


@dataclass(frozen=True)
class SweepResult:
    """All that a report says about scores, and what each query got in every ranking.

    Attributes:
        scores: (R, Q) float64, by the protocol's measure.
        lowest, highest: (R, Q), with equal scores in the worst and the best order.
        expected: (R, Q), the mean over all orders of equal scores.
        rectangles: (R, Q), average precision by rectangles; 0 where the metric is another than mAP.
        swept: (G, Q), a row a point of the grid, then of the joint grid.
        groups: (Q,) int64, the queries that share a right answer have one number.
        first: (R, Q, D) int64, the first D places of each ranking, best first.
        similarities: (R, Q, D, C) float64, of those pictures in each layer.
    """

    rows: tuple[ScoreRow, ...]
    gains: tuple[Gain, ...]
    bootstrap: Bootstrap | None
    sweep: tuple[SweepPoint, ...]
    best: SweepPoint | None
    joint: JointSweep | None
    cross_validated: CrossValidated | None
    background: tuple[BackgroundSimilarity, ...]
    scores: NDArray[np.float64]
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]
    expected: NDArray[np.float64]
    rectangles: NDArray[np.float64]
    swept: NDArray[np.float64]
    groups: NDArray[np.int64]
    first: NDArray[np.int64]
    similarities: NDArray[np.float64]


JOINED = ("scores", "lowest", "highest", "expected", "rectangles", "swept", "first", "similarities")


def plan_sweep(
    truth: GroundTruth,
    names: Sequence[str],
    fusion: FusionSpec,
    t: Sequence[float] = SWEPT_T,
    p: Sequence[float] = SWEPT_P,
) -> SweepPlan:
    """Return what to score: with two layers and more, (t, p) of the highest layer are swept.

    With three and more the maps of all layers but the lowest are swept too, on coarser axes; see
    `grid_of` and `joint_grid`.

    Args:
        truth: the queries.
        names: of all N pictures, in manifest order; the place is the image id.
        fusion: the mapped fusion, layers from high to low.
        t: thresholds of the highest layer's grid.
        p: powers of that grid.

    Raises:
        InputError: as `resolve`.
    """
    layers = fusion.layers
    rankings: list[tuple[RowKind, slice, FusionSpec]] = [
        ("alone", slice(place, place + 1), fusion.alone(entry.layer))
        for place, entry in enumerate(layers)
    ]
    whole = slice(0, len(layers))
    rankings += [("direct", whole, fusion.direct()), ("mapped", whole, fusion)]
    grid, joint = grid_of(fusion, t, p), joint_grid(fusion)
    points = Points.of(
        [entry.layer for entry in layers], [*(spec for _, _, spec in grid), *joint.points]
    )
    return SweepPlan(resolve(truth, names), fusion, tuple(rankings), grid, joint, points)


def score_batch(plan: SweepPlan, first_query: int, similarities: NDArray[np.float64]) -> SweepPart:
    """Return every score of a run of queries.

    Args:
        plan: what to score.
        first_query: place in the ground truth of the first query of the run.
        similarities: (C, B, N) float64 in [0, 1]: layers of the fusion from high to low, queries
            in the order of the ground truth, images in manifest order.

    Raises:
        MismatchedQueries: the shape is not that of the layers, queries and images of the plan.
        InputError: a similarity lies outside [0, 1].
    """
    layers, queries = len(plan.fusion.layers), len(plan.truth.queries)
    batch = similarities.shape[1] if similarities.ndim == 3 else 0
    fits = batch and 0 <= first_query <= queries - batch
    if not fits or similarities.shape != (layers, batch, len(plan.truth.names)):
        raise MismatchedQueries(
            f"similarities are ({layers} layers, queries, {len(plan.truth.names)} images) with at "
            f"most {queries} queries; got {similarities.shape} from query {first_query}: search "
            "with the layers and the corpus of the plan"
        )
    if not ((similarities >= 0.0) & (similarities <= 1.0)).all():
        raise InputError(
            f"similarities lie in [0, 1]; got {similarities.min()} to {similarities.max()}: "
            "clamp the cosine where the search computes it"
        )
    metric = plan.truth.truth.metric_name
    scores, lowest, highest, expected, rectangles = np.zeros((5, len(plan.rankings), batch))
    swept = np.empty((len(plan.points), batch))
    background = np.zeros((layers, BACKGROUND_BINS), dtype=np.int64)
    depth = min(KEPT_RANKS, len(plan.truth.names))
    first = np.empty((len(plan.rankings), batch, depth), np.int64)
    for column in range(batch):
        table = np.ascontiguousarray(similarities[:, column], dtype=np.float64)
        query = plan.truth.queries[first_query + column]
        for row, (_, taken, spec) in enumerate(plan.rankings):
            fused = fuse(table[taken], spec)
            first[row, column] = first_by_score(fused, depth)
            scores[row, column] = score_query(metric, query, fused)
            lowest[row, column] = score_query(metric, query, fused, "worst")
            highest[row, column] = score_query(metric, query, fused, "best")
            expected[row, column] = (
                score_over_ties(metric, query, fused)
                if lowest[row, column] != highest[row, column]
                else scores[row, column]
            )
            if metric == "mAP":
                rectangles[row, column] = rectangles_of(query, fused)
        swept[:, column] = score_points(metric, query, table, plan.points)
        query_id = plan.truth.query_ids[first_query + column]
        unrelated = table[:, query.unrelated(table.shape[1], query_id)]
        bins = np.minimum((unrelated * BACKGROUND_BINS).astype(np.int64), BACKGROUND_BINS - 1)
        for layer in range(layers):
            background[layer] += np.bincount(bins[layer], minlength=BACKGROUND_BINS)
    each = np.arange(batch)[:, None]
    kept = np.stack([similarities[:, each, places] for places in first], dtype=np.float64)
    return SweepPart(
        *(first_query, scores, lowest, highest, expected, rectangles, swept, background),
        *(first, np.moveaxis(kept, 1, -1)),
    )


def summarise(plan: SweepPlan, parts: Sequence[SweepPart]) -> SweepResult:
    """Return the scores over all queries, for any batching.

    The best point is the first of the highest mean, in the order of t, then p.

    Raises:
        MismatchedQueries: the parts do not hold each query once.
    """
    ordered = sorted(parts, key=lambda part: part.first_query)
    places = [
        place
        for part in ordered
        for place in range(part.first_query, part.first_query + part.scores.shape[1])
    ]
    if places != list(range(len(plan.truth.queries))):
        raise MismatchedQueries(
            f"each of {len(plan.truth.queries)} queries is scored once; the parts hold "
            f"{len(places)}, {len(set(places))} of them distinct: score the missing batches"
        )
    scores, lowest, highest, expected, rectangles, swept, first, similarities = (
        np.concatenate([getattr(part, name) for part in ordered], axis=1) for name in JOINED
    )
    groups = groups_of(plan.truth)
    several = plan.joint.points
    across = cross_validate(groups, swept[len(plan.grid) :] if several else swept)
    measured = scores if across is None else np.vstack([scores, across.scores])
    drawn = resample(measured, groups)
    rows = tuple(
        _score_row(
            plan,
            row,
            scores[row],
            (float(lowest[row].mean()), float(expected[row].mean()), float(highest[row].mean())),
            float(rectangles[row].mean()),
            drawn,
        )
        for row in range(len(plan.rankings))
    )
    points = tuple(
        SweepPoint(t=t, p=p, score=float(column.mean()))
        for (t, p, _), column in zip(plan.grid, swept, strict=False)
    )
    counts = np.sum([part.background for part in ordered], axis=0)
    return SweepResult(
        rows=rows,
        gains=tuple(_gains(rows, drawn)),
        bootstrap=drawn.bootstrap if drawn else None,
        sweep=points,
        best=max(points, key=lambda point: point.score) if points else None,
        joint=_joint(plan, swept[len(plan.grid) :]) if several else None,
        cross_validated=None
        if across is None
        else CrossValidated(
            score=float(across.scores.mean()),
            chosen=_chosen(plan, across),
            interval=drawn.interval(len(rows)) if drawn else None,
        ),
        background=tuple(_backgrounds(plan, counts)),
        scores=scores,
        lowest=lowest,
        highest=highest,
        expected=expected,
        rectangles=rectangles,
        swept=swept,
        groups=groups,
        first=first,
        similarities=similarities,
    )


def _joint(plan: SweepPlan, swept: NDArray[np.float64]) -> JointSweep:
    means = swept.mean(axis=1)
    best = int(np.argmax(means))
    return JointSweep(
        points=len(plan.joint.points),
        left_out=plan.joint.left_out,
        best=joint_point(plan.joint.points[best], float(means[best])),
    )


def _chosen(plan: SweepPlan, across: CrossScores) -> tuple[SweepPoint, ...]:
    """Return the setting that was chosen for each fold, and its score there."""
    found = []
    for fold, place in enumerate(across.chosen):
        score = across.score_of(fold)
        if plan.joint.points:
            found.append(joint_point(plan.joint.points[place], score))
        else:
            t, p, _ = plan.grid[place]
            found.append(SweepPoint(t=t, p=p, score=score))
    return tuple(found)


def joint_point(fusion: FusionSpec, score: float) -> SweepPoint:
    """Return a point of a joint sweep: the maps of all layers but the lowest, and a score."""
    top, *others = fusion.layers[:-1]
    lower = tuple(MapSetting(t=entry.t, p=entry.p) for entry in others)
    return SweepPoint(t=top.t, p=top.p, lower=lower, score=score)


def _score_row(
    plan: SweepPlan,
    row: int,
    scores: NDArray[np.float64],
    over_ties: tuple[float, float, float],
    rectangles: float,
    drawn: Resampled | None,
) -> ScoreRow:
    metric = plan.truth.truth.metric_name
    kind, _, spec = plan.rankings[row]
    layers = tuple(entry.layer for entry in spec.layers)
    return ScoreRow(
        name=layers[0] if kind == "alone" else kind,
        kind=kind,
        layers=layers,
        t=tuple(entry.t for entry in spec.layers),
        p=tuple(entry.p for entry in spec.layers),
        weights=tuple(entry.weight for entry in spec.layers),
        metric=metric,
        score=float(scores.mean()),
        interval=drawn.interval(row) if drawn else None,
        lowest=over_ties[0],
        expected=over_ties[1],
        highest=over_ties[2],
        rectangles=rectangles if metric == "mAP" else None,
        queries=len(scores),
    )


def _gains(rows: Sequence[ScoreRow], drawn: Resampled | None) -> Iterator[Gain]:
    """Yield the gains of a report, in its order; none with one layer, where all rows are equal."""
    if drawn is None or len(rows[-1].layers) == 1:
        return
    last: FusionKind = "mapped"
    pairs = [(last, len(rows) - 1, other) for other in range(len(rows) - 1)]
    pairs += [("direct", len(rows) - 2, other) for other in range(len(rows) - 2)]
    tested = drawn.tests([(place, other) for _, place, other in pairs])
    for (fusion, place, other), (p, corrected) in zip(pairs, tested, strict=True):
        yield Gain(
            fusion=fusion,
            over=rows[other].name,
            difference=rows[place].score - rows[other].score,
            interval=drawn.difference(place, other),
            p=p,
            corrected_p=corrected,
        )


def _backgrounds(plan: SweepPlan, counts: NDArray[Any]) -> Iterator[BackgroundSimilarity]:
    for entry, histogram in zip(plan.fusion.layers, counts, strict=True):
        if total := int(histogram.sum()):
            middle = int(np.searchsorted(np.cumsum(histogram), (total + 1) // 2))
            yield BackgroundSimilarity(layer=entry.layer, median=(middle + 0.5) / BACKGROUND_BINS)
