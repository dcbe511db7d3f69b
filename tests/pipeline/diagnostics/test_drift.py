"""Drift: divergence worked by hand, equal draws, and two worlds that differ or do not."""

import math

import numpy as np
import pytest

from lamella.pipeline.diagnostics.drift import (
    LARGEST_EXCESS,
    LARGEST_RISE,
    Drift,
    changed_share,
    divergence_by_word,
    equal_draw,
    measure_drift,
)
from lamella.pipeline.errors import InputError
from lamella.pipeline.vocabulary.assign import ExactAssigner
from lamella.pipeline.vocabulary.sample import Sample
from tests.pipeline.vocabulary.vectors import clustered, row_names


def divergence(p: list[int], q: list[int]) -> float:
    return float(divergence_by_word(np.array(p), np.array(q)).sum())


def test_a_divergence_worked_by_hand() -> None:
    # shares 1/2, 1/2 and 1, 0; their middle 3/4, 1/4
    first = 1 / 2 * math.log2(1 / 2 / (3 / 4)) + 1 / 2 * math.log2(1 / 2 / (1 / 4))
    second = 1 * math.log2(1 / (3 / 4))
    assert divergence([1, 1], [4, 0]) == pytest.approx((first + second) / 2)


def test_equal_shares_diverge_by_nothing_and_others_by_one_bit_at_most() -> None:
    assert divergence([3, 1, 0], [6, 2, 0]) == 0.0
    assert divergence([1, 0], [0, 9]) == 1.0
    draw = np.random.default_rng(4)
    for _ in range(50):
        p, q = draw.integers(0, 9, (2, 12)) + np.eye(2, 12, dtype=int)
        parts = divergence_by_word(p, q)
        assert np.all(parts >= -1e-15)
        assert 0 <= parts.sum() <= 1
        np.testing.assert_allclose(parts, divergence_by_word(q, p), atol=1e-15)


def test_words_whose_use_doubled_or_halved_have_changed() -> None:
    # with one added: 21/64, 21/64, 21/64, 1/64 and 42/64, 10/64, 11/64, 1/64:
    # doubled, halved, 1.91 times less, and used by neither
    assert changed_share(np.array([20, 20, 20, 0]), np.array([41, 9, 10, 0])) == 2 / 3
    assert changed_share(np.array([0]), np.array([0])) == 0.0


def sample_of(vectors: np.ndarray, first_image: int = 0) -> Sample:
    ids, positions = row_names(len(vectors))
    return Sample(ids + first_image, positions, vectors.astype(np.float16))


def test_a_draw_takes_as_many_of_each_picture_whatever_the_order() -> None:
    sample = sample_of(clustered(200, 4, 3))
    pictures = np.array([0, 3])
    rows = equal_draw(sample, pictures, 7, seed=1)
    ids, counts = np.unique(sample.image_ids[rows], return_counts=True)
    assert (ids.tolist(), counts.tolist()) == ([0, 3], [7, 7])
    order = np.random.default_rng(0).permutation(200)
    shuffled = Sample(sample.image_ids[order], sample.positions[order], sample.vectors[order])
    again = order[equal_draw(shuffled, pictures, 7, seed=1)]
    assert sorted(again.tolist()) == rows.tolist()
    assert len(equal_draw(sample, pictures, 1_000, seed=1)) == 100
    assert rows.tolist() != equal_draw(sample, pictures, 7, seed=2).tolist()


def drift_to(other: np.ndarray, own: np.ndarray, words: int = 16) -> Drift:
    assigner = ExactAssigner(own[:: len(own) // words][:words])
    mine = assigner.assign(own)
    theirs = assigner.assign(other)
    return measure_drift(
        "conv",
        words,
        (sample_of(own), mine.words),
        (sample_of(other, 10_000), theirs.words),
        error=float(theirs.squared_distances.mean()),
        own_error=float(mine.squared_distances.mean()),
        held_out=True,
    )


WORLD = clustered(6_000, 12, 40, seed=1)


def test_pictures_of_the_same_world_keep_their_words() -> None:
    drift = drift_to(WORLD[4_000:], WORLD[:4_000])
    assert abs(drift.rise) < 0.05
    assert abs(drift.excess) < 0.01
    assert drift.floor > 0
    assert drift.advice == "keep"
    assert (drift.rows, drift.pictures) == (2_000, 40)
    assert drift.compared == 2_000  # 40 pictures of 50; the halves have as many


def test_pictures_of_another_world_want_others() -> None:
    drift = drift_to(clustered(2_000, 12, 40, seed=2), WORLD[:4_000])
    assert drift.rise > LARGEST_RISE
    assert drift.excess > LARGEST_EXCESS
    assert drift.advice == "train anew"
    assert f"train anew from {LARGEST_RISE:+.0%}" in drift.because
    assert drift.changed > drift.changed_floor
    bits = [each.bits for each in drift.most_changed]
    assert bits == sorted(bits, reverse=True)
    assert drift.plain()["rule"] == {
        "largest_rise": LARGEST_RISE,
        "largest_excess": LARGEST_EXCESS,
    }


def test_use_alone_may_say_train_anew() -> None:
    own = WORLD[:4_000]
    assigner = ExactAssigner(own[::250])
    one_sided = own[assigner.assign(own).words < 8][:1_000]
    drift = drift_to(one_sided, own)
    assert drift.rise < LARGEST_RISE
    assert drift.advice == "train anew"


def test_too_few_pictures_are_refused() -> None:
    with pytest.raises(InputError, match="layer conv has 1 and 1"):
        drift_to(WORLD[:50], WORLD[:50])


def test_no_error_before_rises_without_dividing_by_it() -> None:
    same = np.ones((200, 4), np.float32)
    assert drift_to(same, same, words=2).rise == 0.0
