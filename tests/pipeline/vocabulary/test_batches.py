"""Batches of rows: nested, of the share asked for, and decided by each row alone."""

import itertools

import numpy as np
import pytest

from pipeline.vocabulary.batches import (
    row_uniforms,
    seeding_rows,
    share_of_round,
)
from tests.pipeline.vocabulary.vectors import row_names

IMAGE_IDS, POSITIONS = row_names(100_000)


def test_shares_double_until_all_rows_take_part() -> None:
    assert [share_of_round(number) for number in range(5)] == [1 / 4, 1 / 2, 1, 1, 1]
    assert share_of_round(10_000) == 1
    with pytest.raises(ValueError, match="counted from 0"):
        share_of_round(-1)


def test_the_hash_is_splitmix64() -> None:
    # The first number of SplitMix64 from state 0 is 0xE220A8397B1DCDAF; put in again as the
    # state of the next step, twice, with image id 0 and position 0.
    mask = (1 << 64) - 1
    state = 0
    for _ in range(3):
        state = (state + 0x9E3779B97F4A7C15) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    zero = np.zeros(1, np.int64)
    assert row_uniforms(0, zero, zero)[0] == (state >> 11) / 2**53


def test_uniforms_are_even_in_zero_to_one() -> None:
    uniforms = row_uniforms(5, IMAGE_IDS, POSITIONS)
    assert 0 <= uniforms.min() < uniforms.max() < 1
    counts, _ = np.histogram(uniforms, bins=10, range=(0, 1))
    assert np.abs(counts - 10_000).max() < 500  # five standard deviations of 95
    assert len(np.unique(uniforms)) == 100_000
    other = row_uniforms(6, IMAGE_IDS, POSITIONS)
    assert abs(np.corrcoef(uniforms, other)[0, 1]) < 0.02


def test_a_later_batch_holds_the_one_before() -> None:
    uniforms = row_uniforms(0, IMAGE_IDS, POSITIONS)
    batches = [uniforms < share_of_round(number) for number in range(3)]
    for number, (before, after) in enumerate(itertools.pairwise(batches)):
        assert not np.any(before & ~after)
        assert before.mean() == pytest.approx(share_of_round(number), rel=0.05)
    assert batches[2].all()


def test_seeding_rows_do_not_depend_on_the_cut() -> None:
    whole = seeding_rows(1, IMAGE_IDS, POSITIONS, 500)
    parts = [slice(0, 30_000), slice(30_000, 30_100), slice(30_100, 100_000)]
    kept = np.concatenate(
        [seeding_rows(1, IMAGE_IDS[part], POSITIONS[part], 500) + part.start for part in parts]
    )
    again = kept[seeding_rows(1, IMAGE_IDS[kept], POSITIONS[kept], 500)]
    np.testing.assert_array_equal(again, whole)
