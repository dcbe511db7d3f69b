import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.pipeline.compiled import numba
from lamella.pipeline.errors import MismatchedQueries, UnknownLayer
from lamella.pipeline.index.bags import BagsOfWords, bags_from_words, select
from lamella.pipeline.search import block_scan, candidates
from lamella.pipeline.search.exact import lower_bounds, search_exact, similarities, top_by_layer
from lamella.pipeline.search.merge import common_floors, fuse_candidates, merge_answers
from lamella.pipeline.search.searcher import take_queries
from lamella.pipeline.search.segment import (
    Answer,
    DenseLayer,
    Features,
    Layer,
    LocalLayer,
    QueryBatch,
    SegmentData,
    dense_layer,
    local_layer,
)
from lamella.schemas.query import FusionSpec, LayerMap
from tests import reference

WORDS, WIDTH = 12, 5
WEIGHTS = np.linspace(0.0, 2.0, WORDS)
SPECS = [
    FusionSpec(layers=(LayerMap(layer="high", t=0.2, p=0.45), LayerMap(layer="low"))),
    FusionSpec(
        layers=(
            LayerMap(layer="high", t=0.2, p=0.45),
            LayerMap(layer="middle", t=0.4, p=0.45),
            LayerMap(layer="low"),
        )
    ),
    FusionSpec(layers=(LayerMap(layer="middle", t=0.2, p=0.0), LayerMap(layer="low"))),
    FusionSpec(layers=(LayerMap(layer="high"),)),
    FusionSpec(layers=(LayerMap(layer="low", t=0.3, p=0.5), LayerMap(layer="high"))),
    FusionSpec(
        layers=(
            LayerMap(layer="high", t=0.2, p=0.45, weight=0.3),
            LayerMap(layer="middle", t=0.4, p=0.45, weight=7.5),
            LayerMap(layer="low", weight=2.0),
        )
    ),
    FusionSpec(
        layers=(
            LayerMap(layer="high", t=0.2, p=0.45, weight=1e-3),
            LayerMap(layer="low", weight=1e3),
        )
    ),
]
seeds = st.integers(0, 2**32 - 1)


def random_bags(rng: np.random.Generator, images: int) -> BagsOfWords:
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 12, size=images))]).astype(np.int64)
    return bags_from_words(offsets, rng.integers(WORDS, size=offsets[-1], dtype=np.uint32))


def random_corpus(seed: int, images: int) -> tuple[SegmentData, QueryBatch]:
    """A corpus with what is hard: twins, near-ties just above t, zero vectors, empty bags."""
    rng = np.random.default_rng(seed)
    queries = rng.random((3, WIDTH), dtype=np.float32)
    vectors = rng.standard_normal((images, WIDTH)).astype(np.float32)
    # cos = 0.2 + a little: q / |q| * 0.2 plus what is at right angles to it
    q = queries[0].astype(np.float64) / np.linalg.norm(queries[0].astype(np.float64))
    for row in range(0, images, 3):
        aside = rng.standard_normal(WIDTH)
        aside -= (aside @ q) * q
        cosine = 0.2 + rng.choice([0.0, 1e-8, 1e-6, -1e-8])
        aside *= np.sqrt(1 - cosine**2) / np.linalg.norm(aside)
        vectors[row] = (cosine * q + aside).astype(np.float32)
    bags, middle = random_bags(rng, images), random_bags(rng, images)
    if images > 4:
        vectors[4] = 0
        vectors[images - 1] = vectors[1]
        twins = np.arange(images)
        twins[images - 1] = 1
        bags, middle = select(bags, twins), select(middle, twins)
    queries[2] = 0
    ids = np.sort(rng.choice(10 * images + 1, size=images, replace=False)).astype(np.int64)
    layers: dict[str, Layer] = {
        "high": dense_layer(vectors),
        "middle": local_layer(middle, WEIGHTS),
        "low": local_layer(bags, WEIGHTS),
    }
    asked: dict[str, Features] = {
        "high": queries,
        "middle": random_bags(rng, 3),
        "low": random_bags(rng, 3),
    }
    return SegmentData(ids, layers), QueryBatch(asked)


