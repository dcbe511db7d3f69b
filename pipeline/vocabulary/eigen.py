"""Second moments of rows and their eigenvectors, bitwise equal for any number of threads.

LAPACK's last bits change with its number of threads (seen with OpenBLAS, 1 and 2 threads, 512
dimensions), so stored files would change with the number of workers. These loops keep one order;
1,024 dimensions take a second.
"""

import numpy as np

from lamella.pipeline.arrays import Float32s, Float64s
from lamella.pipeline.compiled import compiled

BLOCK_ROWS = 4_096
"""Rows centred and multiplied at a time."""

MOST_TURNS = 60
"""Turns of the QL method for one eigenvalue; two are usual."""


def second_moments(rows: Float32s, centre: Float64s) -> Float64s:
    """Return the sum of (x - c)(x - c)' over rows x (n, D), float64 (D, D), in their order."""
    dimensions = rows.shape[1]
    sums = np.zeros((dimensions, dimensions), np.float64)
    for start in range(0, len(rows), BLOCK_ROWS):
        centred = rows[start : start + BLOCK_ROWS] - centre
        # Rows of zeros at the end change no sum, and the loop takes four at a time.
        short = -len(centred) % 4
        _add_products(sums, np.concatenate([centred, np.zeros((short, dimensions))]))
    whole: Float64s = np.triu(sums) + np.triu(sums, 1).T
    return whole


def eigenvectors(symmetric: Float64s) -> tuple[Float64s, Float64s]:
    """Return the eigenvalues of a symmetric matrix (D, D), falling, and a vector a row, (D, D).

    Values below 0 by rounding are given as 0.
    """
    largest = float(np.abs(symmetric).max())
    # Scaling by a power of two changes no digit, and keeps squares inside float64.
    scale = 2.0 ** -np.frexp(largest)[1] if largest > 0 else 1.0
    vectors = symmetric * scale
    diagonal, beside = np.empty(len(vectors)), np.empty(len(vectors))
    _tridiagonal(vectors, diagonal, beside)
    converged = _turn(vectors, diagonal, beside)
    assert converged, "the QL method ends for every symmetric matrix of finite numbers"
    order = np.argsort(-diagonal, kind="stable")
    return np.maximum(diagonal[order], 0) / scale, vectors[order]


@compiled
def _tridiagonal(vectors: Float64s, diagonal: Float64s, beside: Float64s) -> None:
    """Reduce a symmetric matrix by Householder's reflections, written over by their product.

    As TRED2 of EISPACK (Martin, Reinsch, Wilkinson 1968), with rows and columns exchanged so that
    the inner loops run along rows. `diagonal` and `beside` (D,) are written: the second's first
    is 0.
    """
    count = vectors.shape[0]
    d, e, v = diagonal, beside, vectors
    d[:] = v[:, count - 1]
    for i in range(count - 1, 0, -1):
        scale = squared = 0.0
        for k in range(i):
            scale += abs(d[k])
        if scale == 0.0:
            e[i] = d[i - 1]
            for j in range(i):
                d[j] = v[j, i - 1]
                v[j, i] = 0.0
                v[i, j] = 0.0
        else:
            for k in range(i):
                d[k] /= scale
                squared += d[k] * d[k]
            f = d[i - 1]
            g = -np.sqrt(squared) if f > 0 else np.sqrt(squared)
            e[i] = scale * g
            squared -= f * g
            d[i - 1] = f - g
            e[:i] = 0.0
            for j in range(i):
                f, line = d[j], v[j]
                v[i, j] = f
                g = e[j] + line[j] * f
                for k in range(j + 1, i):
                    g += line[k] * d[k]
                for k in range(j + 1, i):
                    e[k] += line[k] * f
                e[j] = g
            f = 0.0
            for j in range(i):
                e[j] /= squared
                f += e[j] * d[j]
            half = f / (squared + squared)
            for j in range(i):
                e[j] -= half * d[j]
            for j in range(i):
                f, g, line = d[j], e[j], v[j]
                for k in range(j, i):
                    line[k] -= f * e[k] + g * d[k]
                d[j] = line[i - 1]
                line[i] = 0.0
        d[i] = squared
    for i in range(count - 1):
        v[i, count - 1] = v[i, i]
        v[i, i] = 1.0
        mirror = v[i + 1]
        if d[i + 1] != 0.0:
            for k in range(i + 1):
                d[k] = mirror[k] / d[i + 1]
            for j in range(i + 1):
                line, g = v[j], 0.0
                for k in range(i + 1):
                    g += mirror[k] * line[k]
                for k in range(i + 1):
                    line[k] -= g * d[k]
        mirror[: i + 1] = 0.0
    d[:] = v[:, count - 1]
    v[:, count - 1] = 0.0
    v[count - 1, count - 1] = 1.0
    e[0] = 0.0


