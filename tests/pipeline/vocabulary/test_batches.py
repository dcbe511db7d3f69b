"""Batches of rows: one window after another, decided by each row alone, and all at the end."""

import numpy as np
import pytest

from lamella.pipeline.vocabulary.batches import (
    Window,
    is_turned,
    row_uniforms,
    seeding_rows,
    window_of_round,
)
from lamella.schemas.vocabulary import VocabularySpec
from tests.pipeline.vocabulary.vectors import reports, row_names

IMAGE_IDS, POSITIONS = row_names(100_000)
QUARTERS = VocabularySpec(batch=0.25, tolerance=0.01)


def windows(spec: VocabularySpec, count: int) -> list[Window]:
    """Return the windows of so many rounds that fall far each time."""
    return [
        window_of_round(reports(*(0.5**number for number in range(rounds))), spec)
        for rounds in range(count)
    ]


def test_a_whole_batch_is_all_rows_from_the_first_round_on() -> None:
    for known in ([], reports(1.0, share=1.0)):
        window = window_of_round(known, VocabularySpec())
        assert window == Window(0.0, 1.0, keep=0.0)
        assert window.full
        assert len(window.rows(row_uniforms(0, IMAGE_IDS, POSITIONS))) == 100_000


def test_quarters_begin_where_the_last_ended() -> None:
    found = windows(QUARTERS, 6)
    assert [window.start for window in found] == [0, 0.25, 0.5, 0.75, 0, 0.25]
    # 1 - 1/4 of what a word saw before still counts.
    assert {(window.share, window.keep, window.full) for window in found} == {(0.25, 0.75, False)}


def test_a_window_goes_round_the_end_worked_by_hand() -> None:
    uniforms = np.array([0.0, 0.125, 0.25, 0.5, 0.75, 0.9375])
    # [3/4, 1) and [0, 1/4);  [1/8, 1/2)
    assert Window(0.75, 0.5).rows(uniforms).tolist() == [0, 1, 4, 5]
    assert Window(0.125, 0.375).rows(uniforms).tolist() == [1, 2]


@pytest.mark.parametrize(("batch", "rounds", "times"), [(0.25, 4, 1), (0.3, 10, 3), (0.15, 20, 3)])
def test_every_row_is_seen_equally_often(batch: float, rounds: int, times: int) -> None:
    uniforms = row_uniforms(3, IMAGE_IDS, POSITIONS)
    seen = np.zeros(len(uniforms), int)
    for window in windows(VocabularySpec(batch=batch, rounds=100), rounds):
        rows = window.rows(uniforms)
        assert len(rows) / len(uniforms) == pytest.approx(batch, rel=0.03)
        seen[rows] += 1
    assert set(seen.tolist()) == {times}


def test_a_turn_that_falls_too_little_is_the_last() -> None:
    # Turns of 4 rounds: 40 before, and 39.5 is more than 1 % below, 39.7 is not.
    for last, turned in ((9.5, False), (9.7, True)):
        known = reports(10, 10, 10, 10, 10, 10, 10, last)
        assert is_turned(known, QUARTERS) is turned
        assert window_of_round(known, QUARTERS).full is turned
    assert not is_turned(reports(*[10] * 7), QUARTERS)  # there are not yet two turns
    assert is_turned(reports(*[10] * 8), QUARTERS)


@pytest.mark.parametrize(("batch", "turn"), [(0.5, 2), (0.3, 4), (0.1, 10), (0.9, 2)])
def test_a_turn_is_as_many_rounds_as_all_rows_take(batch: float, turn: int) -> None:
    spec = VocabularySpec(batch=batch)
    rounds = next(count for count in range(40) if is_turned(reports(*[10] * count), spec))
    assert rounds == 2 * turn


def test_the_last_two_rounds_are_full_however_far_it_falls() -> None:
    spec = VocabularySpec(batch=0.25, rounds=7)
    assert [window.full for window in windows(spec, 8)] == [False] * 5 + [True] * 3


def test_all_rounds_are_full_after_a_full_one() -> None:
    known = [*reports(8, 4), *reports(2, share=1.0)]
    assert window_of_round(known, QUARTERS) == Window(0.0, 1.0)


def test_without_a_full_pass_no_window_is_full() -> None:
    spec = VocabularySpec(batch=0.25, rounds=7, full_pass=False)
    assert not any(window.full for window in windows(spec, 8))
    assert is_turned(reports(*[1] * 5), spec)


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


def test_positions_without_image_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="one position an image id"):
        row_uniforms(0, IMAGE_IDS[:3], POSITIONS[:2])


def test_seeding_rows_are_those_with_the_least_uniforms() -> None:
    uniforms = row_uniforms(1, IMAGE_IDS, POSITIONS)
    expected = sorted(range(100_000), key=uniforms.__getitem__)[:500]
    assert seeding_rows(1, IMAGE_IDS, POSITIONS, 500).tolist() == expected


def test_seeding_rows_do_not_depend_on_the_cut() -> None:
    whole = seeding_rows(1, IMAGE_IDS, POSITIONS, 500)
    parts = [slice(0, 30_000), slice(30_000, 30_100), slice(30_100, 100_000)]
    kept = np.concatenate(
        [seeding_rows(1, IMAGE_IDS[part], POSITIONS[part], 500) + part.start for part in parts]
    )
    again = kept[seeding_rows(1, IMAGE_IDS[kept], POSITIONS[kept], 500)]
    np.testing.assert_array_equal(again, whole)
