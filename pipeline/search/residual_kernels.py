"""The compiled loops of `residual_score`, in one file because they call one another.

Residuals come as they are stored: the bits of float16 numbers as uint16 (m, D), or, with `signs`
set, signs as uint8 (m, ceil(D / 8)) or as uint64 (m, D / 64).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float32s, Float64s, Int32s, Int64s, UInt32s
from lamella.pipeline.compiled import compiled, compiled_parallel, parallel_range
from lamella.pipeline.search.popcount import ones_in
from lamella.pipeline.search.prefetch import fetch
from lamella.pipeline.vocabulary.ivf_kernels import proposing

HALF_SCALE = 2.0**112
"""The bits of a float16, shifted into place, are a float32 that is this many times too small."""

TERMS_AHEAD = 4
"""How many words ahead of the sum postings and residuals are prefetched."""

LINES_AHEAD = 4
"""Cache lines of residuals to prefetch; what follows is read in order."""


@proposing
def product(
    left: NDArray[Any], one: int, right: NDArray[Any], other: int, dimensions: int, signs: bool
) -> float:
    """Return the product of two residuals, rounded once at most: any order of the sum is the same.

    Products of float16 numbers are whole multiples of 2**-48. Their sums are at most 1.002 in
    size, by Cauchy and Schwarz, so each is a whole number below 2**49 of these: exact in float64.
    With signs it is (D - 2 hamming) / D.

    Args:
        left, right: residuals, of which rows `one` and `other` are multiplied. A row that is taken
            out first costs more than the product.
    """
    if signs:
        apart = np.int64(0)
        for place in range(left.shape[1]):
            apart += np.int64(ones_in(left[one, place] ^ right[other, place]))
        return np.float64(dimensions - 2 * apart) / np.float64(dimensions)
    total = 0.0
    for axis in range(left.shape[1]):
        mine, yours = np.uint32(left[one, axis]), np.uint32(right[other, axis])
        near = np.uint32(
            (mine & np.uint32(0x7FFF)) << np.uint32(13)
            | (mine & np.uint32(0x8000)) << np.uint32(16)
        )
        far = np.uint32(
            (yours & np.uint32(0x7FFF)) << np.uint32(13)
            | (yours & np.uint32(0x8000)) << np.uint32(16)
        )
        total += np.float64(near.view(np.float32)) * np.float64(far.view(np.float32))
    return total * (HALF_SCALE * HALF_SCALE)


@compiled
def cubed(product: float) -> float:
    """Return max(0, product) ** 3."""
    positive = product if product > 0.0 else 0.0
    return positive * positive * positive


@compiled
def similarity(total: float, words: int, other_words: int) -> float:
    """Return the sum over the root of both numbers of words, at most 1; 0 where one is 0."""
    both = np.float64(words * other_words)
    quotient = total / np.sqrt(both if both > 0.0 else 1.0)
    return quotient if quotient < 1.0 else 1.0


@compiled
def place_of(rows: UInt32s, first: int, end: int, row: int) -> int:
    """Return where a row is in the part of a posting list from `first` to `end`, -1 if nowhere."""
    low, high = first, end
    while low < high:
        middle = (low + high) // 2
        if np.int64(rows[middle]) < row:
            low = middle + 1
        else:
            high = middle
    return low if low < end and np.int64(rows[low]) == row else -1


@compiled
def pairs_of(
    first_query: int | np.int64,
    stop_query: int | np.int64,
    query_offsets: Int64s,
    query_words: UInt32s,
    asked: NDArray[Any],
    pair_offsets: Int64s,
    pair_rows: Int64s,
    offsets: Int64s,
    words: UInt32s,
    posting_offsets: Int64s,
    posting_rows: UInt32s,
    payload: NDArray[Any],
    dimensions: int,
    signs: bool,
    out: Float64s,
) -> None:
    """Write the similarity of each pair of some queries, as a merge of bags in order of words."""
    for query in range(first_query, stop_query):
        start, stop = query_offsets[query], query_offsets[query + 1]
        for pair in range(pair_offsets[query], pair_offsets[query + 1]):
            row = pair_rows[pair]
            entry, end = offsets[row], offsets[row + 1]
            held = end - entry
            total = 0.0
            for term in range(start, stop):
                word = query_words[term]
                while entry < end and words[entry] < word:
                    entry += 1
                if entry < end and words[entry] == word:
                    first, last = posting_offsets[word], posting_offsets[word + 1]
                    place = place_of(posting_rows, first, last, row)
                    if place >= 0:
                        total += cubed(product(asked, term, payload, place, dimensions, signs))
            out[pair] = similarity(total, stop - start, held)


@compiled_parallel
def pairs(
    query_offsets: Int64s,
    query_words: UInt32s,
    asked: NDArray[Any],
    pair_offsets: Int64s,
    pair_rows: Int64s,
    offsets: Int64s,
    words: UInt32s,
    posting_offsets: Int64s,
    posting_rows: UInt32s,
    payload: NDArray[Any],
    dimensions: int,
    signs: bool,
    out: Float64s,
) -> None:
    """Write the similarity of each pair of all queries."""
    for turn in parallel_range(len(query_offsets) - 1):
        query = np.int64(turn)
        pairs_of(
            query, query + 1, query_offsets, query_words, asked, pair_offsets, pair_rows, offsets,
            words, posting_offsets, posting_rows, payload, dimensions, signs, out,
        )  # fmt: skip


@compiled_parallel
def every(
    query_offsets: Int64s,
    query_words: UInt32s,
    asked: NDArray[Any],
    sizes: Int64s,
    posting_offsets: Int64s,
    posting_rows: UInt32s,
    payload: NDArray[Any],
    dimensions: int,
    signs: bool,
    out: Float64s,
) -> None:
    """Write all similarities (Q, n), a word at a time in rising order; sizes (n,) are of bags."""
    for turn in parallel_range(len(query_offsets) - 1):
        query = np.int64(turn)
        start, stop = query_offsets[query], query_offsets[query + 1]
        line = out[query]
        line[:] = 0.0
        for term in range(start, stop):
            word = query_words[term]
            for place in range(posting_offsets[word], posting_offsets[word + 1]):
                found = product(asked, term, payload, place, dimensions, signs)
                line[posting_rows[place]] += cubed(found)
        for row in range(len(sizes)):
            line[row] = similarity(line[row], stop - start, sizes[row])


@compiled
def count_common(
    starts: Int64s,
    cursors: Int64s,
    ends: Int64s,
    query_of: Int64s,
    posting_rows: UInt32s,
    roots: Float32s,
    query_roots: Float32s,
    first: int,
    out: Float32s,
) -> None:
    """Write what the words in common allow the rows first to first + b; see `scan`.

    No product is above 1.002, so S is at most 1.007 times their number over the roots.
    """
    last = first + out.shape[1]
    out[:] = np.float32(0.0)
    for term in range(len(cursors)):
        fetch(posting_rows, cursors[min(term + TERMS_AHEAD, len(cursors) - 1)])
        entry, end = cursors[term], ends[term]
        while entry < end and np.int64(posting_rows[entry]) < last:
            row = np.int64(posting_rows[entry]) - first
            for place in range(starts[term], starts[term + 1]):
                out[query_of[place], row] += np.float32(1.0)
            entry += 1
    for query in range(len(out)):
        line, root = out[query], np.float32(1.007) * query_roots[query]
        for image in range(len(line)):
            line[image] = min(line[image] * (root * roots[first + image]), np.float32(1.0))


@compiled
def choose(out: Float32s, rows: Int32s, kept: Int64s) -> None:
    """Have `scan` read the residuals of chosen rows alone: 0 there, -1 elsewhere, (Q, b)."""
    out[:] = np.float32(-1.0)
    for query in range(len(kept)):
        for place in range(kept[query]):
            out[query, rows[query, place]] = np.float32(0.0)


@proposing
def scan(
    starts: Int64s,
    cursors: Int64s,
    ends: Int64s,
    query_of: Int64s,
    asked: NDArray[Any],
    posting_rows: UInt32s,
    payload: NDArray[Any],
    dimensions: int,
    signs: bool,
    roots: Float32s,
    query_roots: Float32s,
    error: np.float32,
    lifts: Float32s,
    first: int,
    out: Float32s,
) -> tuple[int, int]:
    """Write upper bounds of the similarities of rows first to first + b.

    A word at a time: its residuals are read once for all queries that hold it. Pairs whose value is
    below 0 are passed over. Sums are of float32, in any order. All is one loop: a call would cost
    more than a product.

    Returns:
        How many pairs of one word in both there are, and how many were multiplied.

    Args:
        starts: (u + 1,) of the queries of each of u words in `query_of` and `asked`.
        cursors, ends: (u,) of the words' posting lists; cursors are moved past the block.
        query_of: (m,) rising for a word.
        asked: (m, width) signs as those of the payload, or the bits as uint32 of float32 numbers
            times `HALF_SCALE`.
        roots: (n,) 1 over the root of an image's number of words.
        query_roots: (Q,) the same of queries.
        error: what a product may be below the true one.
        lifts: (Q,) 1 and the relative error of a sum.
        out: (Q, b) 0 or below; written.
    """
    last = first + out.shape[1]
    flat = payload.reshape(-1)
    common, taken = 0, 0
    for term in range(len(cursors)):
        ahead = cursors[min(term + TERMS_AHEAD, len(cursors) - 1)]
        fetch(posting_rows, ahead)
        for part in range(LINES_AHEAD):
            fetch(flat, ahead * payload.shape[1] + part * 64 // payload.itemsize)
        entry, end = cursors[term], ends[term]
        while entry < end and np.int64(posting_rows[entry]) < last:
            row = np.int64(posting_rows[entry]) - first
            for place in range(starts[term], starts[term + 1]):
                query = query_of[place]
                if out[query, row] >= np.float32(0.0):
                    found = np.float32(0.0)
                    if signs:
                        apart = np.int64(0)
                        for part in range(payload.shape[1]):
                            apart += np.int64(ones_in(payload[entry, part] ^ asked[place, part]))
                        found = np.float32((dimensions - 2 * apart) / np.float64(dimensions))
                    else:
                        for axis in range(payload.shape[1]):
                            half = np.uint32(payload[entry, axis])
                            wide = np.uint32(
                                (half & np.uint32(0x7FFF)) << np.uint32(13)
                                | (half & np.uint32(0x8000)) << np.uint32(16)
                            )
                            theirs = np.uint32(asked[place, axis]).view(np.float32)
                            found += wide.view(np.float32) * theirs
                    least = max(found + error, np.float32(0.0))
                    out[query, row] += least * least * least
                    taken += 1
            entry += 1
        common += (entry - cursors[term]) * (starts[term + 1] - starts[term])
        cursors[term] = entry
    for asker in range(len(out)):
        line, root = out[asker], query_roots[asker] * lifts[asker]
        for image in range(len(line)):
            line[image] = min(line[image] * (root * roots[first + image]), np.float32(1.0))
    return common, taken
