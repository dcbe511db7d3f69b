"""Find the images that may be among the best: threads scan groups of queries and segments."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from heapq import heapreplace
from itertools import pairwise, product
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

BUSY = 0.9
"""The share of the threads' time that scans of equal length should fill."""

TASKS = 4
"""Scans of a thread, at least, before waiting pairs are decided."""


Part = tuple[int, slice]
"""The number of a segment, and a range of its images."""


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
    slices, parts = cut(queries, images, threads)
    size = slices[0].stop
    together = max(1, TASKS * threads // max(len(parts), 1))
    reached: list[list[Reached]] = [[] for _ in matched]
    shape = _shape(matched)
    used = cascade or CASCADES.now(shape, size)
    pairs = queries * sum(images)
    to_try = () if cascade else CASCADES.due(shape, size, sum(images), pairs)
    by_torch = any(each.kind != "float32" for each in (used, *to_try))
    with (
        one_blas_thread(),
        ThreadPoolExecutor(threads, initializer=_begin_thread, initargs=(by_torch,)) as pool,
    ):
        for first in range(0, len(slices), together):
            tasks = list(product(parts, slices[first : first + together]))
            scans = [
                Group(matched[n], maps, asked, part, best, allowed[n] if allowed else None, used)
                for (n, part), asked in tasks
            ]
            list(pool.map(Group.look, scans))
            for ((n, _), _), found in zip(tasks, pool.map(Group.end, scans), strict=True):
                reached[n].append(found)
            effort.narrowed += sum(scan.narrowed for scan in scans)
            effort.payloads += sum(scan.payloads for scan in scans)
            effort.payloads_read += sum(scan.payloads_read for scan in scans)
            if to_try:  # bars are now what they are for most groups
                n = max(range(len(images)), key=lambda each: images[each])
                trial = _Trial(matched[n], maps, tasks[0][1], images[n], best)
                pool.submit(CASCADES.settle, shape, to_try, trial.seconds).result()
                used, to_try = CASCADES.now(shape, size), ()
    effort.pairs += pairs
    return [Reached.join(each) for each in reached]


def cut(queries: int, images: Sequence[int], threads: int) -> tuple[list[slice], list[Part]]:
    """Return groups of queries, and ranges of images of the segments, to scan each with each.

    As few as keep threads busy: a group shares the codes that it reads. Ranges have at least the
    images of a block; where more are needed, groups get smaller.
    """
    fewest = max(1, -(-queries // GROUP_QUERIES))
    longest = max(images, default=0)
    most = max(1, longest // BLOCK_IMAGES)
    cuts: tuple[list[slice], list[Part]] = [], []
    busiest = -1.0
    for groups, ranges in product(
        range(fewest, max(fewest, min(queries, threads)) + 1), range(most)
    ):
        asked = _even(queries, groups)
        parts = [
            (n, part)
            for n, each in enumerate(images)
            for part in _even(each, max(1, -(-each * (ranges + 1) // max(longest, 1))))
        ]
        busy = _busy([part.stop - part.start for _, part in parts] * groups, threads)
        if busy > busiest:
            cuts, busiest = (asked, parts), busy
        if busiest >= BUSY:
            break
    return cuts


def _busy(lengths: Sequence[int], threads: int) -> float:
    """Return the share of the threads' time that scans take, each begun by a free thread."""
    ends = [0] * threads
    for length in lengths:
        heapreplace(ends, ends[0] + length)
    return sum(lengths) / max(max(ends) * threads, 1)


def _even(count: int, parts: int) -> list[slice]:
    """Return as many slices of a range, the longest first, none longer by more than one."""
    ends = [-(-count * part // parts) for part in range(parts + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]


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
        self._scan(slice(0, min(self.images, FIRST_IMAGES)), cascade)
        begun = time.perf_counter()
        self._scan(slice(0, min(self.images, FIRST_IMAGES + BLOCK_IMAGES)), cascade)
        return time.perf_counter() - begun

    def _scan(self, images: slice, cascade: Cascade) -> None:
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
