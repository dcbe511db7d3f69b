"""Golden numbers of the published evaluation rules, with their working."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from lamella.pipeline.evaluate.measures import precision_of_first
from lamella.pipeline.evaluate.metrics import (
    average_precision,
    average_precision_by_rectangles,
    average_precision_over_ties,
    first_by_score,
    first_over_ties,
    ns_over_ties,
    ns_score,
    order_by_score,
    ranks_of,
    recall_at,
)

Ids = NDArray[np.int64]
Ranked = tuple[NDArray[np.float64], Ids, Ids]


def ids(*values: int) -> Ids:
    return np.array(values, dtype=np.int64)


def test_average_precision_of_three_positives_of_which_two_are_found() -> None:
    # ranks 0 and 2: ((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2) / 3 = (1 + .58333) / 3
    assert average_precision(ids(0, 2), 3) == pytest.approx(0.5277777777777778, abs=1e-15)


def test_average_precision_of_one_positive_in_second_place() -> None:
    assert average_precision(ids(1), 1) == 0.25  # (0 / 1 + 1 / 2) / 2


def test_average_precision_of_a_perfect_ranking() -> None:
    assert average_precision(ids(0, 1, 2), 3) == 1.0


def test_average_precision_of_trec_eval_is_the_precision_at_each_positive() -> None:
    # ranks 0 and 2 of three positives: (1 / 1 + 2 / 3) / 3
    assert average_precision_by_rectangles(ids(0, 2), 3) == pytest.approx(0.5555555555555556)
    assert average_precision_by_rectangles(ids(1), 1) == 0.5  # one found in second place: 1 / 2
    assert average_precision_by_rectangles(ids(2, 0, 1), 3) == 1.0


@given(st.sets(st.integers(0, 30), max_size=8), st.integers(0, 3))
def test_rectangles_give_no_less_than_trapezoids(found: set[int], missed: int) -> None:
    ranks, positives = ids(*found), max(1, len(found) + missed)
    most = average_precision_by_rectangles(ranks, positives)
    assert average_precision(ranks, positives) <= most + 1e-12
    slow = sum(sum(r <= rank for r in found) / (rank + 1) for rank in found) / positives
    assert most == pytest.approx(slow, abs=1e-12)


def test_nothing_found_scores_nothing() -> None:
    assert average_precision(ids(), 3) == 0.0
    assert average_precision_by_rectangles(ids(), 3) == 0.0


def test_junk_leaves_before_ranks_are_counted() -> None:
    scores = np.array([0.9, 0.8, 0.1])  # image 0 is junk and first, image 1 the only positive
    ranks = ranks_of(scores, ids(1), ids(0))
    assert ranks.tolist() == [0]
    assert average_precision(ranks, 1) == 1.0


def test_ties_go_by_image_id() -> None:
    assert order_by_score(np.array([0.5, 0.7, 0.5, 0.7])).tolist() == [1, 3, 0, 2]


def test_ranks_under_ties_in_each_order() -> None:
    scores = np.array([0.5, 0.5, 0.5, 0.9, 0.1])
    assert ranks_of(scores, ids(1)).tolist() == [2]  # after 3 and 0
    assert ranks_of(scores, ids(1), ties="best").tolist() == [1]  # after 3
    assert ranks_of(scores, ids(1), ties="worst").tolist() == [3]  # after 3, 0 and 2


def test_ns_score_counts_the_first_four() -> None:
    assert ns_score(ids(0, 3, 4, 9)) == 2.0


def test_recall_counts_positives_that_were_never_returned() -> None:
    assert recall_at(ids(0, 4), 4, 4) == 0.25


@pytest.mark.parametrize(
    ("ranks", "positives"), [(ids(0), 0), (ids(0, 1), 1), (ids(0, 0), 2), (ids(-1), 1)]
)
def test_impossible_ranks_are_refused(ranks: Ids, positives: int) -> None:
    with pytest.raises(ValueError, match=r"positives|distinct"):
        average_precision(ranks, positives)


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="image 1 has no number"):
        ranks_of(np.array([0.1, np.nan]), ids(0))


def test_an_image_cannot_be_positive_and_ignored() -> None:
    with pytest.raises(ValueError, match="both positive and ignored"):
        ranks_of(np.array([0.1, 0.2]), ids(0), ids(0))


@st.composite
def ranked(draw: st.DrawFn) -> Ranked:
    size = draw(st.integers(1, 12))
    scores = draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=size, max_size=size))
    roles = draw(st.lists(st.sampled_from("pni"), min_size=size, max_size=size))
    roles[draw(st.integers(0, size - 1))] = "p"
    places = {role: ids(*(i for i, r in enumerate(roles) if r == role)) for role in "pi"}
    return np.array(scores), places["p"], places["i"]


@given(ranked())
def test_ranks_equal_those_of_the_plain_sort(case: Ranked) -> None:
    scores, positive, ignored = case
    left = [image for image in order_by_score(scores).tolist() if image not in ignored]
    expected = sorted(left.index(image) for image in positive.tolist())
    assert ranks_of(scores, positive, ignored).tolist() == expected


@given(ranked())
def test_no_tie_order_leaves_the_bounds(case: Ranked) -> None:
    scores, positive, ignored = case
    low, mean, high = average_precision_over_ties(scores, positive, ignored, len(positive))
    by_id = average_precision(ranks_of(scores, positive, ignored), len(positive))
    assert low - 1e-12 <= by_id <= high + 1e-12
    assert low - 1e-12 <= mean <= high + 1e-12


@settings(max_examples=25, deadline=None)
@given(ranked().filter(lambda case: len(case[0]) <= 6))
def test_tie_aware_figures_equal_all_orders_tried(case: Ranked) -> None:
    scores, positive, ignored = case
    figures, found, first = [], [], []
    for order in permutations(range(len(scores))):
        by_score = sorted(order, key=lambda image: -scores[image])  # stable: `order` breaks ties
        left = [image for image in by_score if image not in ignored]
        ranks = ids(*(left.index(image) for image in positive.tolist()))
        figures.append(average_precision(ranks, len(positive)))
        found.append(ns_score(ranks))
        first.append(precision_of_first(np.sort(ranks), len(positive) + 1, 3))
    expected = (min(figures), sum(figures) / len(figures), max(figures))
    given_figures = average_precision_over_ties(scores, positive, ignored, len(positive))
    assert given_figures == pytest.approx(expected, abs=1e-12)
    assert ns_over_ties(scores, positive, ignored) == pytest.approx(sum(found) / len(found))
    given_first = first_over_ties(scores, positive, ignored, len(positive) + 1, 3)
    assert given_first == pytest.approx(sum(first) / len(first))


def test_expected_scores_of_ties_by_hand() -> None:
    # 3 is first and right; of 0, 1, 2, 4 two are right, and three of the four places count for N-S
    scores = np.array([0.5, 0.5, 0.5, 0.9, 0.5])
    assert ns_over_ties(scores, ids(0, 2, 3), None) == 1 + 2 * 3 / 4
    # one of two is right: first in half of the orders, (1 + 1) / 2 or else (0 + 1 / 2) / 2
    assert average_precision_over_ties(scores[:2], ids(1), None, 1) == (0.25, 0.625, 1.0)
    # of the first one alone it is 1 in half of the orders; of both 1 or 1 / 2
    assert first_over_ties(scores[:2], ids(1), None, 1, 1) == 0.5
    assert first_over_ties(scores[:2], ids(1), None, 1, 100) == 0.75


@given(
    arrays(np.float64, st.integers(1, 30), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    st.data(),
)
def test_the_first_by_score_are_those_of_the_whole_order(
    scores: NDArray[np.float64], data: st.DataObject
) -> None:
    depth = data.draw(st.integers(0, len(scores)))
    assert first_by_score(scores, depth).tolist() == order_by_score(scores)[:depth].tolist()