def part_of(segment: SegmentData, rows: np.ndarray) -> SegmentData:
    def layer_of(layer: Layer) -> Layer:
        if isinstance(layer, DenseLayer):
            return dense_layer(layer.vectors[rows])
        assert isinstance(layer, LocalLayer)
        return local_layer(select(layer.bags, rows), WEIGHTS)

    layers = {name: layer_of(layer) for name, layer in segment.layers.items()}
    return SegmentData(segment.image_ids[rows], layers)


def cut(segment: SegmentData, rng: np.random.Generator) -> list[SegmentData]:
    owner = rng.integers(0, 4, size=len(segment))
    return [part_of(segment, np.flatnonzero(owner == o)) for o in range(4)]


def as_dict(bags: BagsOfWords, row: int) -> dict[int, int]:
    entries = slice(bags.offsets[row], bags.offsets[row + 1])
    return dict(zip(bags.words[entries].tolist(), bags.counts[entries].tolist(), strict=True))


def reference_similarity(
    segment: SegmentData, queries: QueryBatch, name: str, query: int, row: int
) -> float:
    asked, layer = queries.layers[name], segment.layers[name]
    if isinstance(asked, BagsOfWords):
        assert isinstance(layer, LocalLayer)
        return reference.cosine_of_bags(as_dict(asked, query), as_dict(layer.bags, row), WEIGHTS)
    assert isinstance(layer, DenseLayer)
    assert isinstance(asked, np.ndarray)
    return reference.cosine_of_vectors(asked[query], layer.vectors[row])


def assert_same(left: Answer, right: Answer) -> None:
    assert left.image_ids.tobytes() == right.image_ids.tobytes()
    assert left.scores.tobytes() == right.scores.tobytes()
    assert left.similarities.tobytes() == right.similarities.tobytes()
    assert left.certified.tobytes() == right.certified.tobytes()


@given(seeds, st.integers(1, 25), st.integers(1, 30), st.sampled_from(SPECS))
@settings(max_examples=14, deadline=None)
def test_exact_search_is_brute_force(seed: int, n: int, k: int, spec: FusionSpec) -> None:
    segment, queries = random_corpus(seed, n)
    answer = search_exact([segment], queries, spec, k)
    assert answer.certified.all()
    names = [entry.layer for entry in spec.layers]
    every = similarities(segment, queries, names)
    maps = [(entry.t, entry.p) for entry in spec.layers]
    weights = [entry.weight for entry in spec.layers]
    for query in range(len(queries)):
        for c, name in enumerate(names):
            slow = [reference_similarity(segment, queries, name, query, row) for row in range(n)]
            np.testing.assert_allclose(every[c, query], slow, rtol=0, atol=1e-12)
        # From the decided similarities on, the ranking is the plain one, ties and all.
        values = reference.scores(every[:, query].tolist(), maps, weights)
        best = reference.ranking(segment.image_ids.tolist(), values, k)
        held = len(best)
        assert answer.image_ids[query].tolist() == [i for i, _ in best] + [-1] * (k - held)
        np.testing.assert_allclose(
            answer.scores[query, :held], [s for _, s in best], rtol=1e-9, atol=1e-9
        )
        assert np.all(answer.scores[query, held:] == -np.inf)


@given(seeds, st.integers(1, 30), st.integers(1, 12), st.sampled_from(SPECS))
@settings(max_examples=16, deadline=None)
def test_answer_is_the_same_however_the_corpus_is_cut(
    seed: int, n: int, k: int, spec: FusionSpec
) -> None:
    segment, queries = random_corpus(seed, n)
    parts = cut(segment, np.random.default_rng(seed))
    merged = merge_answers([search_exact([part], queries, spec, k) for part in parts], k)
    assert_same(merged, search_exact([segment], queries, spec, k))


