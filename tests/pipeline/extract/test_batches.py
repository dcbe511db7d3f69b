"""How pictures are cut into batches, and what of a batch's work is padding."""

import numpy as np
import pytest

from lamella.pipeline.extract.batches import plan_batches, wasted_share
from lamella.pipeline.networks.weights import LITE0
from lamella.schemas.extraction import PreprocessSpec
from tests.pipeline.extract.specs import spec_of


def test_batches_go_shape_by_shape_and_each_picture_is_in_one() -> None:
    spec, _ = spec_of(LITE0, "head", batch_size=2)
    sizes = [(480, 640), (640, 480), None, (960, 1280), (480, 640)]
    batches = plan_batches(sizes, spec)
    assert [(each.rows, each.shape) for each in batches] == [
        ((0, 3), (256, 341)),
        ((4,), (256, 341)),
        ((1,), (341, 256)),
    ]
    # Four pictures in three batches of two.
    assert wasted_share(batches, spec) == pytest.approx(1 - 4 / 6)


def test_one_giant_among_thousands_takes_a_batch_no_larger_than_the_others() -> None:
    spec, _ = spec_of(LITE0, "head", batch_size=64)
    sizes = [(480, 640)] * 3_000 + [(10_000, 20_000)]
    batches = plan_batches(sizes, spec)
    giant = next(each for each in batches if 3_000 in each.rows)
    assert (giant.rows, giant.shape) == ((3_000,), (256, 512))


def test_ten_thousand_sizes_are_no_more_shapes_than_there_are_proportions() -> None:
    generator = np.random.default_rng(0)
    sizes = list({(int(h), int(w)) for h, w in generator.integers(40, 5_000, (10_100, 2))})[:10_000]
    assert len(set(sizes)) == 10_000
    for multiple in (1, 32):
        spec, _ = spec_of(
            LITE0, "head", batch_size=16, preprocess=PreprocessSpec(long_edge_multiple=multiple)
        )
        batches = plan_batches(sizes, spec)
        assert sorted(row for each in batches for row in each.rows) == list(range(10_000))
        shapes = {each.shape for each in batches}
        # The longer edge is one of 256 to 1,024, in steps of the multiple, upright or not.
        assert len(shapes) <= 2 * (768 // multiple) + 1
        assert max(high * wide for high, wide in shapes) == 256 * 1_024
        assert len(batches) <= 10_000 // 16 + len(shapes)


def test_a_shard_of_refusals_has_no_batch() -> None:
    spec, _ = spec_of(LITE0, "head", batch_size=64)
    assert plan_batches([None] * 500, spec) == []
    assert wasted_share([], spec) == 0
