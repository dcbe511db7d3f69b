"""Groups of pictures that are linked by pairs, and which picture of each is worth keeping."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float64s, Int64s
from lamella.pipeline.compiled import compiled

NONE = -1


@dataclass(frozen=True, eq=False)
class Grouping:
    """n pictures in groups.

    Attributes:
        group: (n,) int64, from 0 on: the largest first, of equal ones that of the lowest picture.
        order: (n,) int64, all pictures, group by group; in a group the largest picture first.
        like: (n,) int64, which picture that is kept this one is most like; -1 if it is kept.
        score: (n,) float64, the score of these two; 0 if it is kept.
    """

    group: Int64s
    order: Int64s
    like: Int64s
    score: Float64s


def group_pairs(first: Int64s, second: Int64s, scores: Float64s, pixels: Int64s) -> Grouping:
    """Return the connected components of pairs, and which pictures are kept.

    A group keeps its largest picture, of equal ones the first. Further ones are kept only where a
    chain leads away: every picture that is not kept makes a pair with one that is, so deleting it
    loses nothing that looks different.

    Args:
        first, second: (m,) the places of the pictures of each pair.
        scores: (m,).
        pixels: (n,) of each picture; every one is in a pair.
    """
    count = len(pixels)
    roots = _components(count, first, second)
    owners, sizes = np.unique(roots, return_counts=True)
    by_size = np.lexsort((owners, -sizes))
    number = np.empty(len(owners), np.int64)
    number[by_size] = np.arange(len(owners))
    group = number[np.searchsorted(owners, roots)]
    order = np.lexsort((np.arange(count), -pixels, group))
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    ends = np.concatenate([first, second])
    by_owner = np.argsort(ends, kind="stable")
    starts = np.searchsorted(ends[by_owner], np.arange(count + 1))
    others = np.concatenate([second, first])[by_owner]
    like, score = np.full(count, NONE, np.int64), np.zeros(count)
    _choose(order, rank, starts, others, np.tile(scores, 2)[by_owner], like, score)
    return Grouping(group, order, like, score)


@compiled
def _components(count: int, first: Int64s, second: Int64s) -> NDArray[Any]:
    """Return the lowest picture that each is linked to, itself included: union-find."""
    parent = np.arange(count)
    for pair in range(len(first)):
        a, b = first[pair], second[pair]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        if a < b:
            parent[b] = a
        else:
            parent[a] = b
    for place in range(count):  # parents are lower, so theirs are roots by now
        parent[place] = parent[parent[place]]
    return parent


@compiled
def _choose(
    order: Int64s,
    rank: Int64s,
    starts: Int64s,
    others: Int64s,
    scores: Float64s,
    like: Int64s,
    score: Float64s,
) -> None:
    """Keep each picture that makes no pair with one kept before; tell the rest whom they are like.

    Of several that are kept it is the one with the highest score, then the largest.
    """
    kept, spared = np.zeros(len(order), np.bool_), np.zeros(len(order), np.bool_)
    for place in order:
        if not spared[place]:
            kept[place] = True
            for entry in range(starts[place], starts[place + 1]):
                spared[others[entry]] = True
    for place in order:
        if kept[place]:
            continue
        for entry in range(starts[place], starts[place + 1]):
            other = others[entry]
            if not kept[other]:
                continue
            better = scores[entry] > score[place]
            if scores[entry] == score[place] and like[place] >= 0:
                better = rank[other] < rank[like[place]]
            if better or like[place] < 0:
                like[place], score[place] = other, scores[entry]
