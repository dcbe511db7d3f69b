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


@compiled
def take_apart(
    pairs: tuple[Int64s, Int32s, Float32s],
    errors: Float32s,
    lengths: Float32s,
    slacks: Float32s,
    near: Float32s,
) -> None:
    """Write the products (A, m) from which `propose` made the similarities of some pairs, at most.

    Where a similarity was cut to [0, 1] the product is another one, with the same bounds once they
    are cut.

    Args:
        pairs: `bound_kernels.Flat`, whose first A similarities are those of products.
        errors: (A, b) of the rows, and lengths, slacks: (A, Q) of the products.
    """
    offsets, rows, most = pairs
    for layer in range(len(near)):
        for query in range(len(offsets) - 1):
            length, slack = lengths[layer, query], slacks[layer, query]
            for place in range(offsets[query], offsets[query + 1]):
                reach = slack + length * errors[layer, rows[place]]
                near[layer, place] = most[layer, place] - reach
