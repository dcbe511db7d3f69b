"""Where an image stands: counted over all images, however the corpus is cut, ties by image id."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.pipeline.search.exact import similarities
from lamella.pipeline.search.fuse import fuse
from lamella.pipeline.search.placing import Placed, place_image
from lamella.pipeline.search.searcher import take_queries
from lamella.pipeline.search.segment import QueryBatch, SegmentData, dense_layer
from lamella.schemas.query import FusionSpec, LayerMap
from tests.pipeline.search.test_exact import SPECS, cut, random_corpus

ONE = FusionSpec(layers=(LayerMap(layer="fc"),))


def unit(cosine: float) -> list[float]:
    return [cosine, float(np.sqrt(1 - cosine**2))]


def small() -> tuple[SegmentData, QueryBatch]:
    """Images 10, 20, 30, 40 whose cosines with the query (1, 0) are 0.6, 1, 0.6, 0."""
    vectors = np.array([unit(each) for each in (0.6, 1.0, 0.6, 0.0)], np.float32)
    segment = SegmentData(np.array([10, 20, 30, 40]), {"fc": dense_layer(vectors)})
    return segment, QueryBatch({"fc": np.array([[1.0, 0.0]], np.float32)})


def test_ranks_and_neighbours_by_hand() -> None:
    segment, query = small()
    # By score: 20 (1), 10 and 30 (0.6, the lower id first), 40 (0).
    placed = place_image([segment], query, [ONE], 30, 1)
    assert placed.ranks == (3,)
    assert placed.above.image_ids.tolist() == [10]
    assert placed.above.scores.tolist() == [placed.scores[0]]  # a tie
    assert placed.below.image_ids.tolist() == [40]


def test_the_first_has_nobody_above_and_the_last_nobody_below() -> None:
    segment, query = small()
    first, last = (place_image([segment], query, [ONE], each, 5) for each in (20, 40))
    assert (first.ranks, len(first.above)) == ((1,), 0)
    assert first.below.image_ids.tolist() == [10, 30, 40]
    assert (last.ranks, len(last.below)) == ((4,), 0)
    assert last.above.image_ids.tolist() == [20, 10, 30]


@given(st.integers(0, 2**32 - 1), st.integers(1, 25), st.sampled_from(SPECS))
@settings(max_examples=30, deadline=None)
def test_ranks_are_those_of_sorting_all_images(seed: int, images: int, spec: FusionSpec) -> None:
    segment, queries = random_corpus(seed, images)
    rng = np.random.default_rng(seed)
    query = take_queries(queries, [int(rng.integers(len(queries)))])
    row = int(rng.integers(images))
    rankings = [*(spec.alone(each.layer) for each in spec.layers), spec.direct(), spec]
    wanted = int(segment.image_ids[row])
    placed = place_image([segment], query, rankings, wanted, 2)
    layers = [each.layer for each in spec.layers]
    table = similarities(segment, query, layers)[:, 0]
    for number, ranking in enumerate(rankings):
        rows = [layers.index(each.layer) for each in ranking.layers]
        scores = fuse(table[rows], ranking)
        order = sorted(range(images), key=lambda each: (-scores[each], segment.image_ids[each]))
        assert placed.ranks[number] == 1 + order.index(row)
        assert placed.scores[number] == scores[row]
    ids = segment.image_ids[order].tolist()
    at = ids.index(wanted)
    assert placed.above.image_ids.tolist() == ids[max(at - 2, 0) : at]
    assert placed.below.image_ids.tolist() == ids[at + 1 : at + 3]
    assert placed.similarities.tobytes() == table[:, row].tobytes()
    for beside in (placed.above, placed.below):
        held = [segment.image_ids.tolist().index(each) for each in beside.image_ids.tolist()]
        assert beside.similarities.tolist() == table[:, held].tolist()
    parts = [part for part in cut(segment, rng) if len(part)]
    assert same(place_image(parts, query, rankings, wanted, 2), placed)


def same(left: Placed, right: Placed) -> bool:
    return (left.ranks, left.scores) == (right.ranks, right.scores) and all(
        one.image_ids.tolist() == other.image_ids.tolist()
        and one.scores.tolist() == other.scores.tolist()
        for one, other in ((left.above, right.above), (left.below, right.below))
    )


def test_what_cannot_be_placed() -> None:
    segment, query = small()
    with pytest.raises(ValueError, match="no segment has image 25"):
        place_image([segment], query, [ONE], 25, 1)
    with pytest.raises(ValueError, match="got 1 and 0"):
        place_image([segment], query, [ONE], 10, 0)