@compiled
def _turn(vectors: Float64s, diagonal: Float64s, beside: Float64s) -> bool:
    """Diagonalise a tridiagonal matrix, turning the rows of `vectors` with it; say if it converged.

    As TQL2 of EISPACK (Bowdler, Martin, Reinsch, Wilkinson 1968), rows and columns exchanged.
    """
    count = vectors.shape[0]
    d, e, v = diagonal, beside, vectors
    for i in range(1, count):
        e[i - 1] = e[i]
    e[count - 1] = 0.0
    shift = size = 0.0
    for low in range(count):
        size = max(size, abs(d[low]) + abs(e[low]))
        high = low
        while abs(e[high]) > 2.0**-52 * size:  # the last is 0
            high += 1
        turns = 0
        while high > low and abs(e[low]) > 2.0**-52 * size:
            turns += 1
            if turns > MOST_TURNS:
                return False
            g = d[low]
            p = (d[low + 1] - g) / (2.0 * e[low])
            r = np.sqrt(p * p + 1.0)
            r = -r if p < 0 else r
            d[low] = e[low] / (p + r)
            d[low + 1] = e[low] * (p + r)
            after, h = d[low + 1], g - d[low]
            for i in range(low + 2, count):
                d[i] -= h
            shift += h
            p = d[high]
            c = c2 = c3 = 1.0
            s = s2 = 0.0
            below = e[low + 1]
            for i in range(high - 1, low - 1, -1):
                c3, c2, s2 = c2, c, s
                g, h = c * e[i], c * p
                # Scaled, as squares of what rounding left of a zero would vanish.
                most = max(abs(p), abs(e[i]))
                if most == 0.0:
                    r, s_next, c_next = 0.0, 0.0, 1.0
                else:
                    s_next, c_next = e[i] / most, p / most
                    r = np.sqrt(s_next * s_next + c_next * c_next)
                    s_next, c_next, r = s_next / r, c_next / r, r * most
                e[i + 1] = s * r
                s, c = s_next, c_next
                p = c * d[i] - s * g
                d[i + 1] = h + s * (c * g + s * d[i])
                upper, lower = v[i], v[i + 1]
                for k in range(count):
                    h = lower[k]
                    lower[k] = s * upper[k] + c * h
                    upper[k] = c * upper[k] - s * h
            p = -s * s2 * c3 * below * e[low] / after
            e[low] = s * p
            d[low] = c * p
        d[low] += shift
        e[low] = 0.0
    return True


@compiled
def _add_products(sums: Float64s, rows: Float64s) -> None:
    """Add x[i] x[j] of each row x (4 m, D) to sums[i, j] with i <= j, in the order of the rows.

    In tiles of the sums, which stay in cache; entries left of the diagonal are undefined.
    """
    dimensions = sums.shape[0]
    for top in range(0, dimensions, 32):
        bottom = min(top + 32, dimensions)
        for left in range(top, dimensions, 256):
            right = min(left + 256, dimensions)
            for row in range(0, rows.shape[0], 4):
                first = rows[row, left:right]
                second = rows[row + 1, left:right]
                third = rows[row + 2, left:right]
                fourth = rows[row + 3, left:right]
                for axis in range(top, bottom):
                    one, two = rows[row, axis], rows[row + 1, axis]
                    three, four = rows[row + 2, axis], rows[row + 3, axis]
                    line = sums[axis, left:right]
                    for place in range(line.shape[0]):
                        line[place] = (
                            ((line[place] + one * first[place]) + two * second[place])
                            + three * third[place]
                        ) + four * fourth[place]
