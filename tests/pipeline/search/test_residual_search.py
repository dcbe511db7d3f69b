"""Residuals in a fusion: exact search is brute force, to the bit, however it is cut and fused."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.pipeline.errors import InputError
from lamella.pipeline.index.bags import select as select_bags
from lamella.pipeline.index.residuals import Kind, Residuals, aggregate, select
from lamella.pipeline.search import block_scan, candidates
from lamella.pipeline.search.exact import lower_bounds, search_exact, similarities, top_by_layer
from lamella.pipeline.search.fuse import fuse
from lamella.pipeline.search.merge import common_floors, fuse_candidates, merge_answers
from lamella.pipeline.search.on_gpu import Card
from lamella.pipeline.search.query_layers import match_layer
from lamella.pipeline.search.rank import best_of
from lamella.pipeline.search.residual_score import residual_similarities_of, start_scan
from lamella.pipeline.search.score import Candidates
from lamella.pipeline.search.searcher import take_queries
from lamella.pipeline.search.segment import (
    Answer,
    DenseLayer,
    Layer,
    QueryBatch,
    ResidualLayer,
    SegmentData,
    dense_layer,
    local_layer,
    residual_layer,
)
from lamella.pipeline.search.segment import Features as AskedLayer
from lamella.pipeline.search.topk import Effort
from lamella.schemas.query import FusionSpec, LayerMap
from tests import reference
from tests.pipeline.index.test_residuals import as_vectors
from tests.pipeline.search.test_exact import WEIGHTS, assert_same, random_bags

WORDS, WIDTH = 12, 5
BITS = 21
KERNEL = LayerMap(layer="low", t=0.1, p=0.5)
SPECS = [
    FusionSpec(layers=(LayerMap(layer="low"),)),
    FusionSpec(layers=(KERNEL, LayerMap(layer="high"))),
    FusionSpec(layers=(LayerMap(layer="high", t=0.2, p=0.45), LayerMap(layer="low"))),
    FusionSpec(layers=(LayerMap(layer="high", weight=0.02), LayerMap(layer="low", weight=3.0))),
    FusionSpec(layers=(LayerMap(layer="high", t=0.05, p=0.0), KERNEL, LayerMap(layer="bits"))),
    FusionSpec(
        layers=(
            LayerMap(layer="bits", t=0.2, p=0.3, weight=0.7),
            LayerMap(layer="high", t=1.0, weight=0.1),
            LayerMap(layer="bag"),
        )
    ),
]
seeds = st.integers(0, 2**32 - 1)
specs = st.sampled_from(SPECS)


def random_residuals(rng: np.random.Generator, images: int, kind: Kind, width: int) -> Residuals:
    owners = np.sort(rng.integers(0, max(images, 1), size=8 * images if images else 0))
    words = rng.integers(WORDS, size=len(owners), dtype=np.uint32)
    centroids = rng.standard_normal((WORDS, width)).astype(np.float32)
    # Few distinct descriptors: so products are often near 1, and many similarities are equal.
    few = rng.standard_normal((6, width)).astype(np.float16)
    rows = few[rng.integers(len(few), size=len(owners))]
    return aggregate(owners, words, rows, centroids, np.arange(images), kind)


def random_corpus(seed: int, images: int) -> tuple[SegmentData, QueryBatch]:
    """A corpus with twins, pictures without words, and queries of which one is an image."""
    rng = np.random.default_rng(seed)
    twins = np.arange(images)
    twins[-1] = 0
    low = select(random_residuals(rng, images, "float16", 19), twins)
    bits = select(random_residuals(rng, images, "bits", BITS), twins)
    vectors = rng.standard_normal((images, WIDTH)).astype(np.float32)[twins]
    bags = random_bags(rng, images)
    layers: dict[str, Layer] = {
        "high": dense_layer(vectors),
        "low": residual_layer(low, WORDS),
        "bits": residual_layer(bits, WORDS),
        "bag": local_layer(bags, WEIGHTS),
    }
    chosen = rng.integers(0, images, size=3)
    asked: dict[str, AskedLayer] = {
        "high": vectors[chosen],
        "low": select(low, chosen),
        "bits": random_residuals(rng, 3, "bits", BITS),
        "bag": random_bags(rng, 3),
    }
    ids = np.sort(rng.choice(10 * images + 1, size=images, replace=False)).astype(np.int64)
    return SegmentData(ids, layers), QueryBatch(asked)


def part_of(segment: SegmentData, rows: np.ndarray) -> SegmentData:
    def layer_of(layer: Layer) -> Layer:
        if isinstance(layer, ResidualLayer):
            return residual_layer(layer.of(rows), WORDS)
        if isinstance(layer, DenseLayer):
            return dense_layer(layer.vectors[rows])
        return local_layer(select_bags(layer.bags, rows), WEIGHTS)

    layers = {name: layer_of(layer) for name, layer in segment.layers.items()}
    return SegmentData(segment.image_ids[rows], layers)


def cut(segment: SegmentData, seed: int) -> list[SegmentData]:
    owner = np.random.default_rng(seed).integers(0, 4, size=len(segment))
    return [part_of(segment, np.flatnonzero(owner == each)) for each in range(4)]


def brute_force(segment: SegmentData, queries: QueryBatch, spec: FusionSpec, k: int) -> Answer:
    every = similarities(segment, queries, [entry.layer for entry in spec.layers])
    query_of, rows = (
        each.reshape(-1) for each in np.indices((len(queries), len(segment)), np.int64)
    )
    values = every.reshape(len(every), -1)
    ids = segment.image_ids[rows]
    return best_of(query_of, ids, fuse(values, spec), values, len(queries), k)


@given(seeds, st.integers(1, 25), st.integers(1, 9), specs)
@settings(max_examples=12, deadline=None)
def test_a_filter_leaves_the_best_of_the_others(
    seed: int, n: int, k: int, spec: FusionSpec
) -> None:
    segment, queries = random_corpus(seed, n)
    mask = np.random.default_rng(seed).random(n) < 0.5
    expected = brute_force(part_of(segment, np.flatnonzero(mask)), queries, spec, k)
    with mock.patch.multiple(block_scan, BLOCK_IMAGES=4, FIRST_IMAGES=2):
        assert_same(search_exact([segment], queries, spec, k, allowed=[mask]), expected)


@given(seeds, st.integers(1, 25), st.sampled_from(["low", "bits"]))
@settings(max_examples=16, deadline=None)
def test_similarities_are_those_of_the_plain_kernel(seed: int, n: int, name: str) -> None:
    segment, queries = random_corpus(seed, n)
    layer, asked = segment.layers[name], queries.layers[name]
    assert isinstance(layer, ResidualLayer)
    assert isinstance(asked, Residuals)
    every = match_layer(segment, queries, name).similarities()
    held = layer.of(np.arange(n))
    slow = [
        [reference.match_kernel(as_vectors(asked, q), as_vectors(held, row)) for row in range(n)]
        for q in range(3)
    ]
    np.testing.assert_allclose(every, slow, rtol=0, atol=1e-12)
    candidates = Candidates(np.arange(4) * n, np.tile(np.arange(n), 3))
    some = residual_similarities_of(asked, candidates, layer)
    assert some.tobytes() == every.tobytes()


@given(seeds, st.integers(1, 40), st.integers(1, 45), specs)
@settings(max_examples=25, deadline=None)
def test_exact_search_is_brute_force_to_the_bit(
    seed: int, n: int, k: int, spec: FusionSpec
) -> None:
    segment, queries = random_corpus(seed, n)
    answer = search_exact([segment], queries, spec, k)
    assert answer.certified.all()
    assert_same(answer, brute_force(segment, queries, spec, k))


@given(seeds, st.integers(30, 90), st.integers(1, 4), specs)
@settings(max_examples=16, deadline=None)
def test_blocks_that_read_few_residuals_change_no_answer(
    seed: int, n: int, k: int, spec: FusionSpec
) -> None:
    segment, queries = random_corpus(seed, n)
    with (
        mock.patch.multiple(block_scan, BLOCK_IMAGES=11, FIRST_IMAGES=5),
        mock.patch.object(candidates, "BLOCK_IMAGES", 11),  # ranges begin within the segment
    ):
        effort = Effort()
        answer = search_exact([segment], queries, spec, k, effort=effort)
    assert_same(answer, brute_force(segment, queries, spec, k))
    assert 0 <= effort.payloads_read <= effort.payloads
    if all(entry.layer != "high" for entry in spec.layers):
        assert effort.payloads_read == effort.payloads


@given(seeds, st.integers(1, 30), st.integers(1, 12), specs)
@settings(max_examples=16, deadline=None)
def test_answer_is_the_same_however_the_corpus_is_cut(
    seed: int, n: int, k: int, spec: FusionSpec
) -> None:
    segment, queries = random_corpus(seed, n)
    parts, k = cut(segment, seed), min(k, n)
    whole = search_exact([segment], queries, spec, k)
    assert_same(search_exact(parts, queries, spec, k), whole)
    floors = common_floors([lower_bounds([part], queries, spec, k) for part in parts], k)
    answers = [search_exact([part], queries, spec, k, floors=floors) for part in parts]
    assert_same(merge_answers(answers, k), whole)
    names = [entry.layer for entry in spec.layers]
    lists = [top_by_layer(part, queries, names, n) for part in parts]
    assert_same(fuse_candidates(lists, spec, k, n, n, "candidates"), whole)
    for query in range(3):
        alone = search_exact([segment], take_queries(queries, [query]), spec, k)
        assert alone.scores[0].tobytes() == whole.scores[query].tobytes()


@given(seeds, st.integers(1, 40), st.sampled_from(["low", "bits"]))
@settings(max_examples=16, deadline=None)
def test_bounds_hold_in_every_block(seed: int, n: int, name: str) -> None:
    segment, queries = random_corpus(seed, n)
    layer, asked = segment.layers[name], queries.layers[name]
    assert isinstance(layer, ResidualLayer)
    assert isinstance(asked, Residuals)
    true = match_layer(segment, queries, name).similarities()
    scan = start_scan(asked, layer)
    for first in range(0, n, 7):
        out = np.empty((3, min(7, n - first)), np.float32)
        block = true[:, first : first + 7]
        assert scan.begin_block(first, out, in_steps=True)
        assert (out >= block - 1e-7).all()
        rows = np.tile(np.arange(out.shape[1], dtype=np.int32), (3, 1))
        scan.end_block(first, out, rows, np.full(3, out.shape[1]))
        assert (out >= block - 1e-7).all()
        assert (out - block <= scan.errors[:, None] * out ** (2 / 3) + 1e-7).all()


def test_a_picture_is_its_own_best_match() -> None:
    segment, _ = random_corpus(4, 30)
    for name in ("low", "bits"):
        layer = segment.layers[name]
        assert isinstance(layer, ResidualLayer)
        own = match_layer(segment, QueryBatch({name: layer.of(np.arange(30))}), name)
        values = own.similarities()
        has_words = np.diff(layer.bags.offsets) > 0
        np.testing.assert_allclose(np.diag(values), has_words, atol=3e-3)
        assert values.max() <= 1.0
        assert (values == values.T).all()


@given(seeds, st.integers(1, 25))
@settings(max_examples=14, deadline=None)
def test_signs_in_whole_words_of_64_give_the_plain_kernel(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    held = random_residuals(rng, n, "bits", 128)
    segment = SegmentData(np.arange(n), {"bits": residual_layer(held, WORDS)})
    queries = QueryBatch({"bits": held})
    values = similarities(segment, queries, ["bits"])[0]
    stored = [as_vectors(held, row) for row in range(n)]
    slow = [[reference.match_kernel(left, right) for right in stored] for left in stored]
    np.testing.assert_allclose(values, slow, rtol=0, atol=1e-12)
    spec = FusionSpec(layers=(LayerMap(layer="bits"),))
    assert_same(search_exact([segment], queries, spec, 5), brute_force(segment, queries, spec, 5))


def test_a_kernel_by_hand() -> None:
    # Words 0 and 1 of both have products .6 and -1: S = .6 ** 3 / sqrt(2 * 2) = .108.
    rows = np.array([[1, 0], [0, 1], [0.6, 0.8], [0, -1]], np.float16)
    kept = aggregate(
        np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1], np.uint32), rows,
        np.zeros((2, 2), np.float32), np.array([0, 1]), "float16",
    )  # fmt: skip
    segment = SegmentData(np.array([0, 1]), {"low": residual_layer(kept, 2)})
    values = similarities(segment, QueryBatch({"low": kept}), ["low"])[0]
    np.testing.assert_allclose(values, [[1, 0.108], [0.108, 1]], atol=1e-3)


def test_what_is_asked_of_another_kind_of_layer_is_refused() -> None:
    segment, queries = random_corpus(1, 9)
    for name, other, said in (
        ("low", "bag", "layer low holds residuals, its queries are bags of words"),
        ("bag", "low", "layer bag holds bags of words, its queries are residuals"),
        ("high", "low", "layer high holds vectors, its queries are residuals"),
        ("low", "high", "layer low holds residuals, its queries are vectors"),
        ("low", "bits", "of 19 dimensions as float16 .* the queries have 21 as bits"),
    ):
        wrong = QueryBatch({name: queries.layers[other]})
        with pytest.raises(ValueError, match=said):
            match_layer(segment, wrong, name)
    layer = segment.layers["low"]
    assert isinstance(layer, ResidualLayer)
    with pytest.raises(ValueError, match=r"postings and .* residuals for"):
        ResidualLayer(layer.bags, layer.postings, layer.payload[1:], layer.dimensions)


def test_a_card_refuses_residuals_in_words() -> None:
    segment, _ = random_corpus(1, 9)
    with pytest.raises(InputError, match=r"this index has residuals .*search_on"):
        Card([segment], "cpu")
