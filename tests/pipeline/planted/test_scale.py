"""Pictures drawn by a law: what each depends on, and what holds of groups and bags."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from lamella.pipeline.index.bags import BagsOfWords, concatenate
from lamella.pipeline.planted.scale import CHUNK, ScaleSpec, draw_pictures, draw_queries, groups_of

SPEC = ScaleSpec(3 * CHUNK, dimensions=96, words=3_000, words_per_picture=40, grouped=0.25)
Drawn = tuple[NDArray[np.float32], BagsOfWords]


def assert_same(one: Drawn, other: Drawn) -> None:
    np.testing.assert_array_equal(one[0], other[0])
    for name in ("offsets", "words", "counts"):
        np.testing.assert_array_equal(getattr(one[1], name), getattr(other[1], name))


def joined(*parts: Drawn) -> Drawn:
    return np.concatenate([part[0] for part in parts]), concatenate([part[1] for part in parts])


def shared_words(bags: BagsOfWords) -> NDArray[np.float64]:
    """How many words each two pictures share, (n, n)."""
    table = np.zeros((len(bags), SPEC.words))
    table[np.repeat(np.arange(len(bags)), np.diff(bags.offsets)), bags.words] = 1
    return table @ table.T


def test_groups_are_spread_over_the_corpus() -> None:
    # Every second picture has a slot; 8 slots are 2 groups of 4, and slot s is in group s % 2.
    spec = ScaleSpec(16, grouped=0.5, group_size=4)
    assert spec.groups == 2
    assert groups_of(spec, 0, 16).tolist() == [-1, 0, -1, 1] * 4


def test_pictures_that_fill_no_group_are_background() -> None:
    # 9 slots are 2 groups of 4, and one picture too many.
    groups = groups_of(ScaleSpec(9, grouped=1.0), 0, 9)
    assert groups.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, -1]


@pytest.mark.parametrize("grouped", [0.0, 0.1, 0.3, 1.0])
def test_every_group_is_whole(grouped: float) -> None:
    spec = ScaleSpec(997, grouped=grouped, group_size=5)
    groups = groups_of(spec, 0, spec.pictures)
    assert spec.groups == int(997 * grouped) // 5
    assert np.bincount(groups[groups >= 0], minlength=spec.groups).tolist() == [5] * spec.groups


def test_pictures_are_the_same_however_the_corpus_is_cut() -> None:
    ends = (0, 1, 100, CHUNK, CHUNK + 7, 2 * CHUNK + 1, SPEC.pictures)
    whole = draw_pictures(SPEC, 0, SPEC.pictures)
    cuts = list(pairwise(ends))
    assert_same(whole, joined(*(draw_pictures(SPEC, first, stop) for first, stop in cuts)))
    parts = [groups_of(SPEC, first, stop) for first, stop in cuts]
    np.testing.assert_array_equal(groups_of(SPEC, 0, SPEC.pictures), np.concatenate(parts))


def test_a_picture_comes_again_whatever_was_drawn_before() -> None:
    first = draw_pictures(SPEC, 600, 640)
    draw_pictures(replace(SPEC, seed=5), 0, 10)
    draw_queries(SPEC, 3)
    assert_same(first, draw_pictures(SPEC, 600, 640))


def test_another_seed_is_another_world() -> None:
    (one, bags), (two, others) = (draw_pictures(replace(SPEC, seed=s), 0, 50) for s in (0, 1))
    assert not np.any(np.all(one == two, axis=1))
    assert bags.words.tolist() != others.words.tolist()


def test_the_background_does_not_depend_on_the_length_of_the_corpus() -> None:
    short, long = (replace(SPEC, pictures=pictures, grouped=0.0) for pictures in (300, 5_000))
    assert_same(draw_pictures(short, 0, 300), draw_pictures(long, 0, 300))


def test_vectors_have_length_one_and_no_negative_value() -> None:
    vectors, _ = draw_pictures(SPEC, 0, SPEC.pictures)
    assert vectors.dtype == np.float32
    assert vectors.shape == (SPEC.pictures, SPEC.dimensions)
    assert vectors.min() == 0
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_bags_hold_about_as_many_words_as_asked_for() -> None:
    _, bags = draw_pictures(SPEC, 0, SPEC.pictures)
    bags.check_words(SPEC.words)
    assert len(bags.words) / len(bags) == pytest.approx(SPEC.words_per_picture, rel=0.1)
    assert np.diff(bags.offsets).min() >= 1
    assert np.mean(bags.counts == 1) > 0.5
    assert len(np.unique(bags.words)) > 0.9 * SPEC.words


def test_pictures_of_a_group_are_closer_than_others() -> None:
    vectors, bags = draw_pictures(SPEC, 0, SPEC.pictures)
    groups = groups_of(SPEC, 0, SPEC.pictures)
    same = (groups[:, None] == groups) & (groups >= 0) & ~np.eye(len(groups), dtype=bool)
    background = (groups[:, None] < 0) & (groups < 0) & ~np.eye(len(groups), dtype=bool)
    for closeness in (vectors @ vectors.T, shared_words(bags)):
        assert np.quantile(closeness[same], 0.1) > np.quantile(closeness[background], 0.8)
        # They are views, not copies.
        assert closeness[same].max() < closeness.diagonal().max()


def test_queries_see_groups_and_background_and_are_not_in_the_corpus() -> None:
    vectors, bags, groups = draw_queries(SPEC, 2 * CHUNK + 9)
    assert groups[:6].tolist() == [0, -1, 1, -1, 2, -1]
    assert groups.max() == SPEC.groups - 1
    assert len(vectors) == len(bags) == len(groups) == 2 * CHUNK + 9
    corpus, _ = draw_pictures(SPEC, 0, SPEC.pictures)
    cosines = vectors @ corpus.T
    assert cosines.max() < 1 - 1e-4
    of_group = groups[:, None] == groups_of(SPEC, 0, SPEC.pictures)
    views = np.flatnonzero(groups >= 0)
    best = np.where(of_group, cosines, 0).max(axis=1)[views]
    others = np.where(of_group, 0, cosines)[views]
    assert np.mean(best > np.quantile(others, 0.99, axis=1)) > 0.9


def test_fewer_queries_are_the_first_of_more() -> None:
    few, many = draw_queries(SPEC, 5), draw_queries(SPEC, 700)
    np.testing.assert_array_equal(few[0], many[0][:5])
    np.testing.assert_array_equal(few[2], many[2][:5])


def test_without_groups_queries_are_background() -> None:
    assert draw_queries(replace(SPEC, grouped=0.0), 4)[2].tolist() == [-1] * 4


def test_nothing_asked_is_nothing_drawn() -> None:
    for vectors, bags, *_ in (draw_pictures(SPEC, 9, 9), draw_queries(SPEC, 0)):
        assert vectors.shape == (0, SPEC.dimensions)
        assert len(bags) == 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"pictures": 0}, "pictures must be at least 1; got 0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"dimensions": 63}, "dimensions must be at least 64"),
        ({"words": 399}, "words must be at least 400; got 399"),
        ({"words": (1 << 23) + 1}, "words must be at most 8,388,608"),
        ({"words_per_picture": 0}, "words_per_picture must be at least 1"),
        ({"grouped": 1.5}, "grouped is a share from 0 to 1; got 1.5"),
        ({"grouped": float("nan")}, "grouped is a share"),
        ({"group_size": 1}, "group_size must be at least 2"),
    ],
)
def test_what_is_out_of_range_is_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(SPEC, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("first", "stop"), [(-1, 4), (5, 4), (0, SPEC.pictures + 1)])
def test_pictures_outside_the_corpus_are_refused(first: int, stop: int) -> None:
    for ask in (groups_of, draw_pictures):
        with pytest.raises(ValueError, match="pictures go from 0 to 1,536"):
            ask(SPEC, first, stop)
    with pytest.raises(ValueError, match="count must be at least 0; got -1"):
        draw_queries(SPEC, -1)
