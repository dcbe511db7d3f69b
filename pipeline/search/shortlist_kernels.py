"""The compiled loops that keep the best proposed images of each query.

A list holds the images of one query in any order, with room for twice as many as are kept. Once it
is full it is cut to the best: by score, falling, then by id, rising. So what is kept does not
depend on the order in which images come, and most images cost one comparison.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Bools, Float32s, Float64s, Int64s, UInt32s
from lamella.pipeline.compiled import compiled

Kept = tuple[Float64s, Int64s, Int64s, Int64s, Float64s, int]
"""The arrays of a `Shortlist`: scores, ids, places, held, bars and size."""


@compiled
def _cut(scores: Float64s, ids: Int64s, places: Int64s, held: int, size: int) -> int:
    """Cut a list to its best `size` images; return how many it holds then."""
    if held <= size:
        return held
    last = -np.partition(-scores[:held], size - 1)[size - 1]
    above = equal = 0
    for number in range(held):
        above += scores[number] > last
        equal += scores[number] == last
    greatest = np.iinfo(np.int64).max
    if above + equal > size:  # of those with the last score, the lowest ids
        equals = np.empty(equal, np.int64)
        count = 0
        for number in range(held):
            if scores[number] == last:
                equals[count] = ids[number]
                count += 1
        greatest = np.sort(equals)[size - above - 1]
    count = 0
    for number in range(held):
        if scores[number] > last or (scores[number] == last and ids[number] <= greatest):
            scores[count], ids[count], places[count] = scores[number], ids[number], places[number]
            count += 1
    return count


@compiled
def cut(lists: Kept) -> None:
    """Cut the lists of all queries to their best `size` images, and set their bars."""
    scores, ids, places, held, bars, size = lists
    for query in range(len(held)):
        held[query] = _cut(scores[query], ids[query], places[query], held[query], size)
        if held[query] == size:
            bars[query] = scores[query, :size].min()


@compiled
def _at(table: Float64s, value: float) -> float:
    """Return what a table of even steps over [0, 1] has at a value, between its entries linear."""
    place = min(max(value, 0.0), 1.0) * (len(table) - 1)
    entry = min(int(place), len(table) - 2)
    return table[entry] + (place - entry) * (table[entry + 1] - table[entry])  # type: ignore[no-any-return]


@compiled
def _put(
    lists: Kept, query: int, score: float, image_id: int | np.int64, place: int | np.int64
) -> None:
    """Put an image into the list of a query, which is cut first if it is full."""
    scores, ids, places, held, bars, size = lists
    full = held[query]
    if full == scores.shape[1]:
        full = _cut(scores[query], ids[query], places[query], full, size)
        bars[query] = scores[query, :full].min()
    scores[query, full], ids[query, full], places[query, full] = score, image_id, place
    held[query] = full + 1


@compiled
def keep_known(
    looked: tuple[Int64s, Int64s, Float32s],
    directed: Bools,
    near_table: Float64s,
    near: Kept,
    terms: tuple[Int64s, UInt32s, Float32s, Float64s],
    postings: tuple[Int64s, UInt32s, NDArray[Any]],
    counted: bool,
    norms: Float64s,
    own_table: Float64s,
    own: Kept,
    drain: bool,
    allowed: Bools,
    image_ids: Int64s,
    base: int,
    sums: Float32s,
    met: UInt32s,
) -> None:
    """Keep the images that a dense layer looked at, and others that stand in some posting lists.

    Those that were looked at are ranked by what is known of both layers, the others by the sum of
    their postings over both norms, which is a lower bound of their cosine. Only the sums of rows
    that are met are touched, so the work is that of the lists and not of the segment. A row's sum
    takes its words in rising order, as everywhere.

    Args:
        looked: offsets (Q + 1,), rows (m,) and scores (m,) of the dense layer.
        directed: (Q,) which queries have a direction in it; of others no row is kept.
        near_table, own_table: the map of each layer times its weight, see `_at`.
        near, own: written: the lists of the dense and of the local layer.
        terms: starts (Q + 1,) of the chosen words of each query, words (w,), rising, their factors
            (w,), above 0, and the norms (Q,) of the whole queries.
        postings: offsets (K + 1,), rows and counts of the segment.
        counted: whether a posting counts as often as its count, or once.
        norms: (n,).
        drain: whether rows that were not looked at are kept too.
        allowed: (n,), or (0,) where all images are.
        sums, met: room for n numbers at least; sums are 0 before and after.
    """
    offsets, rows, found = looked
    starts, words, factors, query_norms = terms
    list_offsets, list_rows, list_counts = postings
    for query in range(len(offsets) - 1):
        count = np.uint64(0)
        for term in range(starts[query], starts[query + 1]):
            factor = factors[term]
            for entry in range(list_offsets[words[term]], list_offsets[words[term] + 1]):
                row = np.uint64(list_rows[entry])
                # Without a branch: whether a row was met before is hard to predict.
                met[count] = row
                count += np.uint64(sums[row] == np.float32(0.0))
                times = np.int32(list_counts[entry]) if counted else np.int32(1)
                sums[row] += factor * np.float32(times)
        last = offsets[query + 1] if directed[query] else offsets[query]
        for entry in range(offsets[query], last):
            row = np.uint64(rows[entry])
            score = _at(near_table, np.float64(found[entry]))
            if sums[row] > np.float32(0.0):
                both = query_norms[query] * norms[row]
                share = np.float64(sums[row]) / (both if both > 0.0 else 1.0)
                score += _at(own_table, share)
                sums[row] = np.float32(0.0)
            if score >= near[4][query]:
                _put(near, query, score, image_ids[row], base + np.int64(row))
        for number in range(np.int64(count)):
            row = np.uint64(met[number])
            total = np.float64(sums[row])
            sums[row] = np.float32(0.0)
            if total == 0.0 or not drain or (len(allowed) > 0 and not allowed[row]):
                continue
            both = query_norms[query] * norms[row]
            score = min(total / (both if both > 0.0 else 1.0), 1.0)
            if score > 0.0 and score >= own[4][query]:
                _put(own, query, score, image_ids[row], base + np.int64(row))


@compiled
def keep_scored(
    query_of: Int64s, image_ids: Int64s, found: Float64s, numbers: Int64s, into: Kept
) -> None:
    """Keep scored pairs (m,) of query and image, each with a number that stands for its place."""
    for pair in range(len(query_of)):
        query = query_of[pair]
        if found[pair] >= into[4][query]:
            _put(into, query, found[pair], image_ids[pair], numbers[pair])


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
