"""The passes over a block of images that keep every image which may still be among the best.

`propose` asks of each image a bound that costs a few operations, from straight lines above f and
the codes on the leading axes; `multiply` and `narrow` look again at those it leaves, with the codes
of whole vectors and f itself. What comes out is decided in float64, elsewhere.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.index.compiled import compiled
from pipeline.vocabulary.lists import proposing

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Places = NDArray[np.int32]
Counts = NDArray[np.int64]

SLACK = 1e-12
"""Above the rounding of a sum of powers in float64, far below what tells images apart."""

NEAR_ROWS = 256
"""Rows whose whole codes are met by all queries before the next: 330 kB at 1,280 dimensions."""

STEEPEST = 50.0
"""The largest slope of a line above f: its rounding grows with it."""

FLATTEST = 1e-3
"""Below this p the bound is 1: f is within a hundredth of it nearly everywhere."""

SINGLE_SLACK = 1e-5
"""Above the rounding of a sum of bounds in float32, for up to 20 layers."""


def lines_above(t: float, p: float, touching: Floats) -> tuple[Singles, Singles]:
    """Return slope and offset (Q,) of lines with f(S) <= max(S, slope * S + offset).

    f is concave from t on, so it lies below each tangent; below t it is S.

    Args:
        t, p: of the map.
        touching: (Q,) values of f near which the bound is to be tight.
    """
    if t == 1.0 or p == 1.0:
        return np.ones(len(touching), np.float32), np.zeros(len(touching), np.float32)
    if p < FLATTEST:
        return np.zeros(len(touching), np.float32), np.ones(len(touching), np.float32)
    places = ((np.clip(touching, t, 1.0) - t) / (1.0 - t)) ** (1.0 / p)
    places = np.maximum(places, max((STEEPEST / p) ** (1.0 / (p - 1.0)), 1e-300))
    at = t + (1.0 - t) * places
    slopes = p * places ** (p - 1.0)
    offsets = t + (1.0 - t) * places**p - slopes * at
    # Rounded to float32 the line may sink by 2 ** -23 of its values, which are below 2 STEEPEST.
    return slopes.astype(np.float32), (offsets + 2e-5).astype(np.float32)


@compiled
def mapped(similarity: float, t: float, p: float) -> float:
    """Return f(S) of one similarity."""
    if similarity <= t or t == 1.0 or p == 1.0:
        return similarity
    return t + (1.0 - t) * ((similarity - t) / (1.0 - t)) ** p  # type: ignore[no-any-return]


@compiled
def keep_best(heap: Floats, filled: int, value: float) -> int:
    """Put a value into a heap of the k largest, smallest first; return how many it holds."""
    if filled < len(heap):
        place = filled
        while place > 0 and heap[(place - 1) // 2] > value:
            heap[place] = heap[(place - 1) // 2]
            place = (place - 1) // 2
        heap[place] = value
        return filled + 1
    if value <= heap[0]:
        return filled
    place = 0
    while 2 * place + 1 < len(heap):
        child = 2 * place + 1
        if child + 1 < len(heap) and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= value:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = value
    return filled


@compiled
def keep_all(heaps: Floats, filled: Counts, others: Floats, others_filled: Counts) -> None:
    """Put what is in other heaps (Q, k) into heaps of the k largest (Q, k), query by query."""
    for query in range(len(heaps)):
        for place in range(others_filled[query]):
            filled[query] = keep_best(heaps[query], filled[query], others[query, place])


@compiled
def propose(
    near: Singles,
    errors: Singles,
    rests: Singles,
    bases: Singles,
    lengths: Singles,
    query_rests: Singles,
    exact: Floats,
    slopes: Singles,
    offsets: Singles,
    bars: Floats,
    uppers: Singles,
    rows: Places,
    kept: Counts,
) -> None:
    """Write which rows of a block have an upper bound of F that reaches the bar.

    Args:
        near: (A, Q, b) products with the leading codes of the A dense layers, without base.
        errors, rests: (A, b) of the rows.
        bases: (A, Q) of the products, with what float32 may lose.
        lengths, query_rests: (A, Q).
        exact: (B, Q, b) exact similarities of the B local layers.
        slopes, offsets: (A + B, Q) of the lines above f.
        bars: (Q,) what F must reach.
        uppers: (Q, b) room.
        rows: (Q, b) written: the rows that reach it, rising, in the first places.
        kept: (Q,) written: how many.
    """
    for query in range(len(bars)):
        upper = uppers[query]
        upper[:] = np.float32(0.0)
        for layer in range(len(near)):
            line, error, rest = near[layer, query], errors[layer], rests[layer]
            base, length = bases[layer, query], lengths[layer, query]
            query_rest = query_rests[layer, query]
            slope, offset = slopes[layer, query], offsets[layer, query]
            for row in range(len(upper)):
                high = line[row] + base + (length * error[row] + query_rest * rest[row])
                high = min(max(high, np.float32(0.0)), np.float32(1.0))
                upper[row] += max(high, slope * high + offset)
        for layer in range(len(exact)):
            known = exact[layer, query]
            slope, offset = slopes[len(near) + layer, query], offsets[len(near) + layer, query]
            for row in range(len(upper)):
                value = np.float32(known[row])
                upper[row] += max(value, slope * value + offset)
        bar = np.float32(bars[query] - SINGLE_SLACK)
        mine = rows[query]
        count = np.uint64(0)
        for row in range(len(upper)):
            # Without a branch: which images reach the bar is hard to foretell.
            mine[count] = row
            count += np.uint64(upper[row] >= bar)
        kept[query] = count


@proposing
def product(codes: NDArray[np.uint8], weights: Singles) -> float:
    """Return the product of a row of codes with weights, in float32, added in any order."""
    total = np.float32(0.0)
    for place in range(len(weights)):
        total += np.float32(codes[place]) * weights[place]
    return total  # type: ignore[return-value]


@compiled
def multiply(
    rows: Places,
    kept: Counts,
    first: int,
    codes: NDArray[np.uint8],
    weights: Singles,
    bases: Singles,
    out: Singles,
) -> None:
    """Write the products of queries (Q, D) with the codes of the rows kept, in their places.

    Some rows for all queries, then the next: their codes stay in a core's own cache.
    """
    places = np.zeros(len(kept), np.int64)
    for stop in range(NEAR_ROWS, rows.shape[1] + NEAR_ROWS, NEAR_ROWS):
        for query in range(len(kept)):
            place = places[query]
            while place < kept[query] and rows[query, place] < stop:
                row = first + np.int64(rows[query, place])
                out[query, place] = product(codes[row], weights[query]) + bases[query]
                place += 1
            places[query] = place


@compiled
def narrow(
    near: Singles,
    errors: Singles,
    lengths: Singles,
    slacks: Singles,
    exact: Floats,
    t: Floats,
    p: Floats,
    slopes: Singles,
    offsets: Singles,
    heaps: Floats,
    filled: Counts,
    rows: Places,
    kept: Counts,
    uppers: Floats,
) -> None:
    """Keep, of the rows kept so far, those whose upper bound reaches the k-th best lower bound.

    Args:
        near: (A, Q, b) products with the codes of whole vectors, place by place as in `rows`.
        errors: (A, b) of the rows.
        lengths, slacks: (A, Q) of the products.
        exact: (B, Q, b) exact similarities of the local layers, row by row.
        t, p: (A + B,) of the maps, dense layers first.
        slopes, offsets: (A + B, Q) of the lines above f.
        heaps: (Q, k) the k best lower bounds so far, updated.
        filled: (Q,) how many of them are there, updated.
        rows, kept: (Q, b) and (Q,), cut down.
        uppers: (Q, b) written: the upper bounds of what is kept.
    """
    for query in range(len(kept)):
        heap = heaps[query]
        held = filled[query]
        count = 0
        for place in range(kept[query]):
            row = rows[query, place]
            bound = 0.0
            for layer in range(len(near)):
                high = near[layer, query, place] + slacks[layer, query]
                high += lengths[layer, query] * errors[layer, row]
                high = min(max(high, np.float32(0.0)), np.float32(1.0))
                bound += max(high, slopes[layer, query] * high + offsets[layer, query])
            for layer in range(len(exact)):
                value = np.float32(exact[layer, query, row])
                line = len(near) + layer
                bound += max(value, slopes[line, query] * value + offsets[line, query])
            if held == len(heap) and bound < heap[0] - SINGLE_SLACK:
                continue
            lower = -SLACK
            upper = SLACK
            for layer in range(len(near)):
                about = np.float64(near[layer, query, place])
                error = np.float64(lengths[layer, query]) * np.float64(errors[layer, row])
                error += np.float64(slacks[layer, query])
                lower += mapped(min(max(about - error, 0.0), 1.0), t[layer], p[layer])
                upper += mapped(min(max(about + error, 0.0), 1.0), t[layer], p[layer])
            for layer in range(len(exact)):
                line = len(near) + layer
                decided = mapped(exact[layer, query, row], t[line], p[line])
                lower += decided
                upper += decided
            held = keep_best(heap, held, lower)
            if held < len(heap) or upper >= heap[0]:
                rows[query, count] = row
                uppers[query, count] = upper
                count += 1
        filled[query] = held
        # Earlier rows were kept against a lower bar than the block ended with.
        last = count
        count = 0
        for place in range(last):
            if held < len(heap) or uppers[query, place] >= heap[0]:
                rows[query, count] = rows[query, place]
                uppers[query, count] = uppers[query, place]
                count += 1
        kept[query] = count
