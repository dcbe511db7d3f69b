"""Products by what the CPU has: their speed, and search and assignment with each kind.

`PRODUCTS_PICTURES=40000` and `PRODUCTS_QUERIES=512` choose the search; its segments are kept in
`build/bench/scale`. Where PyTorch computes a kind without the hardware for it, that is shown too:
`cpu.json` beside the record says what the CPU has.
"""

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from lamella.pipeline.bench.search import FUSION
from lamella.pipeline.bench.segments import HIGH, LOW, open_segments
from lamella.pipeline.planted.scale import ScaleSpec, draw_queries
from lamella.pipeline.products import choice
from lamella.pipeline.products.cpu import this_cpu
from lamella.pipeline.products.trial import gflops, gflops_of_rows
from lamella.pipeline.search.bounds import Cascade
from lamella.pipeline.search.candidates import find_reached
from lamella.pipeline.search.exact import search_exact
from lamella.pipeline.search.segment import Answer, QueryBatch
from lamella.pipeline.search.topk import Effort
from lamella.pipeline.vocabulary.assign import ExactAssigner
from lamella.schemas.job import ProductKind
from tests.benchmarks.corpus import build_segment
from tests.benchmarks.record import Measurement, write_json, write_record

PICTURES = int(os.environ.get("PRODUCTS_PICTURES", "40000"))
QUERIES = int(os.environ.get("PRODUCTS_QUERIES", "512"))
THREADS, SEGMENT, K = 2, 20_000, 100
KINDS: tuple[ProductKind, ...] = ("float32", "bfloat16", "int8")
SPEC = ScaleSpec(pictures=1_000_000)


def seconds_of(work: Callable[[], object], repeats: int = 3) -> float:
    """Return the shortest time of some work, which has run once before."""
    work()
    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return min(taken)


@pytest.mark.bench
def test_products_alone() -> None:
    torch.set_num_threads(1)
    measured = []
    with threadpool_limits(1, user_api="blas"):
        for dimensions in (256, 1_280):
            for rows in (2_048, 16_384):
                sizes = {"queries": 128, "dimensions": dimensions, "rows": rows, "threads": 1}
                peer = gflops("float32", 128, dimensions, rows)
                for kind in KINDS:
                    ours = gflops(kind, 128, dimensions, rows)
                    measured.append(_measured(f"codes in {kind}", sizes, ours, peer))
        sizes = {"rows": 4_096, "dimensions": 512, "words": 2_048, "threads": 1}
        peer = gflops_of_rows("float32", 4_096, 512, 2_048)
        for kind in KINDS[:2]:
            ours = gflops_of_rows(kind, 4_096, 512, 2_048)
            measured.append(_measured(f"rows with words in {kind}", sizes, ours, peer))
    _write("products_alone.json", measured)


@pytest.mark.bench
def test_search_with_each_kind() -> None:
    numba.set_num_threads(min(THREADS, numba.config.NUMBA_NUM_THREADS))
    starts = range(0, PICTURES, SEGMENT)
    built = [
        build_segment(SPEC, first, min(first + SEGMENT, PICTURES), THREADS) for first in starts
    ]
    segments = open_segments([Path(each.folder) for each in built])
    vectors, bags, _ = draw_queries(SPEC, QUERIES)
    queries = QueryBatch({HIGH: vectors, LOW: bags})
    cascades = [Cascade(kind, whole) for kind in KINDS for whole in (False, True)]
    sizes = {"pictures": PICTURES, "queries": QUERIES, "k": K, "threads": THREADS}
    rates: dict[Cascade, float] = {}
    answers: list[Answer] = []
    for cascade in cascades:
        find = partial(find_reached, cascade=cascade)
        effort = Effort()
        answers.append(search_exact(segments, queries, FUSION, K, find=find, effort=effort))
        search = partial(search_exact, segments, queries, FUSION, K, find=find)
        rates[cascade] = QUERIES / seconds_of(search, 2)
        print(
            f"{cascade}: {rates[cascade]:.1f} queries/s, {effort.narrowed / effort.pairs:.4f} of "
            f"pairs looked at closely, {effort.decided / effort.pairs:.6f} in float64"
        )
        assert np.array_equal(answers[-1].image_ids, answers[0].image_ids)
        assert np.array_equal(answers[-1].scores, answers[0].scores)
    peer = rates[cascades[0]]
    _write(
        "products_search.json",
        [
            Measurement(
                f"search, {'whole codes' if each.whole else 'axes'} in {each.kind}",
                sizes,
                rates[each],
                peer,
                "axes by numpy in float32",
                "queries/s",
            )
            for each in cascades
        ],
    )


@pytest.mark.bench
def test_assignment_with_each_kind() -> None:
    rng = np.random.default_rng(0)
    words = rng.standard_normal((2_048, 512)).astype(np.float32)
    rows = words[rng.integers(0, len(words), 8_192)]
    rows = rows + rng.standard_normal(rows.shape).astype(np.float32)
    rates, found = {}, []
    for kind in KINDS[:2]:
        choice.use(kind)
        assigner = ExactAssigner(words)
        found.append(assigner.assign(rows))
        rates[kind] = len(rows) / seconds_of(partial(assigner.assign, rows), 2)
        assert np.array_equal(found[-1].words, found[0].words)
    choice.use("auto")
    sizes = {"rows": len(rows), "dimensions": 512, "words": len(words)}
    measured = [
        Measurement(
            f"assignment in {kind}", sizes, rate, rates["float32"], "numpy float32", "rows/s"
        )
        for kind, rate in rates.items()
    ]
    _write("products_assignment.json", measured)


def _measured(name: str, sizes: dict[str, int], ours: float, peer: float) -> Measurement:
    return Measurement(name, dict(sizes), ours, peer, "numpy float32", "GFLOP/s")


def _write(name: str, measured: list[Measurement]) -> None:
    write_record(name, measured)
    write_json("products_cpu.json", asdict(this_cpu()))
    print(f"\n{this_cpu()}")
    for each in measured:
        sizes = ", ".join(f"{value:,} {size}" for size, value in each.sizes.items())
        print(f"{each.name}: {each.ours:.1f} {each.unit}, {each.ratio:.2f} of float32 ({sizes})")
