"""Fast search: any cut, any number of servers, and what was proposed is decided exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.pipeline.arrays import Bools, Int64s
from lamella.pipeline.errors import InputError
from lamella.pipeline.index.bags import BagsOfWords, bags_from_words
from lamella.pipeline.proposers.opened import Asked, Looked
from lamella.pipeline.search import fast, propose
from lamella.pipeline.search.coordinator import Coordinator
from lamella.pipeline.search.exact import search_exact, similarities
from lamella.pipeline.search.fuse import fuse
from lamella.pipeline.search.heavy_words import heavy_words
from lamella.pipeline.search.merge import only_above
from lamella.pipeline.search.rank import best_of
from lamella.pipeline.search.reaches import reach_for
from lamella.pipeline.search.searcher import take_queries
from lamella.pipeline.search.segment import (
    Answer,
    DenseLayer,
    QueryBatch,
    SegmentData,
    dense_layer,
    local_layer,
)
from lamella.schemas.query import FusionSpec, LayerMap
from lamella.schemas.snapshot import Reach
from tests.pipeline.search.fast_servers import Cells, Exact, Servers, known, reach
from tests.pipeline.search.test_exact import (
    SPECS,
    WEIGHTS,
    WORDS,
    assert_same,
    part_of,
    random_corpus,
    seeds,
)

OF_WORDS = {"low": WEIGHTS, "middle": WEIGHTS}
WITH_VECTORS = [spec for spec in SPECS if any(each.layer == "high" for each in spec.layers)]


def cut_into(segment: SegmentData, parts: int) -> tuple[list[SegmentData], list[Int64s]]:
    """Deal images out; the last part of more than two is empty."""
    dealt = max(1, parts - (parts > 2))
    rows = [np.arange(len(segment))[part::dealt] for part in range(dealt)]
    rows += [np.empty(0, np.int64)] * (parts - dealt)
    return [part_of(segment, own) for own in rows], rows


@given(seeds, st.integers(1, 40), st.integers(1, 12), st.sampled_from(WITH_VECTORS))
@settings(max_examples=12, deadline=None)
def test_with_everything_proposed_it_is_the_exact_search(
    seed: int, n: int, k: int, spec: FusionSpec
) -> None:
    segment, queries = random_corpus(seed, n)
    # A query of zeros has no direction, and no vector proposes anything for it.
    queries = take_queries(queries, [0, 1])
    coordinator = Coordinator(Servers([segment], OF_WORDS), n, known(reach()))
    found = coordinator.answer(queries, spec, k, mode="candidates")
    assert_same(found, search_exact([segment], queries, spec, min(k, n)))


@pytest.mark.parametrize("spec", [SPECS[0], SPECS[1], SPECS[3]])
@pytest.mark.parametrize("near", [reach(3, 12, 30), reach(8, 11, 0), reach(3, 14, 30, decided=11)])
def test_any_cut_and_any_number_of_servers_give_the_same_bytes(
    spec: FusionSpec, near: Reach
) -> None:
    segment, queries = random_corpus(11, 90)
    centres = np.random.default_rng(2).standard_normal((8, 5)).astype(np.float32)
    expected = None
    for parts in (1, 3, 7):
        cut, _ = cut_into(segment, parts)
        cells = [{"high": Cells(high_of(each), centres)} for each in cut]
        for servers in (1, 2):
            asked = Servers(cut, OF_WORDS, servers, cells)
            coordinator = Coordinator(asked, 90, known(reach()))
            found = coordinator.answer_by(near, queries, spec, 10)
            expected = expected or found
            assert_same(found, expected)
    assert expected is not None
    assert not expected.certified.any()


def high_of(segment: SegmentData) -> DenseLayer:
    layer = segment.layers["high"]
    assert isinstance(layer, DenseLayer)
    return layer


def plain(
    segment: SegmentData, queries: QueryBatch, spec: FusionSpec, k: int, proposed: list[Bools]
) -> Answer:
    """The obvious way: score everything, and leave out what was not proposed; (Q, n) a layer."""
    names = [entry.layer for entry in spec.layers]
    table = similarities(segment, queries, names)
    query_of, rows = np.nonzero(np.logical_or.reduce(proposed))
    values = table[:, query_of, rows]
    ids = segment.image_ids[rows]
    return best_of(query_of, ids, fuse(values, spec), values, len(queries), k, certified=False)


@pytest.mark.parametrize("budget", [0, 1, 6, 25, 60, 10_000])
def test_proposals_are_the_best_by_what_is_known_and_by_the_heaviest_lists(budget: int) -> None:
    segment, queries = random_corpus(23, 120)
    queries = take_queries(queries, [0, 1])  # the third has no direction
    spec, size = SPECS[0].direct(), 7
    high = similarities(segment, queries, ["high"])[0]
    low = heaviest(segment, queries, budget)
    # A dense layer that looks at half of the images ranks these by both layers.
    half = np.arange(120) < 60
    fused = fuse(np.stack([high, low]), spec)
    proposed = []
    for scores, mask in ((fused, half & (high > -1)), (low, ~half & (low > 0))):
        order = np.argsort(-np.where(mask, scores, -1), axis=1, kind="stable")[:, :size]
        chosen = np.zeros(scores.shape, np.bool_)
        np.put_along_axis(chosen, order, np.take_along_axis(mask, order, axis=1), axis=1)
        proposed.append(chosen)
    servers = Servers([segment], OF_WORDS, 1, [{"high": Some(high_of(segment), half)}])
    coordinator = Coordinator(servers, 120, known(reach()))
    found = coordinator.answer_by(reach(8, size, budget), queries, spec, size)
    expected = plain(segment, queries, spec, size, proposed)
    scored = expected.scores > 0
    assert np.array_equal(found.image_ids[scored], expected.image_ids[scored])
    assert np.array_equal(found.scores[scored], expected.scores[scored])


@pytest.mark.parametrize("spec", SPECS[:4])
@pytest.mark.parametrize("decided", [6, 9, 15])
def test_what_is_decided_on_is_the_best_by_what_is_known_of_f(
    spec: FusionSpec, decided: int
) -> None:
    # A dense layer looks at half of the images; local layers propose 12 of the others, or of all.
    segment, queries = random_corpus(29, 120)
    queries = take_queries(queries, [0, 1])
    layers, size, budget = [entry.layer for entry in spec.layers], 12, 25
    half = np.arange(120) < 60
    exact = similarities(segment, queries, layers)
    read = {name: heaviest(segment, queries, budget, name) for name in ("low", "middle")}
    dense = "high" in layers
    locals_, estimates = [each for each in layers if each != "high"], np.full((2, 120), -np.inf)
    for name in layers:
        # A dense layer knows what was read of the first local one, a local one what is dense.
        knows = {"high", *(locals_[:1] if name == "high" else [name])}
        known_of = [read.get(each, exact[c]) * (each in knows) for c, each in enumerate(layers)]
        f = fuse(np.stack(known_of), spec)
        if name == "high":
            mask, rank, limit = np.tile(half, (2, 1)), f, min(decided, size)
        else:
            mask, rank, limit = read[name] > 0, read[name], size if dense else min(decided, size)
            mask &= ~(half & (dense and name == locals_[0]))
        mask &= first_of(np.where(mask, rank, -np.inf), limit)
        estimates = np.maximum(estimates, np.where(mask, f, -np.inf))
    chosen = first_of(estimates, decided) & (estimates > -np.inf)
    made = [{"high": Some(high_of(segment), half)}]
    coordinator = Coordinator(Servers([segment], OF_WORDS, 1, made), 120, known(reach()))
    near = reach(8, size, budget, decided=decided)
    found = coordinator.answer_by(near, queries, spec, 6)
    expected = plain(segment, queries, spec, 6, [chosen])
    assert np.array_equal(found.image_ids, expected.image_ids)
    assert np.array_equal(found.scores, expected.scores)


def first_of(scores: np.ndarray, size: int) -> np.ndarray:
    """Which of each row are its `size` highest; of equal ones the first; (Q, n)."""
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.argsort(order, axis=1, kind="stable") < size


class Some(Exact):
    """A proposer that looks at some images."""

    def __init__(self, layer: DenseLayer, some: Bools) -> None:
        super().__init__(layer)
        self._some = some

    def look(self, asked: Asked, allowed: Bools | None = None) -> Looked:
        return super().look(asked, self._some if allowed is None else self._some & allowed)


def heaviest(
    segment: SegmentData, queries: QueryBatch, budget: int, name: str = "low"
) -> np.ndarray:
    """Similarities (Q, n) by the words that a budget lets in, in plain Python."""
    bags, layer = queries.layers[name], segment.layers[name]
    assert isinstance(bags, BagsOfWords)
    lists = layer.postings  # type: ignore[union-attr]
    out = np.zeros((len(bags), len(segment)))
    for query in range(len(bags)):
        own = range(bags.offsets[query], bags.offsets[query + 1])
        terms = [(int(bags.words[e]), int(bags.counts[e])) for e in own]
        norm = np.sqrt(sum((count * WEIGHTS[word]) ** 2 for word, count in terms))
        left = budget
        for word, count in sorted(terms, key=lambda t: (-t[1] * WEIGHTS[t[0]] ** 2, t[0])):
            first, last = lists.offsets[word], lists.offsets[word + 1]
            if last - first > left:
                continue
            left -= last - first
            for entry in range(first, last):
                row = lists.rows[entry]
                if norm * layer.norms[row] > 0:  # type: ignore[union-attr]
                    out[query, row] += (
                        count * WEIGHTS[word] ** 2 * lists.counts[entry]
                        / (norm * layer.norms[row])  # type: ignore[union-attr]
                    )  # fmt: skip
    return out


def test_the_heaviest_words_that_fit_are_read_worked_by_hand() -> None:
    # Lists: word 0 in images 0 1 2 3, word 1 in 2 3, word 2 in 3. Weights 1, 2, 1; a query holds
    # word 0 five times, 1 once, 2 once: impacts 5, 4, 1. A budget of 3 passes over word 0 (4
    # postings), takes word 1 (2) and word 2 (1).
    weights = np.array([1.0, 2.0, 1.0])
    asked = BagsOfWords(
        np.array([0, 3]), np.array([0, 1, 2], np.uint32), np.array([5, 1, 1], np.uint32)
    )
    frequencies = np.array([4, 2, 1])
    taken = {
        budget: heavy_words(asked, weights, frequencies, budget).words.tolist()
        for budget in (0, 1, 2, 3, 4, 5, 6, 7)
    }
    assert taken == {
        0: [], 1: [2], 2: [1], 3: [1, 2], 4: [0], 5: [0, 2], 6: [0, 1], 7: [0, 1, 2],
    }  # fmt: skip
    found = heavy_words(asked, weights, frequencies, 3)
    assert found.factors.tolist() == [4.0, 1.0]
    assert found.norms.tolist() == [np.sqrt(25.0 + 4.0 + 1.0)]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("servers", [1, 2])
def test_a_filter_says_what_may_be_proposed(share: float, servers: int) -> None:
    segment, queries = random_corpus(5, 80)
    mask = np.random.default_rng(1).random(80) < share
    cut, rows = cut_into(segment, 3)
    masks = {"some": [mask[own] for own in rows]}
    asked = Servers(cut, OF_WORDS, servers, masks=masks)
    coordinator = Coordinator(asked, 80, known(reach()))
    allowed = part_of(segment, np.flatnonzero(mask))
    for near in (reach(), reach(8, 12, 40)):
        found = coordinator.answer_by(near, queries, SPECS[0], 8, "some")
        few = np.count_nonzero(mask) <= max(near.proposed, 8)
        if few:
            expected = search_exact([allowed], queries, SPECS[0], 8)
        else:
            frequencies_of_all = Servers(cut, OF_WORDS).searchers[0]._proposing[1]
            alone = Servers([allowed], OF_WORDS)
            alone.searchers[0].__dict__["_proposing"] = (
                alone.searchers[0]._proposing[0],
                frequencies_of_all,
            )
            every = int(np.count_nonzero(mask))
            expected = Coordinator(alone, every, known(reach())).answer_by(
                near, queries, SPECS[0], 8
            )
        assert_same(found, expected)
        assert found.certified.all() == few


def test_above_leaves_out_what_scores_less() -> None:
    segment, queries = random_corpus(7, 60)
    coordinator = Coordinator(Servers([segment], OF_WORDS), 60, known(reach(8, 20, 100)))
    every = coordinator.answer(queries, SPECS[0], 10, mode="candidates")
    bar = float(np.median(every.scores[every.image_ids >= 0]))
    some = coordinator.answer(queries, SPECS[0], 10, mode="candidates", above=bar)
    assert_same(some, only_above(every, bar))


def test_groups_of_any_size_and_threads_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    segment, queries = random_corpus(9, 100)
    many = take_queries(queries, [0, 1, 2] * 7)
    cut, _ = cut_into(segment, 7)
    coordinator = Coordinator(Servers(cut, OF_WORDS), 100, known(reach()))
    expected = coordinator.answer_by(reach(8, 15, 50), many, SPECS[0], 10)
    for group, pairs in ((1, 1), (2, 40), (64, 1 << 21)):
        monkeypatch.setattr(propose, "FEWEST_QUERIES", min(group, 8))
        monkeypatch.setattr(propose, "GROUP_QUERIES", group)
        monkeypatch.setattr(fast, "PAIRS_AT_ONCE", pairs)
        assert_same(coordinator.answer_by(reach(8, 15, 50), many, SPECS[0], 10), expected)
    for row in range(3):
        one = coordinator.answer_by(reach(8, 15, 50), take_queries(queries, [row]), SPECS[0], 10)
        assert_same(one, Answer(*(part[row : row + 1] for part in arrays(expected))))


def arrays(answer: Answer) -> tuple[np.ndarray, ...]:
    return answer.image_ids, answer.scores, answer.similarities, answer.certified


def test_queries_without_words_or_direction_find_nothing_by_that_layer() -> None:
    segment, queries = random_corpus(3, 50)
    none = bags_from_words(np.zeros(4, np.int64), np.empty(0, np.uint32))
    zero = QueryBatch({"high": np.zeros((3, 5), np.float32), "low": none})
    coordinator = Coordinator(Servers([segment], OF_WORDS), 50, known(reach()))
    found = coordinator.answer_by(reach(), zero, SPECS[0], 5)
    assert (found.image_ids == -1).all()
    assert not found.certified.any()
    by_words = QueryBatch({"high": np.zeros((3, 5), np.float32), "low": queries.layers["low"]})
    low = FusionSpec(layers=(LayerMap(layer="low"),))
    alone = coordinator.answer_by(reach(), queries, low, 5)
    both = coordinator.answer_by(reach(), by_words, SPECS[0], 5)
    assert np.array_equal(both.image_ids, alone.image_ids)


def test_equal_images_are_proposed_by_rising_id() -> None:
    bag = bags_from_words(np.arange(31, dtype=np.int64), np.full(30, 3, np.uint32))
    vectors = np.ones((30, 5), np.float32)
    twins = SegmentData(
        np.arange(30) * 2 + 1, {"high": dense_layer(vectors), "low": local_layer(bag, WEIGHTS)}
    )
    queries = QueryBatch(
        {
            "high": np.ones((1, 5), np.float32),
            "low": bags_from_words(np.array([0, 1]), np.array([3], np.uint32)),
        }
    )
    for parts in (1, 4):
        cut, _ = cut_into(twins, parts)
        coordinator = Coordinator(Servers(cut, OF_WORDS), 30, known(reach()))
        found = coordinator.answer_by(reach(8, 4, 30), queries, SPECS[0], 3)
        assert found.image_ids.tolist() == [[1, 3, 5]]


def test_an_empty_index_answers_nothing() -> None:
    segment, queries = random_corpus(3, 8)
    nobody = part_of(segment, np.empty(0, np.int64))
    coordinator = Coordinator(Servers([nobody], OF_WORDS), 0, known(reach()))
    found = coordinator.answer(queries, SPECS[0], 5, mode="candidates")
    assert found.image_ids.tolist() == [[-1], [-1], [-1]]


def test_no_query_has_an_empty_answer() -> None:
    segment, queries = random_corpus(3, 8)
    coordinator = Coordinator(Servers([segment], OF_WORDS), 8, known(reach()))
    found = coordinator.answer(take_queries(queries, []), SPECS[0], 5, mode="candidates")
    assert found.image_ids.shape == (0, 5)


def test_words_outside_the_vocabulary_are_refused() -> None:
    segment, _ = random_corpus(3, 8)
    strange = bags_from_words(np.array([0, 1]), np.array([WORDS], np.uint32))
    wrong = QueryBatch({"high": np.ones((1, 5), np.float32), "low": strange})
    coordinator = Coordinator(Servers([segment], OF_WORDS), 8, known(reach()))
    with pytest.raises(ValueError, match="word"):
        coordinator.answer(wrong, SPECS[0], 5, mode="candidates")


def test_without_proposers_the_mode_is_what_it_was() -> None:
    segment, queries = random_corpus(13, 70)
    coordinator = Coordinator(Servers([segment], OF_WORDS), 70)
    found = coordinator.answer(queries, SPECS[0], 5, mode="candidates", candidates=70)
    assert_same(found, search_exact([segment], queries, SPECS[0], 5))


def test_the_first_reach_that_finds_enough_is_taken_and_too_much_is_refused() -> None:
    near, far = reach(2, 20, 5, recall=0.9), reach(4, 40, 9, recall=0.96)
    both = known(near, far, k=10)
    assert reach_for(both, 0.5, 10) == near
    assert reach_for(both, 0.9, 5) == near
    assert reach_for(both, None, 10) == far
    # Three times as many answers as were measured: three times as many proposals,
    # and as many decided on.
    more = reach_for(both, 0.9, 30)
    assert (more.proposed, more.decided, more.cells) == (60, 6_000, 2)
    with pytest.raises(InputError, match=r"is 0\.97, and the farthest .* found 0\.96 of the 10"):
        reach_for(both, 0.97, 10)
    with pytest.raises(InputError, match=r"0\.95 \(the default\)"):
        reach_for(known(near), None, 10)
    with pytest.raises(InputError, match="without a measure"):
        reach_for(known(), None, 10)
