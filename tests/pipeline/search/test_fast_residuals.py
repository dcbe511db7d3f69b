"""Layers of residuals in fast search: words in common propose, and float64 decides."""

import numpy as np
import pytest

from lamella.pipeline.index.residuals import Residuals
from lamella.pipeline.search.coordinator import Coordinator
from lamella.pipeline.search.exact import search_exact
from lamella.pipeline.search.heavy_words import heavy_words
from lamella.pipeline.search.segment import LocalLayer, ResidualLayer, SegmentData
from lamella.schemas.query import FusionSpec, LayerMap
from tests.pipeline.search.fast_servers import Servers, known, reach
from tests.pipeline.search.test_exact import WEIGHTS, assert_same
from tests.pipeline.search.test_residual_search import SPECS, part_of, random_corpus

OF_WORDS = {"low": WEIGHTS, "bits": WEIGHTS, "bag": WEIGHTS}


@pytest.mark.parametrize("spec", [spec for spec in SPECS if len(spec.layers) > 1])
def test_with_everything_proposed_it_is_the_exact_search(spec: FusionSpec) -> None:
    segment, queries = random_corpus(3, 40)
    found = Coordinator(Servers([segment], OF_WORDS), 40, known(reach()))
    answer = found.answer(queries, spec, 8, mode="candidates")
    assert_same(answer, search_exact([segment], queries, spec, 8))


def test_most_words_in_common_over_the_root_of_words_propose_first() -> None:
    segment, queries = random_corpus(5, 60)
    layer, asked = segment.layers["low"], queries.layers["low"]
    assert isinstance(layer, ResidualLayer)
    assert isinstance(asked, Residuals)
    low = FusionSpec(layers=(LayerMap(layer="low"),))
    coordinator = Coordinator(Servers(halves(segment), OF_WORDS, 2), 60, known(reach()))
    found = coordinator.answer_by(reach(8, 6), queries, low, 6)
    for query in range(3):
        own = words_of(asked, query)
        theirs = [words_of(layer, row) for row in range(60)]
        alike = [len(own & each) / np.sqrt(max(len(own) * len(each), 1)) for each in theirs]
        best = np.lexsort((segment.image_ids, [-value for value in alike]))[:6]
        expected = {int(segment.image_ids[row]) for row in best if alike[row] > 0}
        assert set(found.image_ids[query].tolist()) - {-1} == expected


def test_the_rarest_words_come_first() -> None:
    segment, queries = random_corpus(5, 60)
    layer, asked = segment.layers["low"], queries.layers["low"]
    assert isinstance(layer, ResidualLayer)
    frequencies = np.diff(layer.postings.offsets)
    taken = heavy_words(asked, WEIGHTS, frequencies, int(np.sort(frequencies)[:4].sum()))
    for query in range(3):
        own = taken.words[taken.starts[query] : taken.starts[query + 1]].tolist()
        others = words_of(asked, query) - set(own)
        left = np.sort(frequencies)[:4].sum() - frequencies[own].sum()
        assert all(frequencies[word] > left for word in others)
        assert not own or not others or frequencies[own].min() <= frequencies[list(others)].min()


def words_of(held: object, row: int) -> set[int]:
    assert isinstance(held, ResidualLayer | Residuals | LocalLayer)
    bags = held.bags
    return set(bags.words[bags.offsets[row] : bags.offsets[row + 1]].tolist())


def halves(segment: SegmentData) -> list[SegmentData]:
    return [part_of(segment, np.arange(60)[part::2]) for part in (0, 1)]
