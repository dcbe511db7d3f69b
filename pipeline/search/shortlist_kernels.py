"""The compiled loops that keep the best proposed images of each query.

A list holds the images of one query in any order, with room for twice as many as are kept. Once it
is full it is cut to the best: by score, falling, then by id, rising. So what is kept does not
depend on the order in which images come, and most images cost one comparison.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Bools, Float32s, Float64s, Int32s, Int64s, UInt32s
from lamella.pipeline.compiled import compiled
from lamella.pipeline.search.prefetch import fetch

Kept = tuple[Float64s, Int64s, Int64s, Int64s, Float64s, int]
"""The arrays of a `Shortlist`: scores, ids, places, held, bars and size."""

BINS = 1_024
"""Bins that the scores of a full list are counted in."""

LEAST = 1e-30
"""Above 0, and below any sum of postings over both norms."""

NEARLY = 0.999
"""Of a bar, so that rounding to float32 hides no row."""

TERMS_AHEAD = 4
"""How many words ahead of the sum the beginnings of posting lists are prefetched."""


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
def _thin(scores: Float64s, ids: Int64s, places: Int64s, held: int, size: int, bins: Int32s) -> int:
    """Cut a full list to its best `size` images and some more; return how many it holds then.

    Scores are counted in bins of equal width: those from the bin that holds the last of the best
    on are kept. It takes a third of the time of `_cut`, which comes where they are too many.
    """
    low, high = scores[0], scores[0]
    for number in range(held):
        low, high = min(low, scores[number]), max(high, scores[number])
    if not low < high:
        return _cut(scores, ids, places, held, size)
    scale = (len(bins) - 1) / (high - low)
    bins[:] = 0
    for number in range(held):
        bins[np.int64((scores[number] - low) * scale)] += 1
    bound, count = len(bins), 0
    while count < size:
        bound -= 1
        count += bins[bound]
    if count > size + size // 2:
        return _cut(scores, ids, places, held, size)
    there = 0
    for number in range(held):
        kept = np.int64((scores[number] - low) * scale) >= bound
        # Without a branch: which are kept is hard to predict.
        scores[there], ids[there], places[there] = scores[number], ids[number], places[number]
        there += int(kept)
    return there


@compiled
def _at(table: Float64s, value: float | np.float64) -> float:
    """Return what a table of even steps over [0, 1] has at a value, between its entries linear."""
    place = min(max(value, 0.0), 1.0) * (len(table) - 1)
    entry = min(int(place), len(table) - 2)
    return table[entry] + (place - entry) * (table[entry + 1] - table[entry])  # type: ignore[no-any-return]


@compiled
def _put(
    found: Float64s,
    rows: UInt32s,
    count: np.uint64,
    scores: Float64s,
    ids: Int64s,
    places: Int64s,
    held: int | np.int64,
    bar: float | np.float64,
    size: int,
    image_ids: Int64s,
    base: int,
    bins: Int32s,
) -> tuple[int, float]:
    """Put images into the list of one query, which is cut when it is full.

    Returns how many it then holds, and the bar. It takes arrays and not the tuple of a list:
    counting references to these would take longer than all else.
    """
    full, least = int(held), float(bar)
    for number in range(np.int64(count)):
        score = found[number]
        if score >= least:
            if full == len(scores):
                full = _thin(scores, ids, places, full, size, bins)
                least = float(scores[:full].min())
            row = np.int64(rows[number])
            scores[full], ids[full], places[full] = score, image_ids[row], base + row
            full += 1
    return full, least


@compiled
def keep_known(
    looked: tuple[Int64s, Int64s, Float32s],
    directed: Bools,
    near_table: Float64s,
    near: Kept,
    terms: tuple[Int64s, UInt32s, Float32s, Float64s],
    postings: tuple[Int64s, UInt32s, int, NDArray[Any]],
    inverse_norms: Float32s,
    greatest: float,
    own_table: Float64s,
    own: Kept,
    drain: bool,
    allowed: Bools,
    image_ids: Int64s,
    base: int,
    room: tuple[Float32s, UInt32s, UInt32s, UInt32s, Float64s],
) -> None:
    """Keep the images that a dense layer looked at, and others that stand in some posting lists.

    Those that were looked at are ranked by what is known of both layers, the others by the sum of
    their postings over both norms, which is a lower bound of their cosine. Only the sums of rows
    that are met are touched, so the work is that of the lists and not of the segment; and only rows
    whose sum comes to pass the bar, were their norm the least of all, are looked at again. A row's
    sum takes its words in rising order, as everywhere.

    Args:
        looked: offsets (Q + 1,), rows (m,) and scores (m,) of the dense layer.
        directed: (Q,) which queries have a direction in it; of others no row is kept.
        near_table, own_table: the map of each layer times its weight, at even steps over [0, 1].
        near, own: written: the lists of the dense and of the local layer.
        terms: starts (Q + 1,) of the chosen words of each query, words (w,), rising, their factors
            (w,), above 0, and the norms (Q,) of the whole queries.
        postings: offsets (K + 1,), entries, bits and counts, see `heavy_words.Lists`.
        inverse_norms: (n,), 0 for an empty bag.
        greatest: of these.
        drain: whether rows that were not looked at are kept too.
        allowed: (n,), or (0,) where all images are.
        room: sums (n,), 0 before and after, and room for rows (n + 1,) that were met, whose sum
            passes the bar, and that are kept, and for their scores (n + 1,).
    """
    offsets, rows, found = looked
    starts, words, factors, query_norms = terms
    list_offsets, entries, bits, counts = postings
    shift, mask = np.uint64(bits), np.uint64((1 << bits) - 1)
    sums, met, over, passed, scores = room
    bins = np.empty(BINS, np.int32)
    final = len(words) - 1
    for query in range(len(offsets) - 1):
        count = above = np.uint64(0)
        norm = query_norms[query]
        inverse = np.float32(1.0 / norm) if norm > 0.0 else np.float32(0.0)
        bar = max(own[4][query], LEAST)
        enough = np.float32(bar / greatest * NEARLY)
        for term in range(starts[query], starts[query + 1]):
            ahead = list_offsets[words[min(term + TERMS_AHEAD, final)]]
            fetch(entries, ahead)
            fetch(entries, ahead + 16)
            factor = factors[term] * inverse
            for entry in range(list_offsets[words[term]], list_offsets[words[term] + 1]):
                posting = np.uint64(entries[entry])
                row, times = posting >> shift, np.int32(1)
                if bits > 0:
                    times = np.int32(posting & mask)
                elif len(counts) > 0:
                    times = np.int32(counts[entry])
                before = sums[row]
                after = before + factor * np.float32(times)
                sums[row] = after
                # Without a branch: whether a row was met before is hard to predict.
                met[count] = over[above] = row
                count += np.uint64(before == np.float32(0.0))
                above += np.uint64((before < enough) & (after >= enough))
        # What passes the bar is collected first, again without a branch.
        last = offsets[query + 1] if directed[query] else offsets[query]
        kept, least = np.uint64(0), near[4][query]
        for entry in range(offsets[query], last):
            row = np.uint64(rows[entry])
            score = _at(near_table, np.float64(found[entry]))
            if sums[row] > np.float32(0.0):
                share = np.float64(min(sums[row] * inverse_norms[row], np.float32(1.0)))
                sums[row] = np.float32(0.0)
                score += _at(own_table, share)
            passed[kept], scores[kept] = row, score
            kept += np.uint64(score >= least)
        near[3][query], near[4][query] = _put(
            scores, passed, kept, near[0][query], near[1][query], near[2][query],
            near[3][query], near[4][query], near[5], image_ids, base, bins,
        )  # fmt: skip
        kept = np.uint64(0)
        for number in range(np.int64(above) if drain else 0):
            row = np.uint64(over[number])
            share = np.float64(min(sums[row] * inverse_norms[row], np.float32(1.0)))
            passed[kept], scores[kept] = row, share
            kept += np.uint64(share >= bar and (len(allowed) == 0 or allowed[row]))
        own[3][query], own[4][query] = _put(
            scores, passed, kept, own[0][query], own[1][query], own[2][query],
            own[3][query], own[4][query], own[5], image_ids, base, bins,
        )  # fmt: skip
        for number in range(np.int64(count)):
            sums[met[number]] = np.float32(0.0)


@compiled
def keep_scored(query_of: Int64s, image_ids: Int64s, found: Float64s, into: Kept) -> None:
    """Keep pairs (m,) of query and image by a number each; places are the numbers of the pairs."""
    scores, ids, places, held, bars, size = into
    for pair in range(len(query_of)):
        query = query_of[pair]
        if found[pair] >= bars[query]:
            full = held[query]
            if full == scores.shape[1]:
                full = _cut(scores[query], ids[query], places[query], full, size)
                bars[query] = scores[query, :full].min()
            scores[query, full], ids[query, full] = found[pair], image_ids[pair]
            places[query, full] = pair
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
