"""Scores of many settings at once against the plain way: fuse all pictures, sort, score."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.pipeline.evaluate.metrics import average_precision, average_precisions
from lamella.pipeline.evaluate.points import BLOCK, Points, score_points
from lamella.pipeline.evaluate.truth import MetricName, ResolvedQuery, score_query
from lamella.pipeline.search.fuse import fuse
from lamella.schemas.query import FusionSpec, LayerMap

LAYERS = ("a", "b", "c")
SPECS = [
    FusionSpec(layers=(LayerMap(layer="a"),)),
    FusionSpec(layers=(LayerMap(layer="a"), LayerMap(layer="c"))),
    *(
        FusionSpec(layers=(LayerMap(layer="a", t=t, p=p), LayerMap(layer="b")))
        for t in (0.0, 0.2, 0.9)
        for p in (0.0, 0.05, 0.45, 1.0)
    ),
    FusionSpec(
        layers=(
            LayerMap(layer="a", t=0.2, p=0.45, weight=0.7),
            LayerMap(layer="b", t=0.4, p=0.3, weight=3.0),
            LayerMap(layer="c", weight=0.1),
        )
    ),
]
POINTS = Points.of(LAYERS, SPECS)


def plainly(metric: MetricName, query: ResolvedQuery, table: np.ndarray) -> list[float]:
    """Return the score of each spec by fusing and sorting all pictures."""
    found = []
    for spec in SPECS:
        rows = [LAYERS.index(entry.layer) for entry in spec.layers]
        found.append(score_query(metric, query, fuse(table[rows], spec)))
    return found


def test_a_case_by_hand() -> None:
    # picture 0 is right and scores .5 + .2 = .7; 1 has .9, 2 has .6, 3 is ignored
    table = np.array([[0.5, 0.3, 0.6, 1.0], [0.2, 0.6, 0.0, 1.0]])
    spec = FusionSpec(layers=(LayerMap(layer="a"), LayerMap(layer="b")))
    query = ResolvedQuery(np.array([0]), np.array([3]), 1)
    points = Points.of(("a", "b"), [spec])
    assert score_points("mAP", query, table, points).tolist() == [0.25]  # second: (0 + 1 / 2) / 2


@given(
    seed=st.integers(0, 2**32 - 1),
    images=st.integers(1, 60),
    steps=st.sampled_from([4, 50, 10**9]),
    metric=st.sampled_from(["mAP", "N-S", "mAP@100"]),
)
def test_scores_have_the_bits_of_the_plain_way(
    seed: int, images: int, steps: int, metric: MetricName
) -> None:
    rng = np.random.default_rng(seed)
    # few distinct values: ties, thresholds met exactly, 0 and 1
    table = rng.integers(0, steps + 1, (3, images)) / steps
    shuffled = rng.permutation(images)
    right, ignored = np.sort(shuffled[: images // 4 + 1]), np.sort(shuffled[images // 4 + 1 :][:3])
    query = ResolvedQuery(right, ignored, len(right) + int(rng.integers(0, 2)))
    assert score_points(metric, query, table, POINTS).tolist() == plainly(metric, query, table)


def test_pictures_of_several_blocks_are_counted() -> None:
    images = 2 * BLOCK + 7
    table = np.random.default_rng(3).random((3, images))
    query = ResolvedQuery(np.arange(5, images, 300), np.array([0, images - 1]), 12)
    assert score_points("mAP", query, table, POINTS).tolist() == plainly("mAP", query, table)


def test_a_query_whose_answers_are_all_missing_scores_nothing() -> None:
    query = ResolvedQuery(np.array([], np.int64), np.array([], np.int64), 2)
    table = np.random.default_rng(3).random((3, 9))
    assert score_points("mAP", query, table, POINTS).tolist() == [0.0] * len(SPECS)


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="not in"):
        Points.of(("a", "b"), SPECS)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 130, 300])
def test_many_rankings_are_scored_to_the_bit_of_one(count: int) -> None:
    rng = np.random.default_rng(count)
    ranks = np.array([np.sort(rng.choice(1000, count, replace=False)) for _ in range(5)])
    ranks = ranks.reshape(5, count).astype(np.int64)
    expected = [average_precision(row, count + 1) for row in ranks]
    assert average_precisions(ranks, count + 1).tolist() == expected
