"""Compiled loops that compare rows with lists of words.

A float32 product, added in any order, finds the words that may be nearest within its rounding
error, and float64 decides among them. So blocks, threads and the order of sums change no answer.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from lamella.pipeline.arrays import Float32s, Float64s, Int64s, UInt32s
from lamella.pipeline.compiled import P, R, cached, compiled


def proposing(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function compiled so that its sums may be added in any order.

    Only for products whose error `error_bounds` covers for any order, and where float64 decides.
    """
    return cached(function, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"})


@proposing
def widen(halves: npt.NDArray[np.uint16], rows: Int64s) -> Float32s:
    """Return some rows of finite float16 numbers, given by their bits (n, D), as float32.

    Shifted into place, the bits of a float16 are a float32 that is 2**112 times too small.
    Ten times faster than NumPy's conversion, which goes number by number.
    """
    bits = np.empty((rows.shape[0], halves.shape[1]), np.uint32)
    wide = bits.view(np.float32)
    scale = np.float32(2.0**112)
    for row in range(rows.shape[0]):
        source = halves[rows[row]]
        for axis in range(halves.shape[1]):
            half = np.uint32(source[axis])
            bits[row, axis] = (half & np.uint32(0x7FFF)) << np.uint32(13) | (
                half & np.uint32(0x8000)
            ) << np.uint32(16)
        for axis in range(halves.shape[1]):
            wide[row, axis] *= scale
    return wide


@compiled
def squared_norms_of_bits(halves: npt.NDArray[np.uint16]) -> Float64s:
    """Return the squared norms of float16 numbers given by their bits, (n,); infinity and
    not-a-number come out as infinity.
    """
    norms = np.zeros(halves.shape[0], np.float64)
    bits = np.empty(halves.shape[1], np.uint32)
    wide = bits.view(np.float32)
    for row in range(halves.shape[0]):
        for axis in range(halves.shape[1]):
            bits[axis] = (np.uint32(halves[row, axis]) & np.uint32(0x7FFF)) << np.uint32(13)
        for axis in range(halves.shape[1]):
            value = np.float64(wide[axis]) * 2.0**112
            # From 2**16 on the exponent is that of infinity and not-a-number in float16.
            norms[row] += value * value if value < 65536.0 else np.inf
    return norms


@proposing
def _products_of_four(
    first: Float32s,
    second: Float32s,
    third: Float32s,
    fourth: Float32s,
    word: Float32s,
    products: Float32s,
) -> None:
    """Write the products of four rows with one word: the word is read once for all of them."""
    one = two = three = four = np.float32(0)
    for axis in range(word.shape[0]):
        value = word[axis]
        one += first[axis] * value
        two += second[axis] * value
        three += third[axis] * value
        four += fourth[axis] * value
    products[0] = one
    products[1] = two
    products[2] = three
    products[3] = four


@compiled
def _squared_distance(left: Float32s, right: Float32s) -> float:
    """As `compare.squared_distance`, repeated here so that numba's cache tracks it."""
    total = 0.0
    for axis in range(left.shape[0]):
        difference = np.float64(left[axis]) - np.float64(right[axis])
        total += difference * difference
    return total


@compiled
def nearest_in_lists(
    rows: Float32s,
    squared_norms: Float64s,
    windows: Float64s,
    order: Int64s,
    starts: Int64s,
    lists: Int64s,
    offsets: Int64s,
    members: UInt32s,
    centroids: Float32s,
    half_norms: Float32s,
    words: UInt32s,
    distances: Float64s,
) -> None:
    """Set each row's word to the nearest of its current one and the lists of its groups.

    Args:
        rows: (n, D); squared_norms, windows: (n,), of `error_bounds`, twice the error.
        order, starts: rows order[starts[g]:starts[g + 1]] are group g; a row may be in several.
        lists: (G,) the list of each group.
        offsets, members: list l holds the words members[offsets[l]:offsets[l + 1]].
        centroids, half_norms: (K, D) and (K,).
        words, distances: (n,) the current words and their distances, infinity for none; written.
    """
    longest = 0
    for group in range(lists.shape[0]):
        longest = max(longest, offsets[lists[group] + 1] - offsets[lists[group]])
    room = np.empty((4, longest), np.float32)
    four = np.empty(4, np.float32)
    for group in range(lists.shape[0]):
        low, high = offsets[lists[group]], offsets[lists[group] + 1]
        for start in range(starts[group], starts[group + 1], 4):
            many = min(4, starts[group + 1] - start)
            first = order[start]
            second = order[start + min(1, many - 1)]
            third = order[start + min(2, many - 1)]
            fourth = order[start + min(3, many - 1)]
            for entry in range(low, high):
                word = members[entry]
                _products_of_four(
                    rows[first], rows[second], rows[third], rows[fourth], centroids[word], four
                )
                for place in range(4):
                    room[place, entry - low] = half_norms[word] - four[place]
            for place in range(many):
                row = order[start + place]
                least = np.inf
                for entry in range(high - low):
                    least = min(least, room[place, entry])
                # |x - c|^2 = |x|^2 + 2 (|c|^2 / 2 - x.c), so the current distance is comparable.
                least = min(least, (distances[row] - squared_norms[row]) / 2)
                limit = least + windows[row]
                for entry in range(high - low):
                    if room[place, entry] <= limit:
                        word = members[low + entry]
                        distance = _squared_distance(rows[row], centroids[word])
                        if distance < distances[row] or (
                            distance == distances[row] and word < words[row]
                        ):
                            distances[row] = distance
                            words[row] = word


@compiled
def select_nearest(
    rows: Float32s,
    products: Float32s,
    half_norms: Float32s,
    windows: Float64s,
    candidates: UInt32s,
    centroids: Float32s,
    count: int,
) -> UInt32s:
    """Return the `count` nearest candidates of each row, (n, count), rising; the lowest of equals.

    Args:
        rows: (n, D); products: (n, m) with the candidates; windows: (n,).
        half_norms: (m,) of the candidates, rising (m,) rows of centroids (K, D).
        count: from 1 to m.
    """
    found = np.empty((rows.shape[0], count), np.uint32)
    best = np.empty(count, np.float32)
    for row in range(rows.shape[0]):
        best[:] = np.inf
        for entry in range(candidates.shape[0]):
            value = half_norms[entry] - products[row, entry]
            if value < best[count - 1]:
                place = count - 1
                while place > 0 and best[place - 1] > value:
                    best[place] = best[place - 1]
                    place -= 1
                best[place] = value
        low = best[count - 1] - windows[row]
        high = best[count - 1] + windows[row]
        sure = 0
        doubtful = 0
        for entry in range(candidates.shape[0]):
            value = half_norms[entry] - products[row, entry]
            sure += value < low
            doubtful += low <= value <= high
        needed = count - sure
        distances = np.empty(doubtful, np.float64)
        taken = np.ones(doubtful, np.bool_)
        if doubtful > needed:
            taken[:] = False
            seen = 0
            for entry in range(candidates.shape[0]):
                if low <= half_norms[entry] - products[row, entry] <= high:
                    distances[seen] = _squared_distance(rows[row], centroids[candidates[entry]])
                    seen += 1
            for _ in range(needed):
                nearest = -1
                for place in range(doubtful):
                    if not taken[place] and (nearest < 0 or distances[place] < distances[nearest]):
                        nearest = place
                taken[nearest] = True
        place = seen = 0
        for entry in range(candidates.shape[0]):
            value = half_norms[entry] - products[row, entry]
            keep = value < low
            if low <= value <= high:
                keep = taken[seen]
                seen += 1
            if keep:
                found[row, place] = candidates[entry]
                place += 1
    return found


@proposing
def _product(row: Float32s, word: Float32s) -> float:
    """Return the product of a row with a word."""
    total = np.float32(0)
    for axis in range(word.shape[0]):
        total += row[axis] * word[axis]
    return total  # type: ignore[return-value]


@compiled
def nearest_in_cells(
    rows: Float32s,
    windows: Float64s,
    probed: UInt32s,
    offsets: Int64s,
    members: UInt32s,
    near: UInt32s,
    centroids: Float32s,
    half_norms: Float32s,
    count: int,
) -> UInt32s:
    """Return the `count` nearest words of each row among some, (n, count), rising.

    A row of zeros stands for a row with fewer words to choose from.

    Args:
        rows: (n, D); windows: (n,).
        probed: (n, P) the cells of each row.
        offsets, members: cell c holds the words members[offsets[c]:offsets[c + 1]].
        near: (n, m) more words of each row.
        centroids, half_norms: (K, D) and (K,).
    """
    found = np.zeros((rows.shape[0], count), np.uint32)
    for row in range(rows.shape[0]):
        total = near.shape[1]
        for cell in probed[row]:
            total += offsets[cell + 1] - offsets[cell]
        every = np.empty(total, np.uint32)
        every[: near.shape[1]] = near[row]
        place = near.shape[1]
        for cell in probed[row]:
            for entry in range(offsets[cell], offsets[cell + 1]):
                every[place] = members[entry]
                place += 1
        candidates = np.unique(every)
        if candidates.shape[0] < count:
            continue
        halves = np.empty(candidates.shape[0], np.float32)
        products = np.empty((1, candidates.shape[0]), np.float32)
        for entry in range(candidates.shape[0]):
            word = candidates[entry]
            halves[entry] = half_norms[word]
            products[0, entry] = _product(rows[row], centroids[word])
        one = slice(row, row + 1)
        found[row] = select_nearest(
            rows[one], products, halves, windows[one], candidates, centroids, count
        )[0]
    return found


@compiled
def nearest_among(
    rows: Float32s, offsets: Int64s, proposed: UInt32s, centroids: Float32s, count: int
) -> UInt32s:
    """Return the `count` nearest of each row's proposed words, (n, count), rising; in float64.

    Args:
        rows: (n, D).
        offsets, proposed: row r has the words proposed[offsets[r]:offsets[r + 1]], rising, `count`
            at least.
    """
    found = np.empty((rows.shape[0], count), np.uint32)
    for row in range(rows.shape[0]):
        words = proposed[offsets[row] : offsets[row + 1]]
        distances = np.empty(words.shape[0], np.float64)
        for entry in range(words.shape[0]):
            distances[entry] = _squared_distance(rows[row], centroids[words[entry]])
        order = np.argsort(distances, kind="mergesort")
        found[row] = np.sort(words[order[:count]])
    return found


@compiled
def grouped(groups: UInt32s, count: int) -> tuple[Int64s, Int64s]:
    """Return rows sorted by group, stable, and where each group starts: (n,) and (count + 1,)."""
    starts = np.zeros(count + 1, np.int64)
    for row in range(groups.shape[0]):
        starts[groups[row] + 1] += 1
    for group in range(count):
        starts[group + 1] += starts[group]
    places = starts.copy()
    order = np.empty(groups.shape[0], np.int64)
    for row in range(groups.shape[0]):
        order[places[groups[row]]] = row
        places[groups[row]] += 1
    return order, starts
