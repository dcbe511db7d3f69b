"""Exact search of one segment: bounds leave out what cannot be among the best, float64 decides."""

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.search.bounds import dense_bounds, unit_queries
from pipeline.search.fuse import fuse
from pipeline.search.matched import DenseMatch, LocalMatch, match_layer
from pipeline.search.rank import best_of
from pipeline.search.scan import scan_block, table
from pipeline.search.score import Candidates, add_block, start_cursors
from pipeline.search.segment import Answer, QueryBatch, SegmentData
from schemas.query import FusionSpec, LayerMap

Scalar = TypeVar("Scalar", bound=np.generic)
Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

# Images in a block: the sums of one query fit in a processor's second-level cache.
BLOCK_IMAGES = 8192


def similarities(segment: SegmentData, queries: QueryBatch, layers: Sequence[str]) -> Floats:
    """Return every similarity of every query with every image, (C, Q, n) float64.

    Raises:
        UnknownLayer: the segment or the batch has no such layer.
    """
    out = np.empty((len(layers), len(queries), len(segment)), dtype=np.float64)
    for values, name in zip(out, layers, strict=True):
        values[:] = match_layer(segment, queries, name).similarities()
    return out


def search_exact(segment: SegmentData, queries: QueryBatch, spec: FusionSpec, k: int) -> Answer:
    """Return the k best images of the segment for each query, the same as scoring all of them.

    Local layers are scored exactly through their postings. Dense layers are scored in float32
    with an error bound, which bounds F from both sides, as f never falls: an image whose upper
    bound is below the k-th best lower bound is out, and every other is scored in float64.

    Args:
        segment: holds every layer of `spec`.
        queries: in every layer of `spec`.
        spec: C layers, high to low.
        k: at least 1; may be more than there are images.

    Raises:
        UnknownLayer: the segment or the batch lacks a layer.
        ValueError: k below 1.
    """
    names = [entry.layer for entry in spec.layers]
    matches = [match_layer(segment, queries, name) for name in names]
    query_of, rows, found = _within_reach(matches, spec.layers, len(queries), len(segment), k)
    candidates = _as_candidates(query_of, rows, len(queries))
    exact = np.empty((len(matches), len(rows)), dtype=np.float64)
    for values, match, known in zip(exact, matches, found, strict=True):
        values[:] = match.similarities_of(candidates) if known is None else known
    return best_of(query_of, segment.image_ids[rows], fuse(exact, spec), exact, len(queries), k)


def top_by_layer(
    segment: SegmentData, queries: QueryBatch, layers: Sequence[str], n: int
) -> tuple[Answer, ...]:
    """Return for each layer its n most similar images, with their similarities in all layers.

    Each answer is the exact ranking by its layer alone, and certified as that; `similarities`
    is (Q, n, C) over all `layers`.

    Raises:
        UnknownLayer: the segment or the batch lacks a layer.
        ValueError: n below 1.
    """
    matches = [match_layer(segment, queries, name) for name in layers]
    answers = []
    for name in layers:
        spec = FusionSpec(layers=(LayerMap(layer=name),))
        alone = search_exact(segment, queries, spec, n)
        query_of, places = np.nonzero(alone.image_ids >= 0)
        rows = np.searchsorted(segment.image_ids, alone.image_ids[query_of, places])
        candidates = _as_candidates(query_of, rows, len(queries))
        values = np.zeros((*alone.image_ids.shape, len(layers)), dtype=np.float64)
        for c, match in enumerate(matches):
            values[query_of, places, c] = match.similarities_of(candidates)
        answers.append(Answer(alone.image_ids, alone.scores, values, alone.certified))
    return tuple(answers)


def _as_candidates(query_of: Rows, rows: Rows, queries: int) -> Candidates:
    """Return pairs, ordered by query, as rows of each query."""
    return Candidates(np.searchsorted(query_of, np.arange(queries + 1)).astype(np.int64), rows)


