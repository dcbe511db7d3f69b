"""Search under a filter is search of the allowed images alone, to the bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.pipeline.search import block_scan
from lamella.pipeline.search.exact import lower_bounds, search_exact, top_by_layer
from lamella.pipeline.search.merge import common_floors, fuse_candidates, merge_answers
from lamella.schemas.query import FusionSpec
from tests.pipeline.search.test_exact import (
    SPECS,
    assert_same,
    cut,
    part_of,
    random_corpus,
    seeds,
)

shares = st.sampled_from([0.0, 0.03, 0.2, 0.5, 1.0])


@given(seeds, st.integers(1, 60), st.integers(1, 12), st.sampled_from(SPECS), shares)
@settings(max_examples=40, deadline=None)
def test_the_answer_is_that_of_the_allowed_images_alone(
    seed: int, n: int, k: int, spec: FusionSpec, share: float
) -> None:
    segment, queries = random_corpus(seed, n)
    rng = np.random.default_rng(seed)
    mask = rng.random(n) < share
    expected = search_exact([part_of(segment, np.flatnonzero(mask))], queries, spec, k)
    assert_same(search_exact([segment], queries, spec, k, allowed=[mask]), expected)
    # In several segments, with and without the bar of other servers.
    parts = cut(segment, rng)
    masks = [np.isin(part.image_ids, segment.image_ids[mask]) for part in parts]
    assert_same(search_exact(parts, queries, spec, k, allowed=masks), expected)
    pairs = list(zip(parts, masks, strict=True))
    bounds = [lower_bounds([part], queries, spec, k, [own]) for part, own in pairs]
    floors = common_floors(bounds, k)
    answers = [
        search_exact([part], queries, spec, k, floors=floors, allowed=[own]) for part, own in pairs
    ]
    assert_same(merge_answers(answers, k), expected)
    names = [entry.layer for entry in spec.layers]
    lists = [top_by_layer(part, queries, names, n, own) for part, own in pairs]
    for mode in ("candidates", "paper"):
        assert_same(fuse_candidates(lists, spec, k, n, n, mode), expected)


@pytest.mark.parametrize("block", [1, 7, 64])
@pytest.mark.parametrize("share", [0.05, 0.6])
def test_blocks_of_any_size_give_the_same(
    monkeypatch: pytest.MonkeyPatch, block: int, share: float
) -> None:
    segment, queries = random_corpus(17, 300)
    mask = np.random.default_rng(3).random(300) < share
    expected = search_exact([part_of(segment, np.flatnonzero(mask))], queries, SPECS[1], 9)
    monkeypatch.setattr(block_scan, "BLOCK_IMAGES", block)
    monkeypatch.setattr(block_scan, "FIRST_IMAGES", block // 2 + 1)
    assert_same(search_exact([segment], queries, SPECS[1], 9, allowed=[mask]), expected)


def test_fewer_than_k_are_allowed_and_all_of_them_are_the_answer() -> None:
    segment, queries = random_corpus(5, 40)
    mask = np.zeros(40, np.bool_)
    mask[[3, 30]] = True
    found = search_exact([segment], queries, SPECS[1], 5, allowed=[mask])
    assert found.certified.all()
    assert found.image_ids.shape == (3, 5)
    for row in found.image_ids:
        assert set(row.tolist()) == {*segment.image_ids[mask].tolist(), -1}
