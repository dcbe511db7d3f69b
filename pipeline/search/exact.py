"""Exact search of segments: bounds drop images that cannot be among the best, float64 decides."""

from collections.abc import Sequence

import numpy as np

from lamella.pipeline.arrays import Bools, Float64s, Int64s
from lamella.pipeline.search.block_scan import FIRST_IMAGES
from lamella.pipeline.search.candidates import Finder, find_reached
from lamella.pipeline.search.fuse import fuse
from lamella.pipeline.search.query_layers import Match, match_layer
from lamella.pipeline.search.rank import best_of
from lamella.pipeline.search.score import Candidates
from lamella.pipeline.search.segment import Answer, QueryBatch, SegmentData
from lamella.pipeline.search.topk import Best, Effort, Reached
from lamella.schemas.query import FusionSpec, LayerMap

FEW_SHARE, FEW_PAIRS = 0.01, 1 << 22
"""Where a filter allows at most so large a part of the images, and so many pairs of these and a
query (40 bytes each), all are scored without a look at bounds. Of 100,000 pictures that takes half
the time at .01, and as long at .02."""


def similarities(segment: SegmentData, queries: QueryBatch, layers: Sequence[str]) -> Float64s:
    """Return every similarity of every query with every image, (C, Q, n) float64.

    Raises:
        UnknownLayer: the segment or the batch has no such layer.
    """
    out = np.empty((len(layers), len(queries), len(segment)), dtype=np.float64)
    for values, name in zip(out, layers, strict=True):
        values[:] = match_layer(segment, queries, name).similarities()
    return out