@given(seeds, st.integers(1, 30), st.integers(1, 12), st.sampled_from(SPECS))
@settings(max_examples=14, deadline=None)
def test_floors_of_all_parts_change_no_answer(seed: int, n: int, k: int, spec: FusionSpec) -> None:
    segment, queries = random_corpus(seed, n)
    k = min(k, n)
    parts = cut(segment, np.random.default_rng(seed))
    whole = search_exact([segment], queries, spec, k)
    # Blocks hold all images here, so the floors are the k-th best but for rounding.
    floors = common_floors([lower_bounds([part], queries, spec, k) for part in parts], k)
    kth = whole.scores[:, k - 1] / max(entry.weight for entry in spec.layers)
    np.testing.assert_allclose(floors, kth, atol=0.2)
    assert np.all(floors <= kth)
    answers = [search_exact([part], queries, spec, k, floors=floors) for part in parts]
    assert_same(merge_answers(answers, k), whole)
    fewer = sum(int(np.count_nonzero(answer.image_ids >= 0)) for answer in answers)
    alone = [search_exact([part], queries, spec, k) for part in parts]
    assert fewer <= sum(int(np.count_nonzero(answer.image_ids >= 0)) for answer in alone)


def test_no_query_has_no_answer() -> None:
    segment, queries = random_corpus(3, 20)
    nobody = take_queries(queries, [])
    assert search_exact([segment], nobody, SPECS[1], 4).image_ids.shape == (0, 4)


def test_floors_by_hand() -> None:
    # The three best of 5, 1, nothing and 4, 3, 2 are 5, 4, 3; of one image there is no third.
    bounds = [np.array([[5, 1, -np.inf]]), np.array([[4, 3, 2.0]])]
    assert common_floors(bounds, 3).tolist() == [3]
    assert common_floors([np.array([[5, -np.inf, -np.inf]])], 3).tolist() == [-np.inf]


