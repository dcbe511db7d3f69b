"""Find the images that may be among the best: threads scan groups of queries and segments."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, Protocol

from threadpoolctl import ThreadpoolController

from lamella.pipeline.arrays import Bools
from lamella.pipeline.compiled import numba
from lamella.pipeline.search.block_scan import BLOCK_IMAGES, FIRST_IMAGES, Group
from lamella.pipeline.search.bounds import Cascade
from lamella.pipeline.search.cascade import CASCADES, Shape
from lamella.pipeline.search.query_layers import DenseMatch, Match
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
    cascade: Cascade | None = None,
) -> list[Reached]:
    """Return for each segment the pairs that may be among the best of all.

    Args:
        matched: the layers of each segment, in the order of `maps`.
        maps: one a layer.
        queries: Q.
        best: updated, as is `effort`.
        most_images: how many images of each segment are scanned, from the first on; all by default.
        allowed: which images of each segment may be answers, (n,) each; all by default.
        cascade: how sketches are read; by default as `cascade.Cascades` chooses.
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
    shape = _shape(matched)
    used = cascade or CASCADES.now(shape, min(size, queries))
    pairs = queries * sum(images)
    to_try = () if cascade else CASCADES.due(shape, min(size, queries), sum(images), pairs)
    by_torch = any(each.kind != "float32" for each in (used, *to_try))
    with (
        one_blas_thread(),
        ThreadPoolExecutor(threads, initializer=_begin_thread, initargs=(by_torch,)) as pool,
    ):
        for first in range(0, len(slices), together):
            tasks = list(product(range(len(matched)), slices[first : first + together]))
            groups = [
                Group(
                    matched[n], maps, asked, images[n], best, allowed[n] if allowed else None, used
                )
                for n, asked in tasks
            ]
            list(pool.map(Group.look, groups))
            for (n, _), found in zip(tasks, pool.map(Group.end, groups), strict=True):
                reached[n].append(found)
            effort.narrowed += sum(group.narrowed for group in groups)
            effort.payloads += sum(group.payloads for group in groups)
            effort.payloads_read += sum(group.payloads_read for group in groups)
            if to_try:  # bars are now what they are for most groups
                n = max(range(len(images)), key=lambda each: images[each])
                trial = _Trial(matched[n], maps, tasks[0][1], images[n], best)
                pool.submit(CASCADES.settle, shape, to_try, trial.seconds).result()
                used, to_try = CASCADES.now(shape, min(size, queries)), ()
    effort.pairs += pairs
    return [Reached.join(each) for each in reached]


@dataclass(frozen=True, eq=False)
class _Trial:
    """A group of queries and some images of a segment, scanned once more to see how long it takes.

    Nothing that is found is kept.
    """

    matches: Sequence[Match]
    maps: Sequence[LayerMap]
    queries: slice
    images: int
    best: Best

    def seconds(self, cascade: Cascade) -> float:
        """Return how long a scan takes; a small one before it compiles and allocates."""
        self._scan(min(self.images, FIRST_IMAGES), cascade)
        begun = time.perf_counter()
        self._scan(min(self.images, FIRST_IMAGES + BLOCK_IMAGES), cascade)
        return time.perf_counter() - begun

    def _scan(self, images: int, cascade: Cascade) -> None:
        best = Best(self.best.heaps.copy(), self.best.filled.copy(), self.best.floors)
        group = Group(self.matches, self.maps, self.queries, images, best, cascade=cascade)
        group.look()
        group.end()


def _shape(matched: Sequence[Sequence[Match]]) -> Shape:
    """Return the leading axes and dimensions of the dense layers, of the first segment."""
    dense = [match for match in (matched[0] if matched else ()) if isinstance(match, DenseMatch)]
    return tuple(match.layer.sketch.axes.shape for match in dense)


def _begin_thread(by_torch: bool) -> None:
    """Have PyTorch compute with one thread in this thread, if it is used."""
    if by_torch:
        import torch

        torch.set_num_threads(1)


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
