"""The pass over a block of images that keeps every image which may still be among the best.

For each image it asks for an upper bound of F from a table of f, and takes powers only where
that bound reaches the k-th best lower bound so far.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.index.compiled import compiled, compiled_parallel, parallel_range
from pipeline.search.fuse import map_similarity

Floats = NDArray[np.float64]

# A power of two, so that S * CELLS is exact and the cell of S is found without error.
CELLS = 2048
# Above the rounding of a sum of powers, far below what tells images apart.
SLACK = 1e-12


def table(t: float, p: float) -> Floats:
    """Return f at the right end of each cell of [0, 1]: f(S) <= table[int(S * CELLS)]."""
    ends = np.minimum(np.arange(1, CELLS + 2, dtype=np.float64) / CELLS, 1.0)
    return map_similarity(ends, t, p) + SLACK


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


@compiled_parallel
def scan_block(
    near: NDArray[np.float32],
    errors: Floats,
    exact: Floats,
    t: Floats,
    p: Floats,
    tables: Floats,
    heaps: Floats,
    filled: NDArray[np.int64],
    rows: NDArray[np.int64],
    uppers: Floats,
    kept: NDArray[np.int64],
) -> None:
    """Keep the rows of a block whose upper bound reaches the k-th best lower bound.

    Args:
        near: (A, Q, b) approximate similarities of the A dense layers.
        errors: (A, b) how far they may be off.
        exact: (B, Q, b) exact similarities of the B local layers.
        t: (A + B,) of the dense layers, then of the local ones.
        p: (A + B,) likewise.
        tables: (A + B, CELLS + 1) from `table`.
        heaps: (Q, k) the k best lower bounds so far, updated.
        filled: (Q,) how many of them are there, updated.
        rows: (Q, b) written: rows of the block that are kept, rising, in the first places.
        uppers: (Q, b) written: their upper bounds.
        kept: (Q,) written: how many are kept.
    """
    dense = len(near)
    layers = dense + len(exact)
    for turn in parallel_range(len(heaps)):
        query = np.int64(turn)
        heap = heaps[query]
        held = filled[query]
        count = 0
        for row in range(rows.shape[1]):
            bound = 0.0
            for layer in range(layers):
                if layer < dense:
                    high = min(np.float64(near[layer, query, row]) + errors[layer, row], 1.0)
                else:
                    high = exact[layer - dense, query, row]
                if t[layer] == 1.0 or p[layer] == 1.0:
                    bound += high + SLACK
                else:
                    bound += tables[layer, np.int64(high * CELLS)]
            if held == len(heap) and bound < heap[0]:
                continue
            lower = -SLACK
            upper = SLACK
            for layer in range(layers):
                if layer < dense:
                    about = np.float64(near[layer, query, row])
                    low = max(about - errors[layer, row], 0.0)
                    high = min(about + errors[layer, row], 1.0)
                    lower += mapped(low, t[layer], p[layer])
                    upper += mapped(high, t[layer], p[layer])
                else:
                    value = mapped(exact[layer - dense, query, row], t[layer], p[layer])
                    lower += value
                    upper += value
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
