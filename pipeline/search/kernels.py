"""The compiled loops of `score`, in one file because they call one another.

`np.int64(turn)`: a parallel index is unsigned, and unsigned plus signed would become a float.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float32s, Float64s, Int64s, UInt32s
from lamella.pipeline.compiled import compiled, compiled_parallel, parallel_range
from lamella.pipeline.search.prefetch import fetch

# Partial sums of a dense product: enough for every width of vector unit, so that the compiler
# can use it without changing the order of a sum.
LANES = 64

TERMS_AHEAD = 8
"""How many words ahead of the sum postings are prefetched."""

PAIRS_AHEAD = 4
"""How many pairs ahead the words of an image are prefetched."""

MARKS = 4_096
"""Entries of a table, a power of two, in which the words of a query are marked by their last bits:
few of it are marked by some hundred words, and it stays in the nearest cache."""

LINES_AHEAD = 5
"""Cache lines of rows to prefetch: 80 postings; a run of a block has 40 to 80."""


@compiled
def cosine(product: float, norm: float, other_norm: float) -> float:
    """Return the product over both norms, clamped to [0, 1]; 0 where a norm is 0.

    Without a branch, so that it vectorises: 0 / 1 is 0 there.
    """
    norms = norm * other_norm
    quotient = product / (norms if norms > 0.0 else 1.0)
    quotient = quotient if quotient > 0.0 else 0.0
    return quotient if quotient < 1.0 else 1.0


@compiled
def dot(left: Float32s, right: Float32s, sums: Float64s) -> float:
    """Return the product of two rows: value j goes to partial sum j % LANES, then a fixed tree."""
    sums[:] = 0.0
    whole = len(left) - len(left) % LANES
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            sums[lane] += np.float64(left[start + lane]) * np.float64(right[start + lane])
    for lane in range(len(left) - whole):
        sums[lane] += np.float64(left[whole + lane]) * np.float64(right[whole + lane])
    width = LANES // 2
    while width > 0:
        for lane in range(width):
            sums[lane] += sums[lane + width]
        width //= 2
    return sums[0]  # type: ignore[no-any-return]


@compiled_parallel
def bag_norms(
    offsets: Int64s, words: UInt32s, counts: UInt32s, weights: Float64s, norms: Float64s
) -> None:
    """Write the norm of each bag."""
    for turn in parallel_range(len(norms)):
        image = np.int64(turn)
        total = 0.0
        for entry in range(offsets[image], offsets[image + 1]):
            value = np.float64(counts[entry]) * weights[words[entry]]
            total += value * value
        norms[image] = np.sqrt(total)


@compiled
def bag_block(
    query_offsets: Int64s,
    cursors: Int64s,
    ends: Int64s,
    factors: Float64s,
    posting_rows: UInt32s,
    posting_counts: NDArray[Any],
    query_norms: Float64s,
    norms: Float64s,
    first: int,
    out: NDArray[Any],
) -> None:
    """Write the cosines of the rows first to first + b, a word at a time in rising order.

    A word's run of postings is short and lies anywhere, so it is prefetched some words ahead.
    """
    last = first + out.shape[1]
    base = np.uint64(first)
    sums = np.empty(out.shape[1])
    for query in range(len(query_norms)):
        sums[:] = 0.0
        for term in range(query_offsets[query], query_offsets[query + 1]):
            ahead = cursors[min(term + TERMS_AHEAD, len(cursors) - 1)]
            for line in range(LINES_AHEAD):
                fetch(posting_rows, ahead + 16 * line)
            fetch(posting_counts, ahead)
            fetch(posting_counts, ahead + 64)
            entry, end, factor = cursors[term], ends[term], factors[term]
            # No search for the end of the run: its probes would miss the caches all over the list.
            while entry < end and np.int64(posting_rows[entry]) < last:
                # Unsigned, so that no index counts from the end.
                place = np.uint64(posting_rows[entry]) - base
                sums[place] += factor * np.float64(np.int64(posting_counts[entry]))
                entry += 1
            cursors[term] = entry
        norm, line_out = query_norms[query], out[query]
        for row in range(len(sums)):
            line_out[row] = cosine(sums[row], norm, norms[row])


FOLDED_TERMS_AHEAD, FOLDED_LINES_AHEAD = 16, 8
"""The same for folded postings, of which a cache line has 16. A pair of query and picture took 2.3
ns (2.8 with 8 and 5), and 3.6 by `bag_block`: 200,000 drawn pictures, 1.07 postings a pair."""


@compiled
def folded_block(
    query_offsets: Int64s,
    cursors: Int64s,
    ends: Int64s,
    factors: Float64s,
    folded: UInt32s,
    count_bits: int,
    inverse_norms: Float64s,
    first: int,
    out: Float32s,
) -> None:
    """Write the cosines of a block as `bag_block` does, but for rounding, from folded postings.

    Args:
        factors: (m,) over the norm of the query.
        folded: (p,) row << count_bits | count; see `index.postings.fold`.
        inverse_norms: (n,) of the images; 0 for an empty bag.
    """
    shift, mask = np.uint64(count_bits), np.uint64((1 << count_bits) - 1)
    base = np.uint64(first)
    stop = (base + np.uint64(out.shape[1])) << shift
    sums = np.empty(out.shape[1])
    for query in range(len(query_offsets) - 1):
        sums[:] = 0.0
        for term in range(query_offsets[query], query_offsets[query + 1]):
            ahead = cursors[min(term + FOLDED_TERMS_AHEAD, len(cursors) - 1)]
            for line in range(FOLDED_LINES_AHEAD):
                fetch(folded, ahead + 16 * line)
            entry, end, factor = cursors[term], ends[term], factors[term]
            while entry < end:
                posting = np.uint64(folded[np.uint64(entry)])
                if posting >= stop:
                    break
                count = np.float64(np.int32(posting & mask))
                sums[(posting >> shift) - base] += factor * count
                entry += 1
            cursors[term] = entry
        line_out = out[query]
        for row in range(len(sums)):
            line_out[row] = min(sums[row] * inverse_norms[first + row], 1.0)


@compiled
def bag_pairs_of(
    first: int | np.int64,
    stop: int | np.int64,
    query_offsets: Int64s,
    query_words: UInt32s,
    query_counts: UInt32s,
    pair_offsets: Int64s,
    pair_rows: Int64s,
    offsets: Int64s,
    words: UInt32s,
    counts: UInt32s,
    weights: Float64s,
    query_norms: Float64s,
    norms: Float64s,
    out: Float64s,
) -> None:
    """Write the cosine of each pair of some queries, common words in rising order.

    Most words of an image are not in the query. A small table of the query's words says so without
    a branch that cannot be foreseen, of which a merge of both bags has one a word.
    """
    final = len(pair_rows) - 1
    marks = np.zeros(MARKS, np.bool_)
    for query in range(first, stop):
        start, last = query_offsets[query], query_offsets[query + 1]
        for term in range(start, last):
            marks[query_words[term] & (MARKS - 1)] = True
        for pair in range(pair_offsets[query], pair_offsets[query + 1]):
            # Rows lie anywhere: what comes next is fetched meanwhile.
            fetch(offsets, pair_rows[min(pair + 2 * PAIRS_AHEAD, final)])
            ahead = offsets[pair_rows[min(pair + PAIRS_AHEAD, final)]]
            for line in range(LINES_AHEAD):
                fetch(words, ahead + 16 * line)
                fetch(counts, ahead + 16 * line)
            row = pair_rows[pair]
            total, term = 0.0, start
            for entry in range(offsets[row], offsets[row + 1]):
                word = words[entry]
                if not marks[word & (MARKS - 1)]:
                    continue
                while term < last and query_words[term] < word:
                    term += 1
                if term < last and query_words[term] == word:
                    factor = np.float64(query_counts[term]) * weights[word] * weights[word]
                    total += factor * np.float64(counts[entry])
            out[pair] = cosine(total, query_norms[query], norms[row])
        for term in range(start, last):
            marks[query_words[term] & (MARKS - 1)] = False


@compiled_parallel
def bag_pairs(
    query_offsets: Int64s,
    query_words: UInt32s,
    query_counts: UInt32s,
    pair_offsets: Int64s,
    pair_rows: Int64s,
    offsets: Int64s,
    words: UInt32s,
    counts: UInt32s,
    weights: Float64s,
    query_norms: Float64s,
    norms: Float64s,
    out: Float64s,
) -> None:
    """Write the cosine of each pair of all queries."""
    for turn in parallel_range(len(query_norms)):
        query = np.int64(turn)
        bag_pairs_of(
            query, query + 1, query_offsets, query_words, query_counts, pair_offsets, pair_rows,
            offsets, words, counts, weights, query_norms, norms, out,
        )  # fmt: skip


@compiled_parallel
def dense_norms(vectors: Float32s, norms: Float64s) -> None:
    """Write the norm of each vector."""
    for turn in parallel_range(len(norms)):
        row = np.int64(turn)
        norms[row] = np.sqrt(dot(vectors[row], vectors[row], np.empty(LANES)))


@compiled
def dense_pairs_of(
    first: int | np.int64,
    stop: int | np.int64,
    queries: Float32s,
    pair_offsets: Int64s,
    pair_rows: Int64s,
    vectors: Float32s,
    query_norms: Float64s,
    norms: Float64s,
    out: Float64s,
) -> None:
    """Write the cosine of each pair of a vector and one of some queries."""
    sums = np.empty(LANES)
    flat, width, final = vectors.reshape(-1), vectors.shape[1], len(pair_rows) - 1
    for query in range(first, stop):
        for pair in range(pair_offsets[query], pair_offsets[query + 1]):
            ahead = pair_rows[min(pair + 1, final)] * width
            for line in range((width + 15) // 16):
                fetch(flat, ahead + 16 * line)
            row = pair_rows[pair]
            product = dot(queries[query], vectors[row], sums)
            out[pair] = cosine(product, query_norms[query], norms[row])


@compiled_parallel
def dense_pairs(
    queries: Float32s,
    pair_offsets: Int64s,
    pair_rows: Int64s,
    vectors: Float32s,
    query_norms: Float64s,
    norms: Float64s,
    out: Float64s,
) -> None:
    """Write the cosine of each pair of a vector and any query."""
    for turn in parallel_range(len(query_norms)):
        query = np.int64(turn)
        dense_pairs_of(
            query, query + 1, queries, pair_offsets, pair_rows, vectors, query_norms, norms, out
        )