def search_exact(
    segments: Sequence[SegmentData],
    queries: QueryBatch,
    spec: FusionSpec,
    k: int,
    *,
    floors: Float64s | None = None,
    effort: Effort | None = None,
    find: Finder = find_reached,
    allowed: Sequence[Bools] | None = None,
) -> Answer:
    """Return the k best images of each query, equal to scoring every image.

    Local layers are scored exactly through their postings. Dense layers are first seen through
    their sketches, whose errors bound F from both sides, as f never falls: an image whose upper
    bound is below the k-th best lower bound is out, whichever segment that came from. Every other
    is scored in float64.

    Args:
        segments: each holds every layer of `spec`; no image in two of them.
        queries: in every layer of `spec`.
        spec: C layers, high to low.
        k: at least 1; may be more than there are images.
        floors: (Q,) lower bounds of the k-th best score over other segments, from `lower_bounds`:
            images below are left out, so there may be fewer than k.
        effort: counts the work done.
        find: finds the pairs to score; it changes no answer.
        allowed: which images of each segment may be answers, (n,) each; all by default. The answer
            is that of an index of these images alone, and CPUs find it.

    Raises:
        UnknownLayer: a segment or the batch lacks a layer.
        ValueError: k below 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1; got {k}")
    every = sum(map(len, segments))
    images = every if allowed is None else sum(int(np.count_nonzero(mask)) for mask in allowed)
    best = Best.of(len(queries), min(k, max(images, 1)), floors)
    effort = effort or Effort()
    matched = _match(segments, queries, spec)
    if allowed is None:
        found = find(matched, _scaled(spec), len(queries), best, effort)
    elif images <= FEW_SHARE * every and images * len(queries) <= FEW_PAIRS:
        found = [_all_pairs(mask, len(queries)) for mask in allowed]
        effort.pairs += len(queries) * every
    else:
        maps = _scaled(spec)
        found = find_reached(matched, maps, len(queries), best, effort, allowed=allowed)
    bars = best.bars(slice(None))
    query_of, image_ids = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    values = [np.empty((len(spec.layers), 0))]
    for segment, matches, each in zip(segments, matched, found, strict=True):
        reached = each.above(bars)
        candidates = _as_candidates(reached.query_of, reached.rows, len(queries))
        effort.decided += len(reached.rows)
        exact = np.empty((len(matches), len(reached.rows)), dtype=np.float64)
        for row, match in zip(exact, matches, strict=True):
            row[:] = match.similarities_of(candidates)
        query_of.append(reached.query_of)
        image_ids.append(segment.image_ids[reached.rows])
        values.append(exact)
    exact = np.concatenate(values, axis=1)
    scores = fuse(exact, spec)
    return best_of(
        np.concatenate(query_of), np.concatenate(image_ids), scores, exact, len(queries), k
    )


def _all_pairs(allowed: Bools, queries: int) -> Reached:
    """Return every query paired with every allowed image of a segment."""
    rows = np.flatnonzero(allowed)
    query_of = np.repeat(np.arange(queries), len(rows))
    return Reached(query_of, np.tile(rows, queries), np.full(len(query_of), np.inf))


def lower_bounds(
    segments: Sequence[SegmentData],
    queries: QueryBatch,
    spec: FusionSpec,
    k: int,
    allowed: Sequence[Bools] | None = None,
) -> Float64s:
    """Return the k best lower bounds of F in the first block of each segment, (Q, k) float64.

    Like all bounds they are of F over the greatest weight.

    They cost little, and other servers use them as `floors` of `search_exact`. Where there are
    fewer than k images, the rest is -inf. `allowed` is as of `search_exact`.
    """
    best = Best.of(len(queries), k)
    matched = _match(segments, queries, spec)
    maps = _scaled(spec)
    find_reached(matched, maps, len(queries), best, Effort(), FIRST_IMAGES, allowed)
    best.heaps[np.arange(k) >= best.filled[:, None]] = -np.inf
    return best.heaps


def top_by_layer(
    segment: SegmentData,
    queries: QueryBatch,
    layers: Sequence[str],
    n: int,
    allowed: Bools | None = None,
) -> tuple[Answer, ...]:
    """Return for each layer its n most similar images, with their similarities in all layers.

    Each answer is the exact ranking by its layer alone, and certified as that; `similarities`
    is (Q, n, C) over all `layers`. `allowed` says which images may be answers, (images,).

    Raises:
        UnknownLayer: the segment or the batch lacks a layer.
        ValueError: n below 1.
    """
    matches = [match_layer(segment, queries, name) for name in layers]
    answers = []
    for name in layers:
        spec = FusionSpec(layers=(LayerMap(layer=name),))
        mask = None if allowed is None else [allowed]
        alone = search_exact([segment], queries, spec, n, allowed=mask)
        query_of, places = np.nonzero(alone.image_ids >= 0)
        rows = np.searchsorted(segment.image_ids, alone.image_ids[query_of, places])
        candidates = _as_candidates(query_of, rows, len(queries))
        values = np.zeros((*alone.image_ids.shape, len(layers)), dtype=np.float64)
        for c, match in enumerate(matches):
            values[query_of, places, c] = match.similarities_of(candidates)
        answers.append(Answer(alone.image_ids, alone.scores, values, alone.certified))
    return tuple(answers)


def _scaled(spec: FusionSpec) -> list[LayerMap]:
    """Return the maps with weights of at most 1, which bounds in float32 count on.

    All scores shrink alike, so the same images are out.
    """
    greatest = max(entry.weight for entry in spec.layers)
    return [entry.model_copy(update={"weight": entry.weight / greatest}) for entry in spec.layers]


def _match(
    segments: Sequence[SegmentData], queries: QueryBatch, spec: FusionSpec
) -> list[list[Match]]:
    """Return each segment's layers paired with their queries, in the order of the fusion."""
    matched: list[list[Match]] = []
    for segment in segments:
        before = matched[0] if matched else [None] * len(spec.layers)
        matched.append(
            [
                match_layer(segment, queries, one.layer, like)
                for one, like in zip(spec.layers, before, strict=True)
            ]
        )
    return matched


def _as_candidates(query_of: Int64s, rows: Int64s, queries: int) -> Candidates:
    """Return pairs, ordered by query, as rows of each query."""
    return Candidates(np.searchsorted(query_of, np.arange(queries + 1)).astype(np.int64), rows)
