"""The compiled loops that keep the best proposed images of each query.

A heap holds the images of one query, the worst first: that of the lowest score and, of equal
scores, of the highest id. So what is kept does not depend on the order in which images come.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Bools, Float32s, Float64s, Int64s, UInt32s
from lamella.pipeline.compiled import compiled

SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""2**64 over the golden ratio: the leading bits of its multiples spread rows that lie together
(Knuth, The Art of Computer Programming 3, section 6.4)."""

ROOM = 1.0 + 1e-9
"""More than rounding makes of a quotient: what is out by this is out by the exact sum too."""


@compiled
def _worse(score: float, image_id: int, other: float, other_id: int) -> bool:
    return score < other or (score == other and image_id > other_id)


@compiled
def _keep(
    scores: Float64s,
    ids: Int64s,
    places: Int64s,
    held: int,
    score: float,
    image_id: int,
    place: int | np.int64,
) -> int:
    """Put an image into the heap of a query; return how many it holds then."""
    size = len(scores)
    if held < size:
        hole, held = held, held + 1
        while hole > 0:
            parent = (hole - 1) // 2
            if not _worse(score, image_id, scores[parent], ids[parent]):
                break
            scores[hole], ids[hole], places[hole] = scores[parent], ids[parent], places[parent]
            hole = parent
    else:
        if not _worse(scores[0], ids[0], score, image_id):
            return held
        hole, child = 0, 1
        while child < size:
            other = child + 1
            if other < size and _worse(scores[other], ids[other], scores[child], ids[child]):
                child = other
            if not _worse(scores[child], ids[child], score, image_id):
                break
            scores[hole], ids[hole], places[hole] = scores[child], ids[child], places[child]
            hole, child = child, 2 * child + 1
    scores[hole], ids[hole], places[hole] = score, image_id, place
    return held


@compiled
def keep_rows(
    rows: Int64s,
    found: Float32s,
    image_ids: Int64s,
    base: int,
    scores: Float64s,
    ids: Int64s,
    places: Int64s,
    held: Int64s,
) -> None:
    """Keep rows (Q, n) of a segment, -1 for none, with falling scores; their places follow base."""
    for query in range(len(rows)):
        heap, heap_ids, heap_places, full = scores[query], ids[query], places[query], held[query]
        for column in range(rows.shape[1]):
            row = rows[query, column]
            if row < 0:
                continue
            score = np.float64(found[query, column])
            if full == len(heap) and score < heap[0]:
                break
            full = _keep(heap, heap_ids, heap_places, full, score, image_ids[row], base + row)
        held[query] = full


@compiled
def keep_sums(
    starts: Int64s,
    words: UInt32s,
    factors: Float64s,
    query_norms: Float64s,
    list_offsets: Int64s,
    list_rows: UInt32s,
    list_counts: NDArray[Any],
    counted: bool,
    norms: Float64s,
    least: float,
    allowed: Bools,
    image_ids: Int64s,
    base: int,
    scores: Float64s,
    ids: Int64s,
    places: Int64s,
    held: Int64s,
) -> None:
    """Keep the rows of a segment that stand in some posting lists, by their sums over both norms.

    Sums lie in a hash table of the rows that are met, so the work is that of the lists and not of
    the segment. A row's sum takes its words in rising order, as everywhere.

    Args:
        starts: (Q + 1,) of the chosen words of each query, rising.
        words, factors: (m,) of these.
        counted: whether a posting counts as often as its count, or once.
        least: the least of the norms (n,) above 0.
        allowed: (n,), or (0,) where all images are.
    """
    longest = 0
    for query in range(len(query_norms)):
        total = 0
        for term in range(starts[query], starts[query + 1]):
            total += list_offsets[words[term] + 1] - list_offsets[words[term]]
        longest = max(longest, total)
    longest = min(longest, len(norms))
    bits = 4
    while (1 << bits) < 2 * longest:
        bits += 1
    last, shift = (1 << bits) - 1, np.uint64(64 - bits)
    # A row and its sum lie side by side, in one cache line; rows are exact as numbers of 53 bits.
    table = np.full((last + 1, 2), -1.0)
    met = np.empty(longest, np.int64)
    for query in range(len(query_norms)):
        heap, heap_ids, heap_places, full = scores[query], ids[query], places[query], held[query]
        count = 0
        for term in range(starts[query], starts[query + 1]):
            factor = factors[term]
            for entry in range(list_offsets[words[term]], list_offsets[words[term] + 1]):
                row = np.int64(list_rows[entry])
                if len(allowed) > 0 and not allowed[row]:
                    continue
                slot = np.int64((np.uint64(row) * SPREAD) >> shift)
                key = np.float64(row)
                while table[slot, 0] >= 0.0 and table[slot, 0] != key:
                    slot = (slot + 1) & last
                if table[slot, 0] < 0.0:
                    table[slot, 0], table[slot, 1], met[count] = key, 0.0, slot
                    count += 1
                table[slot, 1] += factor * np.float64(
                    np.int64(list_counts[entry]) if counted else 1
                )
        for number in range(count):
            slot = met[number]
            row, total = np.int64(table[slot, 0]), table[slot, 1]
            table[slot, 0] = -1.0
            # Most rows cannot reach the bar whatever their norm, which need not be read then.
            bar = heap[0] if full == len(heap) else 0.0
            if total * ROOM < bar * query_norms[query] * least:
                continue
            both = query_norms[query] * norms[row]
            score = min(total / (both if both > 0.0 else 1.0), 1.0)
            if score > 0.0 and score >= bar:
                full = _keep(heap, heap_ids, heap_places, full, score, image_ids[row], base + row)
        held[query] = full


@compiled
def keep_lists(
    other_scores: Float64s,
    other_ids: Int64s,
    other_places: Int64s,
    other_held: Int64s,
    scores: Float64s,
    ids: Int64s,
    places: Int64s,
    held: Int64s,
) -> None:
    """Keep what other heaps hold of the same queries."""
    for query in range(len(held)):
        heap, heap_ids, heap_places, full = scores[query], ids[query], places[query], held[query]
        for number in range(other_held[query]):
            full = _keep(
                heap, heap_ids, heap_places, full, other_scores[query, number],
                other_ids[query, number], other_places[query, number],
            )  # fmt: skip
        held[query] = full


@compiled
def keep_scored(
    query_of: Int64s,
    image_ids: Int64s,
    found: Float64s,
    scores: Float64s,
    ids: Int64s,
    places: Int64s,
    held: Int64s,
) -> None:
    """Keep scored pairs (m,) of query and image; the place of each is its number."""
    for pair in range(len(query_of)):
        query = query_of[pair]
        held[query] = _keep(
            scores[query], ids[query], places[query], held[query], found[pair], image_ids[pair],
            pair,
        )  # fmt: skip


@compiled
def take_words(
    starts: Int64s, order: Int64s, words: UInt32s, frequencies: Int64s, budget: int, taken: Bools
) -> None:
    """Mark the words of each query, in their order, whose lists still fit into the budget."""
    for query in range(len(starts) - 1):
        left = budget
        for number in range(starts[query], starts[query + 1]):
            length = frequencies[words[order[number]]]
            if length <= left:
                left -= length
                taken[order[number]] = True
