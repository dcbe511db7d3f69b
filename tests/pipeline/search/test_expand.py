"""Expanded queries are the mean of a query and its best pictures, to the same bits everywhere."""

from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.pipeline.errors import InputError
from lamella.pipeline.index.bags import BagsOfWords, bags_from_words, concatenate, select
from lamella.pipeline.search import coordinator as coordinating
from lamella.pipeline.search.candidates import find_reached
from lamella.pipeline.search.coordinator import Coordinator
from lamella.pipeline.search.exact import search_exact
from lamella.pipeline.search.expand import expand, expand_bags, expand_vectors
from lamella.pipeline.search.fuse import fuse
from lamella.pipeline.search.on_gpu import Card
from lamella.pipeline.search.searcher import SegmentSearcher, take_queries
from lamella.pipeline.search.segment import (
    DenseLayer,
    LocalLayer,
    QueryBatch,
    SegmentData,
    dense_layer,
    local_layer,
)
from lamella.schemas.job import JobConfig, SearchSettings
from lamella.schemas.query import FusionSpec, LayerMap

WORDS, WIDTH, IMAGES = 12, 5, 30
WEIGHTS = np.linspace(0.0, 2.0, WORDS)
SPEC = FusionSpec(layers=(LayerMap(layer="high", t=0.2, p=0.45), LayerMap(layer="low")))
LAYERS = ["high", "low"]


def bags_of(*images: dict[int, int]) -> BagsOfWords:
    """Return bags, each given as {word: count}."""
    return BagsOfWords(
        offsets=np.cumsum([0, *map(len, images)]).astype(np.int64),
        words=np.array([word for image in images for word in sorted(image)], np.uint32),
        counts=np.array([image[word] for image in images for word in sorted(image)], np.uint32),
    )


def as_dict(bags: BagsOfWords, row: int) -> dict[int, int]:
    entries = slice(bags.offsets[row], bags.offsets[row + 1])
    return dict(zip(bags.words[entries].tolist(), bags.counts[entries].tolist(), strict=True))


def random_bags(rng: np.random.Generator, images: int) -> BagsOfWords:
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 40, size=images))]).astype(np.int64)
    return bags_from_words(offsets, rng.integers(WORDS, size=offsets[-1], dtype=np.uint32))


def assert_same(one: QueryBatch, other: QueryBatch) -> None:
    """Compare two batches to the bit."""
    assert list(one.layers) == list(other.layers)
    for mine, theirs in zip(one.layers.values(), other.layers.values(), strict=True):
        if isinstance(mine, BagsOfWords):
            assert isinstance(theirs, BagsOfWords)
            for name in ("offsets", "words", "counts"):
                np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
        else:
            assert isinstance(mine, np.ndarray)
            assert isinstance(theirs, np.ndarray)
            assert mine.tobytes() == theirs.tobytes()


def test_vectors_by_hand() -> None:
    # (3, 4) has length 5, so it is (.6, .8); (0, 2) is (0, 1); (0, 0) adds nothing.
    own = np.array([[3, 4], [3, 4], [3, 4], [0, 0]], np.float32)
    found = np.array([[1, 0], [0, 2], [0, 0]], np.float32)
    places = np.array([[0, 1], [1, -1], [-1, -1], [2, 1]])
    expected = [
        [(0.6 + 1 + 0) / 3, (0.8 + 0 + 1) / 3],
        [(0.6 + 0) / 2, (0.8 + 1) / 2],
        [0.6, 0.8],
        [0, 1 / 3],
    ]
    mean = expand_vectors(own, found, places)
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean, expected, rtol=2**-24)


