"""How long a sweep over (t, p) takes a query: 60 points, against fusing and sorting for each.

python -m pytest -m bench -s tests/benchmarks/bench_sweep.py
"""

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest

from lamella.pipeline.evaluate.grid import grid_of
from lamella.pipeline.evaluate.points import Points, score_points
from lamella.pipeline.evaluate.truth import ResolvedQuery, score_query
from lamella.pipeline.search.fuse import fuse
from lamella.schemas.query import FusionSpec, LayerMap
from tests.benchmarks.record import Measurement, write_record

FUSION = FusionSpec(layers=(LayerMap(layer="high", t=0.2, p=0.45), LayerMap(layer="low")))


@pytest.mark.bench
def test_a_sweep_against_fusing_and_sorting_for_every_point() -> None:
    specs = [spec for _, _, spec in grid_of(FUSION)]
    points, found = Points.of(("high", "low"), specs), []
    for images in (5_000, 100_000):
        for right in (4, 50):
            table, query = drawn(images, right)
            ours, scores = seconds(partial(score_points, "mAP", query, table, points))
            plain, expected = seconds(partial(plainly, query, table, specs))
            assert (scores == expected).all()
            print(
                f"{images:7,} pictures, {right:2} right: {1e3 * ours:7.2f} ms a query, "
                f"plainly {1e3 * plain:7.2f} ms, {plain / ours:.1f} times"
            )
            sizes = {"pictures": images, "right": right, "points": len(specs)}
            found.append(
                Measurement("sweep", sizes, 1 / ours, 1 / plain, "fuse and sort", "queries/s")
            )
    write_record("sweep.json", found)


def plainly(query: ResolvedQuery, table: np.ndarray, specs: Sequence[FusionSpec]) -> np.ndarray:
    """Return the score at each point by fusing and sorting all pictures."""
    return np.array([score_query("mAP", query, fuse(table, spec)) for spec in specs])


def drawn(images: int, right: int) -> tuple[np.ndarray, ResolvedQuery]:
    """Return similarities in two layers, and a query whose answers are somewhat more like it."""
    rng = np.random.default_rng(images + right)
    table = rng.normal(0.3, 0.1, (2, images))
    places = np.sort(rng.choice(images, right, replace=False))
    table[:, places] += 0.25
    return np.clip(table, 0.0, 1.0), ResolvedQuery(places, np.array([], np.int64), right)


def seconds(work: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """Return the least processor time of five runs, after one that compiles, and the result."""
    result, taken = work(), []
    for _ in range(5):
        began = time.process_time()
        result = work()
        taken.append(time.process_time() - began)
    return min(taken), result
