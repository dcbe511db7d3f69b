"""What a list keeps is the best, in whatever order and portions images come."""

import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.pipeline.arrays import Float64s
from lamella.pipeline.search import shortlist_kernels
from lamella.pipeline.search.pool import run_tasks
from lamella.pipeline.search.shortlist import PLACE_BITS, Proposed, Shortlist, best_pairs

DRAWS: dict[str, Callable[[np.random.Generator, int], Float64s]] = {
    "distinct": lambda rng, n: rng.random(n),
    "ties": lambda rng, n: rng.integers(0, 4, n) / 4,
    "equal": lambda rng, n: np.full(n, 0.5),
    "skewed": lambda rng, n: np.append(rng.random(n - 1) * 1e-6, 1.0),
}


@settings(deadline=None)  # the first example compiles
@given(st.integers(0, 1 << 30), st.integers(1, 40), st.sampled_from(sorted(DRAWS)))
def test_a_list_keeps_the_best_by_score_and_id(seed: int, size: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 400))
    scores, ids = DRAWS[kind](rng, count), rng.permutation(count)
    lists = Shortlist.of(1, size)
    bins = np.empty(shortlist_kernels.BINS, np.int32)
    rows = np.arange(count, dtype=np.uint32)
    for some in np.array_split(rows, int(rng.integers(1, 6))):
        lists.held[0], lists.bars[0] = shortlist_kernels._put(
            scores[some], some, np.uint64(len(some)), lists.scores[0], lists.ids[0],
            lists.places[0], lists.held[0], lists.bars[0], size, ids, 1_000, bins,
        )  # fmt: skip
    found = Proposed.of(lists)
    best = np.lexsort((ids, -scores))[:size]
    assert sorted(found.places - 1_000) == sorted(best)
    assert np.array_equal(found.ids, ids[found.places - 1_000])
    assert np.array_equal(found.scores, scores[found.places - 1_000])


@settings(deadline=None)
@given(st.integers(0, 1 << 30), st.integers(1, 9))
def test_the_best_pairs_are_those_of_sorting(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    query_of, ids = np.divmod(rng.permutation(120)[: rng.integers(0, 121)], 30)
    by = rng.integers(0, 5, len(ids)).astype(np.float64)
    kept = best_pairs(query_of, ids, by, 4, size)
    expected = []
    for query in range(4):
        mine = np.flatnonzero(query_of == query)
        expected += mine[np.lexsort((ids[mine], -by[mine]))[:size]].tolist()
    assert kept.tolist() == sorted(expected)


def test_an_image_in_two_lists_is_decided_on_once_by_its_best_estimate() -> None:
    # Query 0: image 7 is in both lists, with .9 and .2; query 1 has two images.
    places = np.array([7, 8, 7, 9, 5, 6])
    every = Proposed(
        np.array([0, 0, 0, 0, 1, 1]), places, places, np.zeros(6),
        np.array([0.2, 0.5, 0.9, 0.4, 0.1, 0.3]),
    )  # fmt: skip
    for size, expected in ((1, [(0, 7), (1, 6)]), (2, [(0, 7), (0, 8), (1, 5), (1, 6)])):
        query_of, found = every.decided_on(2, size, 2)
        assert list(zip(query_of.tolist(), found.tolist(), strict=True)) == expected
    query_of, found = every.decided_on(2, 9, 2)
    assert found.tolist() == [7, 8, 9, 5, 6]
    far = Proposed(
        np.array([1]), np.array([3]), np.array([(1 << PLACE_BITS) - 1]), np.zeros(1), np.ones(1)
    )
    assert [each.tolist() for each in far.decided_on(2, 1, 1)] == [[1], [(1 << PLACE_BITS) - 1]]


def test_tasks_are_done_in_order_by_threads_that_stay() -> None:
    def here(task: int) -> tuple[int, int]:
        return task, threading.get_ident()

    alone = run_tasks(here, [1, 2, 3], 1) + run_tasks(here, [4], 2)
    assert alone == [(task, threading.get_ident()) for task in (1, 2, 3, 4)]
    first, again = (run_tasks(here, range(50), 2) for _ in range(2))
    assert [task for task, _ in first] == list(range(50))
    threads = {thread for _, thread in first + again}
    assert threading.get_ident() not in threads
    assert len(threads) <= 2


FORKS = """
import os
from lamella.pipeline.search.pool import run_tasks
assert run_tasks(abs, [1, -2], 2) == [1, 2]
child = os.fork()
if child == 0:
    os._exit(0 if run_tasks(abs, [3, -4], 2) == [3, 4] else 1)
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_forked_process_has_threads_of_its_own() -> None:
    subprocess.run([sys.executable, "-c", FORKS], check=True, timeout=60)