def test_bags_by_hand() -> None:
    weights = np.array([1.0, 2.0, 0.0, 1.0])
    # Weighted (3, 4, 0, 0), of norm 5; (0, 2, 0, 1), of norm sqrt(5), where word 2 weighs nothing.
    own, found = bags_of({0: 3, 1: 2}, {0: 3, 1: 2}, {2: 9}), bags_of({1: 1, 2: 7, 3: 1}, {2: 1})
    mean = expand_bags(own, found, np.array([[0, 1], [-1, -1], [1, 0]]), weights)
    root = 5**0.5
    # Sums 3/5, 2/5 + 1/sqrt(5) = .847 and 1/sqrt(5); the greatest is in [1/2, 1): times 2 ** 31.
    sums = {0: 3 / 5, 1: 2 / 5 + 1 / root, 3: 1 / root}
    assert as_dict(mean, 0) == {word: round(value * 2**31) for word, value in sums.items()}
    # Alone: 3/5 and 2/5.
    assert as_dict(mean, 1) == {0: round(3 / 5 * 2**31), 1: round(2 / 5 * 2**31)}
    # Nothing of its own weighs anything. 1/sqrt(5) = .447 is in [1/4, 1/2): times 2 ** 32.
    assert as_dict(mean, 2) == {1: round(2**32 / root), 3: round(2**32 / root)}


