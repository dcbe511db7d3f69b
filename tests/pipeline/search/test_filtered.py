"""Search under a filter is search of the allowed images alone, to the bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.pipeline.corpus.image_table import read_images
from lamella.pipeline.index.shards import shards_of
from lamella.pipeline.search import block_scan
from lamella.pipeline.search.coordinator import Coordinator, LocalServers
from lamella.pipeline.search.exact import lower_bounds, search_exact, top_by_layer
from lamella.pipeline.search.fuse import fuse
from lamella.pipeline.search.merge import (
    common_floors,
    fuse_candidates,
    merge_answers,
    only_above,
)
from lamella.pipeline.search.rank import best_of
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.store.storage import open_store
from lamella.schemas.query import FusionSpec
from tests.conftest import Indexed
from tests.pipeline.search.test_exact import (
    SPECS,
    assert_same,
    cut,
    part_of,
    random_corpus,
    seeds,
)

WHERE = [
    'endswith(name, "1.jpg") or endswith(name, "2.jpg")',
    "size_bytes > 0 and not width < height",
    'startswith(name, "0")',
    "height == None",
]
shares = st.sampled_from([0.0, 0.03, 0.2, 0.5, 1.0])


@given(seeds, st.integers(1, 60), st.integers(1, 12), st.sampled_from(SPECS), shares)
@settings(max_examples=16, deadline=None)
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


@pytest.mark.parametrize("where", WHERE)
def test_answers_of_an_index_are_brute_force_over_what_a_filter_allows(
    indexed: Indexed, where: str
) -> None:
    snapshot = indexed.snapshot
    searcher = SegmentSearcher(str(indexed.store), snapshot)
    assert len(searcher.segments) > 1
    coordinator = Coordinator(LocalServers(searcher), snapshot.indexed)
    layers = [entry.layer for entry in snapshot.fusion.layers]
    ids, allowed = coordinator.image_ids(), _allowed(indexed, where)
    queries = coordinator.features(ids[[0, 9, 30]].tolist(), layers)
    every, table = coordinator.similarities(queries, layers)
    rows = np.flatnonzero(np.isin(every, allowed))
    some = table[:, :, rows].reshape(len(layers), -1)
    query_of = np.repeat(np.arange(3), len(rows))
    expected = best_of(query_of, np.tile(every[rows], 3), fuse(some, snapshot.fusion), some, 3, 48)
    assert_same(coordinator.answer(queries, snapshot.fusion, 48, where=where), expected)
    above = float(np.median(expected.scores[expected.image_ids >= 0])) if len(rows) else 1.0
    both = coordinator.answer(queries, snapshot.fusion, 48, above=above, where=where)
    assert_same(both, only_above(expected, above))


def _allowed(indexed: Indexed, where: str) -> list[int]:
    """Return the ids of the images that a filter allows, in plain Python over the image tables."""

    def endswith(text: str, end: str) -> bool:
        return text.endswith(end)

    def startswith(text: str, start: str) -> bool:
        return text.startswith(start)

    store = open_store(str(indexed.store))
    return [
        row["image_id"]
        for shard in shards_of(store, indexed.snapshot)
        for row in read_images(indexed.store / shard.file.path).to_pylist()
        if eval(where, {"endswith": endswith, "startswith": startswith} | row)
    ]
