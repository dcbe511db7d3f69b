"""Compiled passes over a block that drop images which cannot be among the best.

`propose` bounds each image in a few operations, by straight lines above f and the codes on the
leading axes. `promising` picks the highest of those that reach the bar; the others wait until the
bar is as high as it gets, and `reaching` then drops those below it. `narrow` bounds closely, by
products with the codes of whole vectors (`pair_products`) and f itself. What is left is scored in
float64, elsewhere.

Pairs of query and row lie flat, by query: those of query q from offsets[q] to offsets[q + 1].
Layers are in one order throughout: the A dense ones, then the B local ones.
"""

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float32s, Float64s, Int32s, Int64s
from lamella.pipeline.compiled import compiled
from lamella.pipeline.vocabulary.ivf_kernels import proposing

Flat = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]
"""Pairs: offsets (Q + 1,), rows inside the block (m,), and similarities (A + B, m), at most."""


SLACK = 1e-12
"""Above the rounding of a sum of powers in float64, far below differences between images."""

LOCAL_ERROR = 1e-7
"""Above what rounding a similarity in [0, 1] to float32 adds to it or takes from it."""

STEEPEST = 50.0
"""The largest slope of a line above f: rounding errors grow with it."""

FLATTEST = 1e-3
"""Below this p the bound is 1: f is within a hundredth of it nearly everywhere."""

SINGLE_SLACK = 1e-5
"""Above the rounding of a sum of bounds in float32, for up to 20 layers."""


@compiled
def lines_above(
    t: Float64s, p: Float64s, touching: Float64s, dense: float
) -> tuple[Float32s, Float32s]:
    """Return slopes and offsets (C, Q) of lines with f(S) <= max(S, slope * S + offset).

    f is concave from t on, so it lies below each tangent; below t it is S.

    Args:
        t, p: (C,) of the maps.
        touching: (Q,) sums of f over layers whose weights add up to `dense`, near which the bounds
            are to be tight. Those that are not finite, before there is a bar, are anything.
    """
    slopes = np.ones((len(t), len(touching)), np.float32)
    offsets = np.zeros((len(t), len(touching)), np.float32)
    for layer in range(len(t)):
        low, power = t[layer], p[layer]
        if low == 1.0 or power == 1.0:
            continue
        if power < FLATTEST:
            slopes[layer], offsets[layer] = np.float32(0.0), np.float32(1.0)
            continue
        least = max((STEEPEST / power) ** (1.0 / (power - 1.0)), 1e-300)
        for query in range(len(touching)):
            value = touching[query] / dense if np.isfinite(touching[query]) else 1.0
            place = ((min(max(value, low), 1.0) - low) / (1.0 - low)) ** (1.0 / power)
            place = max(place, least)
            slope = power * place ** (power - 1.0)
            offset = low + (1.0 - low) * (place**power - slope * place) - slope * low
            # Rounded to float32 the line may sink by 2 ** -23 of its values, below 2 STEEPEST.
            slopes[layer, query] = slope
            offsets[layer, query] = offset + 2e-5
    return slopes, offsets


@compiled
def mapped(similarity: float, t: float, p: float) -> float:
    """Return f(S) of one similarity."""
    if similarity <= t or t == 1.0 or p == 1.0:
        return similarity
    return t + (1.0 - t) * ((similarity - t) / (1.0 - t)) ** p  # type: ignore[no-any-return]


@compiled
def keep_best(heap: Float64s, filled: int, value: float) -> int:
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
def keep_all(heaps: Float64s, filled: Int64s, offsets: Int64s, values: Float64s) -> None:
    """Put values, flat by query, into heaps of the k largest (Q, k)."""
    for query in range(len(heaps)):
        for place in range(offsets[query], offsets[query + 1]):
            filled[query] = keep_best(heaps[query], filled[query], values[place])