def test_a_count_far_below_the_greatest_is_left_out_where_it_rounds_to_nothing() -> None:
    own = bags_of({0: 2**32 - 1, 1: 1, 2: 3})
    nobody = np.full((1, 3), -1)
    # The greatest share is 1, counted 2 ** 30 times: 1/4 rounds to nothing, 3/4 to 1.
    mean = expand_bags(own, bags_of(), nobody, np.ones(3))
    assert as_dict(mean, 0) == {0: 2**30, 2: 1}


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_bags_are_the_mean_of_bags_at_unit_length(seed: int, queries: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    own, found = random_bags(rng, queries), random_bags(rng, 10)
    places = np.array([rng.permutation(10)[:n] for _ in range(queries)])
    places[:, rng.integers(1, n + 1) :] = -1
    mean = expand_bags(own, found, places, WEIGHTS)
    for query in range(queries):
        members = [as_dict(own, query), *(as_dict(found, p) for p in places[query] if p >= 0)]
        total = np.zeros(WORDS)
        for member in members:
            vector = np.zeros(WORDS)
            for word, count in member.items():
                vector[word] = count * WEIGHTS[word]
            if vector.any():
                total += vector / np.linalg.norm(vector)
        counts = np.zeros(WORDS)
        for word, count in as_dict(mean, query).items():
            counts[word] = count
        if not total.any():
            assert not counts.any()
            continue
        assert 2**30 <= counts.max() <= 2**31
        weighted = counts * WEIGHTS
        np.testing.assert_allclose(
            weighted / np.linalg.norm(weighted), total / np.linalg.norm(total), rtol=2**-16
        )


def corpus(seed: int) -> tuple[SegmentData, QueryBatch]:
    """Pictures with twins and empty bags, and seven queries, of which one is a picture."""
    rng = np.random.default_rng(seed)
    vectors = rng.random((IMAGES, WIDTH), dtype=np.float32)
    vectors[3], vectors[4] = vectors[2], 0
    bags = random_bags(rng, IMAGES)
    asked = concatenate([random_bags(rng, 6), select(bags, np.array([5]))])
    queries = QueryBatch(
        {
            "high": np.concatenate([rng.random((6, WIDTH), dtype=np.float32), vectors[5:6]]),
            "low": asked,
        }
    )
    ids = np.sort(rng.choice(1_000, size=IMAGES, replace=False)).astype(np.int64)
    layers: dict[str, DenseLayer | LocalLayer] = {
        "high": dense_layer(vectors),
        "low": local_layer(bags, WEIGHTS),
    }
    return SegmentData(ids, layers), queries


def part_of(segment: SegmentData, rows: np.ndarray) -> SegmentData:
    high, low = segment.layers["high"], segment.layers["low"]
    assert isinstance(low, LocalLayer)
    assert isinstance(high, DenseLayer)
    layers: dict[str, DenseLayer | LocalLayer] = {
        "high": dense_layer(high.vectors[rows]),
        "low": local_layer(select(low.bags, rows), WEIGHTS),
    }
    return SegmentData(segment.image_ids[rows], layers)


class Several:
    """Servers in this process, each with segments in memory."""

    def __init__(self, *segments: SegmentData) -> None:
        self._searchers = []
        for segment in segments:
            searcher = SegmentSearcher.__new__(SegmentSearcher)
            searcher.segments = [segment]
            searcher._weights, searcher._find = {"low": WEIGHTS}, find_reached
            self._searchers.append(searcher)

    def __len__(self) -> int:
        return len(self._searchers)

    def ask(self, question: str, *arguments: Any) -> list[Any]:
        return [getattr(each, question)(*arguments) for each in self._searchers]


@pytest.mark.parametrize("n", [1, 3, 100])
def test_any_number_of_servers_and_batches_of_any_size_give_the_same_bits(n: int) -> None:
    segment, queries = corpus(n)
    one = Coordinator(Several(segment), IMAGES)
    expected = one.expanded(queries, SPEC, n)
    rows = np.random.default_rng(0).integers(0, 3, IMAGES)
    parts = [part_of(segment, np.flatnonzero(rows == part)) for part in range(3)]
    several = Coordinator(Several(*parts), IMAGES)
    assert_same(several.expanded(queries, SPEC, n), expected)
    with mock.patch.object(coordinating, "EXPANDED_AT_ONCE", 2):
        assert_same(one.expanded(queries, SPEC, n), expected)
    for query in range(len(queries)):
        alone = several.expanded(take_queries(queries, [query]), SPEC, n)
        assert_same(alone, take_queries(expected, [query]))
    answer = one.answer(expected, SPEC, 5)
    assert answer.certified.all()
    every = fuse(one.similarities(expected, LAYERS)[1], SPEC)
    np.testing.assert_array_equal(answer.scores, -np.sort(-every, axis=1)[:, :5])
    carded = search_exact(parts, expected, SPEC, 5, find=Card(parts, "cpu").find_reached)
    np.testing.assert_array_equal(carded.scores, answer.scores)
    again = several.answer(expected, SPEC, 5, mode="paper", candidates=IMAGES)
    np.testing.assert_array_equal(again.image_ids, answer.image_ids)
    np.testing.assert_array_equal(again.scores, answer.scores)


def test_the_pictures_are_the_best_of_the_fused_ranking_and_the_query_itself_counts() -> None:
    segment, queries = corpus(7)
    one = Coordinator(Several(segment), IMAGES)
    best = one.answer(queries, SPEC, 2).image_ids
    assert best[6, 0] == segment.image_ids[5]  # the query that is picture 5
    found = one.features(best.reshape(-1).tolist(), LAYERS)
    places = np.arange(best.size).reshape(best.shape)
    assert_same(one.expanded(queries, SPEC, 2), expand(queries, found, places, {"low": WEIGHTS}))


def test_layers_that_are_not_fused_are_left_out_and_none_is_expanded_by_nothing() -> None:
    segment, queries = corpus(8)
    one = Coordinator(Several(segment), IMAGES)
    assert list(one.expanded(queries, SPEC.alone("low"), 2).layers) == ["low"]
    assert one.expanded(queries, SPEC, 0) is queries


def test_a_layer_of_another_kind_is_named_before_anything_is_asked() -> None:
    asked: Any = {"high": np.ones((1, WIDTH), np.float32), "low": [b"residuals"]}
    servers = mock.MagicMock()
    with pytest.raises(InputError, match="queries with layer low cannot be expanded"):
        Coordinator(servers, IMAGES).expanded(QueryBatch(asked), SPEC, 2)
    servers.ask.assert_not_called()


def test_settings_without_expansion_are_stored_as_before() -> None:
    before = {"k": 100, "mode": "exact", "candidates": 1000, "batch_queries": 64}
    assert SearchSettings().model_dump(mode="json") == before
    assert JobConfig().model_dump(mode="json")["search"] == before
    three = SearchSettings(expand=3)
    assert three.model_dump(mode="json") == before | {"expand": 3}
    assert SearchSettings.from_json(three.to_json()) == three
