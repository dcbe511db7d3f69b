"""How alike two rankings of one query are, whichever answers are right."""

from collections.abc import Hashable, Sequence

PERSISTENCE = 0.9
"""p of rank-biased overlap: the first ten places have 86 % of its weight."""


def overlap_at(a: Sequence[Hashable], b: Sequence[Hashable], k: int) -> float:
    """Return the share of the first k that two rankings have in common, 0 to 1.

    Where one is shorter than k, the shorter length takes the place of k. Of two empty rankings it
    is 1, of one empty ranking 0.

    >>> overlap_at("abc", "bad", 3)
    0.6666666666666666
    """
    depth = min(k, len(a), len(b))
    if depth == 0:
        return float(len(a) == len(b))
    return len(set(a[:depth]) & set(b[:depth])) / depth


def rank_biased_overlap(
    a: Sequence[Hashable], b: Sequence[Hashable], p: float = PERSISTENCE
) -> float:
    """Return the extrapolated rank-biased overlap of two rankings, 0 to 1.

    Webber, Moffat and Zobel 2010, *A Similarity Measure for Indefinite Rankings*, equation 32,
    which allows for rankings of other lengths: beyond its end the shorter one is taken to agree as
    it did so far. With X_d pictures in common within the first d, and lengths s <= l, it is

    (1 - p) / p (sum over d <= l of X_d p^d / d + sum over s < d <= l of X_s (d - s) p^d / (s d))
    + ((X_l - X_s) / l + X_s / s) p^l.

    Of two empty rankings it is 1, of one empty ranking 0.

    Args:
        a, b: best first, nothing twice in one.
        p: how likely a reader goes on to the next rank, above 0 and below 1.
    """
    short, long = sorted((a, b), key=len)
    if not short:
        return float(len(short) == len(long))
    in_short: set[Hashable] = set()
    in_long: set[Hashable] = set()
    shared, shared_short, total, weight = 0, 0, 0.0, 1.0
    for depth, item in enumerate(long, start=1):
        weight *= p
        shared += item in in_short
        in_long.add(item)
        if depth <= len(short):
            shared += short[depth - 1] in in_long
            in_short.add(short[depth - 1])
            shared_short = shared
        total += shared / depth * weight
        if depth > len(short):
            total += shared_short * (depth - len(short)) / (len(short) * depth) * weight
    beyond = (shared - shared_short) / len(long) + shared_short / len(short)
    return min((1 - p) / p * total + beyond * weight, 1.0)
