"""Overlap of rankings: worked by hand, published values, and against the definition."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.pipeline.evaluate.overlap import overlap_at, rank_biased_overlap

LETTERS = string.ascii_lowercase


def test_overlap_at_k_by_hand() -> None:
    assert overlap_at("abcd", "badc", 1) == 0.0
    assert overlap_at("abcd", "badc", 2) == 1.0
    assert overlap_at("abcd", "badc", 3) == 2 / 3
    assert overlap_at("abcd", "ba", 10) == 1.0  # as deep as both are known
    assert (overlap_at("", "a", 1), overlap_at("", "", 1)) == (0.0, 1.0)


def test_rank_biased_overlap_by_hand() -> None:
    # X_d / d = 0, 1/2, 2/3, 1, 1: (.1 / .9)(.5 x .81 + .6667 x .729 + .6561 + .59049) + .59049
    assert rank_biased_overlap([1, 2, 3, 4, 5], [2, 3, 4, 1, 5]) == pytest.approx(0.828)
    # only the first rank differs, which has the weight 1 - p
    assert rank_biased_overlap("abcdefg", "bacdefg") == pytest.approx(0.9)
    # a, then b: (.5 / .5)(1 x .5 + 1 / 2 x .25 + 1 (2 - 1) / (1 x 2) x .25) + (0 / 2 + 1) x .25
    assert rank_biased_overlap("a", "ab", 0.5) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("other", "p", "expected"),
    [
        ("b", 0.2, 0.092574),
        ("av", 0.2, 0.900000),
        ("eftznql", 0.2, 0.000360),
        ("ucbgtnm", 0.2, 0.025158),
        ("bncxagm", 0.2, 0.105466),
        ("kapotqxc", 0.1, 0.048245),
        ("dnty", 0.1, 0.000250),
        ("akdwcjomxrubqitenhspyl", 0.1, 0.948509),
    ],
)
def test_uneven_rankings_have_the_values_of_webbers_program(
    other: str, p: float, expected: float
) -> None:
    assert rank_biased_overlap(LETTERS, other, p) == pytest.approx(expected, abs=1e-6)
    assert rank_biased_overlap(other, LETTERS, p) == pytest.approx(expected, abs=1e-6)


def rankings() -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(LETTERS[:9]), unique=True, max_size=7)


@given(rankings(), rankings())
def test_rank_biased_overlap_is_the_sum_of_agreements_to_any_depth(
    a: list[str], b: list[str]
) -> None:
    """Beyond the shorter ranking its agreement goes on, beyond both that of the end."""
    p, (short, long) = 0.7, sorted((a, b), key=len)
    if not short:
        return
    total, last = 0.0, 0.0
    of_short = len(set(short) & set(long[: len(short)])) / len(short)
    for depth in range(1, 300):
        if depth <= len(long):
            shared = len(set(short[:depth]) & set(long[:depth]))
            unseen = of_short * max(depth - len(short), 0)
            last = (shared + unseen) / depth
        total += (1 - p) * p ** (depth - 1) * last
    assert rank_biased_overlap(a, b, p) == pytest.approx(min(total, 1.0))


@given(rankings(), rankings())
def test_overlaps_have_no_side_and_end_at_one(a: list[str], b: list[str]) -> None:
    for found in (rank_biased_overlap(a, b), overlap_at(a, b, 3)):
        assert 0.0 <= found <= 1.0
    assert rank_biased_overlap(a, b) == rank_biased_overlap(b, a)
    assert rank_biased_overlap(a, a) == pytest.approx(1.0)
    assert rank_biased_overlap(a, []) == float(not a)
