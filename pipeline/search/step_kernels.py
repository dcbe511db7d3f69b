"""Compiled passes over the rows that `bound_kernels.propose` left of a block.

Arrays are those of `bound_kernels.propose`.
"""

import numpy as np

from lamella.pipeline.arrays import Bools, Float32s, Float64s, Int32s, Int64s
from lamella.pipeline.compiled import compiled


@compiled
def drop_others(allowed: Bools, uppers: Float32s, rows: Int32s, kept: Int64s) -> None:
    """Drop the rows that a filter does not allow, before any of them can raise the bar.

    Args:
        allowed: (b,) of the rows of the block.
        uppers, rows, kept: as `propose` wrote them; written over.
    """
    for query in range(len(kept)):
        count = np.uint64(0)
        for place in range(kept[query]):
            row = rows[query, place]
            rows[query, count] = row
            uppers[query, count] = uppers[query, place]
            count += np.uint64(allowed[row])
        kept[query] = count


@compiled
def propose_again(
    near: Float32s,
    known: Float32s,
    slopes: Float32s,
    offsets: Float32s,
    weights: Float64s,
    bars: Float64s,
    uppers: Float32s,
    rows: Int32s,
    kept: Int64s,
) -> None:
    """Bound the rows that `propose` left anew, by closer local similarities; drop those below.

    Args:
        near: (A, Q, b) the similarities that `propose` wrote.
        known: (B, Q, b) of the local layers, closer than before for the rows that are left.
        slopes, offsets, weights: as for `propose`.
        bars: (Q,) as for `propose`, less `SINGLE_SLACK`.
        uppers, rows, kept: as `propose` wrote them; written over.
    """
    for query in range(len(bars)):
        bar = np.float32(bars[query])
        count = np.uint64(0)
        for place in range(kept[query]):
            row = rows[query, place]
            bound = np.float32(0.0)
            for layer in range(len(weights)):
                value = (
                    near[layer, query, row]
                    if layer < len(near)
                    else known[layer - len(near), query, row]
                )
                line = slopes[layer, query] * value + offsets[layer, query]
                bound += np.float32(weights[layer]) * max(value, line)
            rows[query, count] = row
            uppers[query, count] = bound
            count += np.uint64(bound >= bar)
        kept[query] = count
