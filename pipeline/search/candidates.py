"""Which images of segments may be among the best: many threads, each with queries and a segment."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import product
from typing import Protocol

from threadpoolctl import ThreadpoolController

from lamella.pipeline.compiled import numba
from lamella.pipeline.search.block_scan import Group
from lamella.pipeline.search.query_layers import DenseMatch, LocalMatch
from lamella.pipeline.search.topk import Best, Effort, Reached
from lamella.schemas.query import LayerMap

GROUP_QUERIES = 128
"""Queries that look at a block together, in one thread, at most."""

TASKS = 4
"""So many groups and segments a thread, at least, are looked at before what waits is ended."""


class Finder(Protocol):
    """What finds the pairs: `find_reached` on CPUs, `on_gpu.Card.find_reached` on a card."""

    def __call__(
        self,
        matched: Sequence[Sequence[LocalMatch | DenseMatch]],
        maps: Sequence[LayerMap],
        queries: int,
        best: Best,
        effort: Effort,
    ) -> list[Reached]: ...


def find_reached(
    matched: Sequence[Sequence[LocalMatch | DenseMatch]],
    maps: Sequence[LayerMap],
    queries: int,
    best: Best,
    effort: Effort,
    most_images: int | None = None,
) -> list[Reached]:
    """Return for each segment the pairs that may be among the best of all.

    Args:
        matched: the layers of each segment, in the order of `maps`.
        maps: one a layer.
        queries: Q.
        best: updated, as is `effort`.
        most_images: how many of each segment are looked at, from the first on; all by default.
    """
    images = [len(matches[0].layer) for matches in matched]
    if most_images is not None:
        images = [min(each, most_images) for each in images]
    threads = numba.get_num_threads()
    fair = GROUP_QUERIES if len(matched) >= threads else -(-queries // threads)
    size = max(1, min(GROUP_QUERIES, fair))
    starts = range(0, max(queries, 1), size)  # no query at all is a group too
    slices = [slice(start, min(start + size, queries)) for start in starts]
    together = max(1, TASKS * threads // max(len(matched), 1))
    reached: list[list[Reached]] = [[] for _ in matched]
    # A thread has one of BLAS: threads of two libraries would wait for work on the same cores by
    # turning in circles, which made all of this three times as slow.
    with _blas().limit(limits=1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(slices), together):
            tasks = list(product(range(len(matched)), slices[first : first + together]))
            groups = [Group(matched[n], maps, asked, images[n], best) for n, asked in tasks]
            list(pool.map(Group.look, groups))
            for (n, _), found in zip(tasks, pool.map(Group.end, groups), strict=True):
                reached[n].append(found)
            effort.narrowed += sum(group.narrowed for group in groups)
    effort.pairs += queries * sum(images)
    return [Reached.join(each) for each in reached]


@cache
def _blas() -> ThreadpoolController:
    """Return what tells BLAS how many threads to use; finding it takes milliseconds."""
    return ThreadpoolController()
