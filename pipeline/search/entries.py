"""Enter posting lists at a row."""

import numpy as np

from lamella.pipeline.arrays import Int64s, UInt32s
from lamella.pipeline.compiled import compiled
from lamella.pipeline.index.postings import Postings
from lamella.pipeline.search.prefetch import fetch

TERMS_AHEAD = 8
"""How many words ahead their lists are prefetched."""


def entries_from(postings: Postings, words: UInt32s, row: int, images: int) -> Int64s:
    """Return where the list of each word comes to a row or goes past it, (m,) int64.

    Args:
        words: (m,), each in the vocabulary.
        row: at least 0.
        images: of the segment; a guess where rows lie evenly begins with it.
    """
    entries, ends = postings.offsets[:-1][words], postings.offsets[1:][words]
    if row > 0:
        guesses = entries + (ends - entries) * row // max(images, row)
        _go_to(postings.rows, guesses, entries, ends, row)
    return entries


@compiled
def _go_to(rows: UInt32s, guesses: Int64s, entries: Int64s, ends: Int64s, row: int) -> None:
    """Move each entry to the first one of a row or a later one.

    Steps from the guess double; halving finds the place between the last two. Mostly that is a line
    of the cache away.
    """
    for term in range(len(entries)):
        fetch(rows, guesses[min(term + TERMS_AHEAD, len(entries) - 1)])
        low, high = entries[term], ends[term]
        place = min(guesses[term], high - 1)
        step = np.int64(1)
        if low < high and np.int64(rows[place]) < row:
            low = place + 1
            while low + step < high and np.int64(rows[low + step]) < row:
                low += step + 1
                step *= 2
            high = min(low + step, high)
        elif low < high:
            high = place
            while high - step > low and np.int64(rows[high - step]) >= row:
                high -= step
                step *= 2
            low = max(high - step, low)
        while low < high:
            middle = (low + high) // 2
            if np.int64(rows[middle]) < row:
                low = middle + 1
            else:
                high = middle
        entries[term] = low
