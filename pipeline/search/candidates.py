"""Find the images that may be among the best: threads scan groups of queries and segments."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from itertools import product
from typing import Any, Protocol

from threadpoolctl import ThreadpoolController

from lamella.pipeline.arrays import Bools
from lamella.pipeline.compiled import numba
from lamella.pipeline.search.block_scan import Group
from lamella.pipeline.search.query_layers import Match
from lamella.pipeline.search.topk import Best, Effort, Reached
from lamella.schemas.query import LayerMap

GROUP_QUERIES = 128
"""The most queries of a group: one thread scans for all of them together."""

TASKS = 4
"""Groups and segments a thread scans, at least, before waiting pairs are decided."""


class Finder(Protocol):
    """Finds candidate pairs: `find_reached` on CPUs, `on_gpu.Card.find_reached` on a GPU."""

    def __call__(
        self,
        matched: Sequence[Sequence[Match]],
        maps: Sequence[LayerMap],
        queries: int,
        best: Best,
        effort: Effort,
    ) -> list[Reached]: ...


def find_reached(
    matched: Sequence[Sequence[Match]],
    maps: Sequence[LayerMap],
    queries: int,
    best: Best,
    effort: Effort,
    most_images: int | None = None,
    allowed: Sequence[Bools] | None = None,
) -> list[Reached]:
    """Return for each segment the pairs that may be among the best of all.

    Args:
        matched: the layers of each segment, in the order of `maps`.
        maps: one a layer.
        queries: Q.
        best: updated, as is `effort`.
        most_images: how many images of each segment are scanned, from the first on; all by default.
        allowed: which images of each segment may be answers, (n,) each; all by default.
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
    with one_blas_thread(), ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(slices), together):
            tasks = list(product(range(len(matched)), slices[first : first + together]))
            groups = [
                Group(matched[n], maps, asked, images[n], best, allowed[n] if allowed else None)
                for n, asked in tasks
            ]
            list(pool.map(Group.look, groups))
            for (n, _), found in zip(tasks, pool.map(Group.end, groups), strict=True):
                reached[n].append(found)
            effort.narrowed += sum(group.narrowed for group in groups)
            effort.payloads += sum(group.payloads for group in groups)
            effort.payloads_read += sum(group.payloads_read for group in groups)
    effort.pairs += queries * sum(images)
    return [Reached.join(each) for each in reached]


def one_blas_thread() -> AbstractContextManager[Any]:
    """Have BLAS use one thread inside a `with` block, so that ours may be many.

    Threads of two libraries spin while they wait for work on the same cores, which made a search
    three times as slow.
    """
    limited: AbstractContextManager[Any] = _blas().limit(limits=1, user_api="blas")
    return limited


@cache
def _blas() -> ThreadpoolController:
    """Return the control of BLAS's threads; finding it takes milliseconds, so it is kept."""
    return ThreadpoolController()