@compiled
def propose(
    near: Float32s,
    errors: Float32s,
    rests: Float32s,
    bases: Float32s,
    lengths: Float32s,
    query_rests: Float32s,
    known: Float32s,
    slopes: Float32s,
    offsets: Float32s,
    weights: Float64s,
    bars: Float64s,
    uppers: Float32s,
    rows: Int32s,
    kept: Int64s,
) -> None:
    """Write the rows of a block whose upper bound of F reaches the bar.

    Args:
        near: (A, Q, b) products with the leading codes, without base; written over with the
            similarities they allow.
        errors, rests: (A, b) of the rows.
        bases: (A, Q) of the products, with what float32 may lose.
        lengths, query_rests: (A, Q).
        known: (B, Q, b) similarities of the local layers.
        slopes, offsets: (A + B, Q) of the lines above f.
        weights: (A + B,) of the layers, at most 1.
        bars: (Q,) what F must reach.
        uppers: (Q, b) written: the bounds of the rows that reach it, in the first places.
        rows: (Q, b) written: those rows, rising.
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
            weight = np.float32(weights[layer])
            for row in range(len(upper)):
                high = line[row] + base + (length * error[row] + query_rest * rest[row])
                high = min(max(high, np.float32(0.0)), np.float32(1.0))
                line[row] = high
                upper[row] += weight * max(high, slope * high + offset)
        for layer in range(len(known)):
            values = known[layer, query]
            slope, offset = slopes[len(near) + layer, query], offsets[len(near) + layer, query]
            weight = np.float32(weights[len(near) + layer])
            for row in range(len(upper)):
                upper[row] += weight * max(values[row], slope * values[row] + offset)
        bar = np.float32(bars[query] - SINGLE_SLACK)
        mine = rows[query]
        count = np.uint64(0)
        for row in range(len(upper)):
            # Without a branch: which images reach the bar is hard to predict.
            bound = upper[row]
            mine[count] = row
            upper[count] = bound
            count += np.uint64(bound >= bar)
        kept[query] = count


@compiled
def promising(
    rows: Int32s,
    uppers: Float32s,
    kept: Int64s,
    near: Float32s,
    known: Float32s,
    highest: Float64s,
    filled: Int64s,
) -> tuple[Flat, Flat]:
    """Split what `propose` left: pairs among the k highest bounds so far, and the others.

    Args:
        rows, uppers, kept: as `propose` wrote them; rows are written over.
        near, known: (A, Q, b) and (B, Q, b), of all rows of the block.
        highest: (Q, k) heaps of the highest bounds so far, updated.
        filled: (Q,) how many of them are there, updated.
    """
    chosen = np.zeros(len(kept), np.int64)
    for query in range(len(kept)):
        heap, upper, mine = highest[query], uppers[query], rows[query]
        count, held = 0, filled[query]
        for place in range(kept[query]):
            if held < len(heap) or upper[place] > heap[0]:
                held = keep_best(heap, held, np.float64(upper[place]))
                mine[place] = ~mine[place]
                count += 1
        chosen[query], filled[query] = count, held
    now = _taken(rows, kept, chosen, near, known, True)
    return now, _taken(rows, kept, kept - chosen, near, known, False)


@compiled
def _taken(
    rows: Int32s, kept: Int64s, counts: Int64s, near: Float32s, known: Float32s, marked: bool
) -> Flat:
    """Return the pairs whose rows are marked, as ~row, or those whose rows are not."""
    offsets = np.zeros(len(kept) + 1, np.int64)
    offsets[1:] = np.cumsum(counts)
    taken = np.empty(offsets[-1], np.int32)
    most = np.empty((len(near) + len(known), offsets[-1]), np.float32)
    for query in range(len(kept)):
        first, count, mine = offsets[query], offsets[query], rows[query]
        for place in range(kept[query]):
            row = mine[place]
            if (row < 0) == marked:
                taken[count] = ~row if marked else row
                count += 1
        for layer in range(len(most)):
            values = near[layer, query] if layer < len(near) else known[layer - len(near), query]
            for place in range(first, count):
                most[layer, place] = values[taken[place]]
    return offsets, taken, most


@compiled
def reaching(
    pairs: Flat, slopes: Float32s, line_offsets: Float32s, weights: Float64s, bars: Float64s
) -> Flat:
    """Return the pairs that still reach the bar of their query (Q,), by other lines (A + B, Q)."""
    offsets, rows, most = pairs
    left = np.zeros(len(offsets), np.int64)
    places = np.empty(len(rows), np.int64)
    longest = 0
    for query in range(len(bars)):
        longest = max(longest, offsets[query + 1] - offsets[query])
    bounds = np.empty(longest, np.float32)
    count = np.uint64(0)
    for query in range(len(bars)):
        start, size = offsets[query], offsets[query + 1] - offsets[query]
        bounds[:size] = np.float32(0.0)
        for layer in range(len(most)):
            values = most[layer, start : start + size]
            slope, offset = slopes[layer, query], line_offsets[layer, query]
            weight = np.float32(weights[layer])
            for place in range(size):
                bounds[place] += weight * max(values[place], slope * values[place] + offset)
        bar = np.float32(bars[query] - SINGLE_SLACK)
        for place in range(size):
            places[count] = start + place
            count += np.uint64(bounds[place] >= bar)
        left[query + 1] = count
    kept = places[: np.int64(count)]
    values = np.empty((len(most), len(kept)), np.float32)
    for layer in range(len(most)):
        values[layer] = most[layer][kept]
    return left, rows[kept], values


@proposing
def means(pairs: Flat, first: int, weights: Float64s) -> Float64s:
    """Return what layers from `first` on give the pairs of each query on average, (Q,)."""
    offsets, _, most = pairs
    out = np.zeros(len(offsets) - 1)
    for query in range(len(out)):
        values = most[:, offsets[query] : offsets[query + 1]]
        for layer in range(first, len(most)):
            total = np.float32(0.0)
            for place in range(values.shape[1]):
                total += values[layer, place]
            out[query] += weights[layer] * np.float64(total) / max(values.shape[1], 1)
    return out


@compiled
def narrow(
    pairs: Flat,
    near: Float32s,
    errors: Float32s,
    lengths: Float32s,
    slacks: Float32s,
    t: Float64s,
    p: Float64s,
    weights: Float64s,
    slopes: Float32s,
    line_offsets: Float32s,
    local_errors: Float64s,
    bars: Float64s,
    query_of: Int64s,
    lowers: Float64s,
    uppers: Float64s,
) -> int:
    """Write the pairs whose upper bound reaches the bar, and both bounds; return how many.

    Args:
        pairs: of a block; their rows are written over with those of the pairs that are left.
        near: (A, m) products with the codes of whole vectors.
        errors: (A, b) of the rows of the block.
        lengths, slacks: (A, Q) of the products.
        t, p, weights: (A + B,) of the maps; weights are at most 1.
        slopes, line_offsets: (A + B, Q) of the lines above f.
        local_errors: (B, Q): a local similarity may be below S, what the pairs say, by this times
            S ** (2 / 3), beside its rounding.
        bars: (Q,) what F must reach.
        query_of: (m,) written.
        lowers, uppers: (m,) written.
    """
    offsets, rows, most = pairs
    count = 0
    for query in range(len(bars)):
        bar = bars[query]
        for place in range(offsets[query], offsets[query + 1]):
            row = rows[place]
            bound = 0.0
            for layer in range(len(most)):
                high = most[layer, place]
                if layer < len(near):
                    high = near[layer, place] + slacks[layer, query]
                    high += lengths[layer, query] * errors[layer, row]
                    high = min(max(high, np.float32(0.0)), np.float32(1.0))
                line = slopes[layer, query] * high + line_offsets[layer, query]
                bound += weights[layer] * max(high, line)
            if bound < bar - SINGLE_SLACK:
                continue
            lower = -SLACK
            upper = SLACK
            for layer in range(len(most)):
                about, above = np.float64(most[layer, place]), np.float64(LOCAL_ERROR)
                if layer < len(near):
                    about = np.float64(near[layer, place])
                    below = np.float64(lengths[layer, query]) * np.float64(errors[layer, row])
                    below += np.float64(slacks[layer, query])
                    above = below
                else:
                    below = above
                    if local_errors[layer - len(near), query] > 0.0:
                        below += local_errors[layer - len(near), query] * about ** (2.0 / 3.0)
                least, greatest = (
                    min(max(about - below, 0.0), 1.0),
                    min(max(about + above, 0.0), 1.0),
                )
                lower += weights[layer] * mapped(least, t[layer], p[layer])
                upper += weights[layer] * mapped(greatest, t[layer], p[layer])
            if upper >= bar:
                query_of[count] = query
                rows[count] = row
                lowers[count] = lower
                uppers[count] = upper
                count += 1
    return count
