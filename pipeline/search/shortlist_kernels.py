"""The compiled loops that keep the best proposed images of each query.

A list holds the images of one query in any order, with room for twice as many as are kept. Once it
is full it is cut to the best: by score, falling, then by id, rising. So what is kept does not
depend on the order in which images come, and an image costs a few comparisons. As a heap it cost
ten times that.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Bools, Float32s, Float64s, Int64s, UInt32s
from lamella.pipeline.compiled import compiled

ROOM = 1.0 + 1e-9
"""More than rounding makes of a quotient: what is out by this is out by the exact sum too."""


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
def cut(
    scores: Float64s, ids: Int64s, places: Int64s, held: Int64s, bars: Float64s, size: int
) -> None:
    """Cut the lists of all queries to their best `size` images, and set their bars."""
    for query in range(len(held)):
        held[query] = _cut(scores[query], ids[query], places[query], held[query], size)
        if held[query] == size:
            bars[query] = scores[query, :size].min()


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
    bars: Float64s,
    size: int,
) -> None:
    """Keep rows (Q, n) of a segment, -1 for none, with falling scores; their places follow base."""
    for query in range(len(rows)):
        mine, mine_ids, mine_places = scores[query], ids[query], places[query]
        full = held[query]
        for column in range(rows.shape[1]):
            row = rows[query, column]
            if row < 0:
                continue
            score = np.float64(found[query, column])
            if score < bars[query]:
                break
            if full == len(mine):
                full = _cut(mine, mine_ids, mine_places, full, size)
                bars[query] = mine[:full].min()
            mine[full], mine_ids[full], mine_places[full] = score, image_ids[row], base + row
            full += 1
        held[query] = full


@compiled
def keep_sums(
    starts: Int64s,
    words: UInt32s,
    factors: Float32s,
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
    sums: Float32s,
    met: UInt32s,
    scores: Float64s,
    ids: Int64s,
    places: Int64s,
    held: Int64s,
    bars: Float64s,
    size: int,
) -> None:
    """Keep the rows of a segment that stand in some posting lists, by their sums over both norms.

    Only the sums of rows that are met are touched, so the work is that of the lists and not of the
    segment. A row's sum takes its words in rising order, as everywhere.

    Args:
        starts: (Q + 1,) of the chosen words of each query, rising.
        words, factors: (m,) of these; factors are above 0.
        counted: whether a posting counts as often as its count, or once.
        least: the least of the norms (n,) above 0.
        allowed: (n,), or (0,) where all images are.
        sums, met: room for n numbers at least; sums are 0 before and after.
    """
    for query in range(len(query_norms)):
        mine, mine_ids, mine_places = scores[query], ids[query], places[query]
        full, bar = held[query], max(bars[query], 0.0)
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
        for number in range(np.int64(count)):
            row = np.uint64(met[number])
            total = np.float64(sums[row])
            sums[row] = np.float32(0.0)
            # Most rows cannot reach the bar whatever their norm, which need not be read then.
            if total * ROOM < bar * query_norms[query] * least:
                continue
            if len(allowed) > 0 and not allowed[row]:
                continue
            both = query_norms[query] * norms[row]
            score = min(total / (both if both > 0.0 else 1.0), 1.0)
            if score == 0.0 or score < bar:
                continue
            if full == len(mine):
                full = _cut(mine, mine_ids, mine_places, full, size)
                bar = bars[query] = mine[:full].min()
            mine[full], mine_ids[full] = score, image_ids[row]
            mine_places[full] = base + np.int64(row)
            full += 1
        held[query] = full


@compiled
def keep_scored(
    query_of: Int64s,
    image_ids: Int64s,
    found: Float64s,
    numbers: Int64s,
    scores: Float64s,
    ids: Int64s,
    places: Int64s,
    held: Int64s,
    bars: Float64s,
    size: int,
) -> None:
    """Keep scored pairs (m,) of query and image, each with a number that stands for its place."""
    for pair in range(len(query_of)):
        query = query_of[pair]
        if found[pair] < bars[query]:
            continue
        full = held[query]
        if full == scores.shape[1]:
            full = _cut(scores[query], ids[query], places[query], full, size)
            bars[query] = scores[query, :full].min()
        scores[query, full], ids[query, full] = found[pair], image_ids[pair]
        places[query, full] = numbers[pair]
        held[query] = full + 1


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