@pytest.mark.parametrize("block", [1, 7, 16])
def test_answer_is_the_same_in_blocks_of_any_size(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    segment, queries = random_corpus(11, 100)
    whole = search_exact([segment], queries, SPECS[1], 9)
    monkeypatch.setattr(block_scan, "BLOCK_IMAGES", block)
    monkeypatch.setattr(block_scan, "FIRST_IMAGES", block // 2 + 1)
    assert_same(search_exact([segment], queries, SPECS[1], 9), whole)


@pytest.mark.parametrize("threads", [1, 3, 8])
def test_answer_is_the_same_in_ranges_of_images(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    segment, queries = random_corpus(12, 100)
    rows = np.arange(100)
    parts = [part_of(segment, rows[:70]), part_of(segment, rows[70:])]
    whole = search_exact([segment], queries, SPECS[1], 9)
    allowed = [rows[:70] % 3 > 0, rows[70:] % 3 > 0]
    some = search_exact(parts, queries, SPECS[1], 9, allowed=allowed)
    monkeypatch.setattr(candidates, "BLOCK_IMAGES", 6)
    monkeypatch.setattr(numba, "get_num_threads", lambda: threads)
    assert len(candidates.cut(3, [100], threads)[1]) == threads
    assert_same(search_exact([segment], queries, SPECS[1], 9), whole)
    assert_same(search_exact(parts, queries, SPECS[1], 9, allowed=allowed), some)


def test_answer_is_the_same_for_a_query_alone() -> None:
    segment, queries = random_corpus(5, 60)
    whole = search_exact([segment], queries, SPECS[1], 8)
    for query in range(len(queries)):
        alone = take_queries(queries, [query])
        found = search_exact([segment], alone, SPECS[1], 8)
        assert found.image_ids[0].tobytes() == whole.image_ids[query].tobytes()
        assert found.scores[0].tobytes() == whole.scores[query].tobytes()


@given(seeds, st.integers(1, 20), st.integers(1, 8), st.sampled_from(SPECS))
@settings(max_examples=10, deadline=None)
def test_all_images_as_candidates_are_the_exact_answer(
    seed: int, n: int, k: int, spec: FusionSpec
) -> None:
    segment, queries = random_corpus(seed, n)
    names = [entry.layer for entry in spec.layers]
    parts = cut(segment, np.random.default_rng(seed))
    lists = [top_by_layer(part, queries, names, n) for part in parts]
    whole = search_exact([segment], queries, spec, k)
    for mode in ("candidates", "paper"):
        assert_same(fuse_candidates(lists, spec, k, n, n, mode), whole)


@given(seeds, st.integers(1, 6))
@settings(max_examples=5, deadline=None)
def test_candidates_are_the_same_however_the_corpus_is_cut(seed: int, n: int) -> None:
    segment, queries = random_corpus(seed, 30)
    names = [entry.layer for entry in SPECS[1].layers]
    for mode in ("candidates", "paper"):
        found = [
            fuse_candidates(
                [top_by_layer(part, queries, names, n) for part in parts], SPECS[1], 4, n, 30, mode
            )
            for parts in ([segment], cut(segment, np.random.default_rng(seed)))
        ]
        assert_same(*found)
        assert not found[0].certified.any()


def test_the_paper_mode_misses_what_the_low_layer_proposes() -> None:
    # One query; image 1 has (S_1, S_2) = (.15, .70), image 2 has (.50, .10).
    # F = .85 for image 1 and .8145 for image 2; the best of the high layer is image 2.
    def angled(cosines: list[float]) -> np.ndarray:
        return np.array([[c, np.sqrt(1 - c * c)] for c in cosines], dtype=np.float32)

    segment = SegmentData(
        np.array([1, 2]),
        {"high": dense_layer(angled([0.15, 0.50])), "low": dense_layer(angled([0.70, 0.10]))},
    )
    axis = np.array([[1, 0]], dtype=np.float32)
    queries = QueryBatch({"high": axis, "low": axis})
    lists = [top_by_layer(segment, queries, ["high", "low"], 1)]
    assert fuse_candidates(lists, SPECS[0], 1, 1, 2, "paper").image_ids.tolist() == [[2]]
    assert fuse_candidates(lists, SPECS[0], 1, 1, 2, "candidates").image_ids.tolist() == [[1]]
    answer = search_exact([segment], queries, SPECS[0], 2)
    assert answer.image_ids.tolist() == [[1, 2]]
    assert answer.scores[0].tolist() == pytest.approx([0.85, 0.81452], abs=5e-6)
    assert answer.similarities[0, 0].tolist() == pytest.approx([0.15, 0.70], abs=1e-7)


def test_an_empty_segment_answers_with_nothing() -> None:
    segment, queries = random_corpus(1, 3)
    empty = part_of(segment, np.empty(0, dtype=np.int64))
    answer = search_exact([empty], queries, SPECS[0], 2)
    assert answer.image_ids.tolist() == [[-1, -1]] * 3
    merged = merge_answers([answer, search_exact([segment], queries, SPECS[0], 2)], 2)
    assert_same(merged, search_exact([segment], queries, SPECS[0], 2))


def test_what_does_not_fit_is_refused_by_name() -> None:
    segment, queries = random_corpus(2, 6)
    with pytest.raises(UnknownLayer, match="fc9"):
        search_exact([segment], queries, FusionSpec(layers=(LayerMap(layer="fc9"),)), 1)
    with pytest.raises(ValueError, match="k must be at least 1"):
        search_exact([segment], queries, SPECS[0], 0)
    swapped = QueryBatch({"high": queries.layers["low"], "low": queries.layers["low"]})
    with pytest.raises(ValueError, match=r"holds .*, its queries are"):
        search_exact([segment], swapped, SPECS[0], 1)
    with pytest.raises(ValueError, match="same queries"):
        QueryBatch({"high": np.zeros((2, WIDTH), np.float32), "low": queries.layers["low"]})
    answer = search_exact([segment], queries, SPECS[0], 1)
    other = Answer(
        answer.image_ids[:1], answer.scores[:1], answer.similarities[:1], np.ones(1, "?")
    )
    with pytest.raises(MismatchedQueries, match=r"\[1, 3\]"):
        merge_answers([answer, other], 1)