def _within_reach(
    matches: Sequence[LocalMatch | DenseMatch],
    maps: Sequence[LayerMap],
    queries: int,
    images: int,
    k: int,
) -> tuple[Rows, Rows, list[Floats | None]]:
    """Return query and row of each pair that may be among the k best, ordered by both.

    Third, for each layer: the exact similarities of the pairs if it is local, else None.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1; got {k}")
    dense = [(i, match) for i, match in enumerate(matches) if isinstance(match, DenseMatch)]
    local = [(i, match) for i, match in enumerate(matches) if isinstance(match, LocalMatch)]
    order = [i for i, _ in dense] + [i for i, _ in local]
    t = np.array([maps[i].t for i in order])
    p = np.array([maps[i].p for i in order])
    tables = np.stack([table(maps[i].t, maps[i].p) for i in order])
    units = [unit_queries(match.vectors, match.norms) for _, match in dense]
    cursors = [start_cursors(match.bags, match.layer.postings) for _, match in local]
    heaps = np.empty((queries, min(k, max(images, 1))), dtype=np.float64)
    filled = np.zeros(queries, dtype=np.int64)
    kept = np.zeros(queries, dtype=np.int64)
    # One space for all blocks: fresh memory would cost as much as the work done in it.
    largest = queries * min(BLOCK_IMAGES, images)
    near_space = np.empty(len(dense) * largest, dtype=np.float32)
    exact_space = np.empty(len(local) * largest, dtype=np.float64)
    parts: list[tuple[Rows, Rows, Floats, Floats]] = []
    for first in range(0, images, BLOCK_IMAGES):
        size = min(BLOCK_IMAGES, images - first)
        near = _shaped(near_space, (len(dense), queries, size))
        exact = _shaped(exact_space, (len(local), queries, size))
        errors = np.empty((len(dense), size), dtype=np.float64)
        for a, (_, match) in enumerate(dense):
            block = slice(first, first + size)
            layer = match.layer
            errors[a] = dense_bounds(units[a], layer.vectors[block], layer.norms[block], near[a])[1]
        for b, (_, found) in enumerate(local):
            bags = found.layer
            add_block(
                found.bags, bags.postings, bags.weights, found.norms, bags.norms, cursors[b],
                first, exact[b],
            )  # fmt: skip
        rows = np.empty((queries, size), dtype=np.int64)
        uppers = np.empty((queries, size), dtype=np.float64)
        scan_block(near, errors, exact, t, p, tables, heaps, filled, rows, uppers, kept)
        chosen = np.arange(size) < kept[:, None]
        query_of = np.repeat(np.arange(queries), kept)
        inside = rows[chosen]
        parts.append((query_of, inside + first, uppers[chosen], exact[:, query_of, inside]))
    return _join(parts, heaps, filled, order, len(dense))


def _shaped(space: NDArray[Scalar], shape: tuple[int, int, int]) -> NDArray[Scalar]:
    """Return the first places of a space as an array of this shape."""
    return space[: math.prod(shape)].reshape(shape)


def _join(
    parts: Sequence[tuple[Rows, Rows, Floats, Floats]],
    heaps: Floats,
    filled: Rows,
    order: Sequence[int],
    dense: int,
) -> tuple[Rows, Rows, list[Floats | None]]:
    """Bring the blocks together, ordered by query and row, without what the end bar leaves out."""
    found: list[Floats | None] = [None] * len(order)
    if not parts:
        nothing = np.empty(0, dtype=np.int64)
        return nothing, nothing, [np.empty(0) for _ in order]
    query_of = np.concatenate([part[0] for part in parts])
    rows = np.concatenate([part[1] for part in parts])
    uppers = np.concatenate([part[2] for part in parts])
    exact = np.concatenate([part[3] for part in parts], axis=1)
    bars = np.where(filled == heaps.shape[1], heaps[:, 0], -np.inf)
    reached = np.flatnonzero(uppers >= bars[query_of])
    reached = reached[np.argsort(query_of[reached], kind="stable")]
    for b, layer in enumerate(order[dense:]):
        found[layer] = exact[b, reached]
    return query_of[reached], rows[reached], found
