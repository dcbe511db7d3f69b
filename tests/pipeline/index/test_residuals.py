"""Residuals against a slow version of them, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.pipeline.index.bags import BagsOfWords
from lamella.pipeline.index.residuals import (
    Kind,
    Residuals,
    aggregate,
    by_word,
    concatenate,
    empty_residuals,
    select,
)
from tests import reference

seeds = st.integers(0, 2**32 - 1)
kinds: st.SearchStrategy[Kind] = st.sampled_from(("float16", "bits"))
WORDS, IDS = 5, np.array([3, 7, 8, 20])


def drawn(
    seed: int, kind: Kind, nearest: int = 1, dimensions: int = 11
) -> tuple[Residuals, list[dict[int, list[float]]]]:
    """Residuals of four pictures, the last without descriptors, and the slow ones as float64."""
    rng = np.random.default_rng(seed)
    centroids = rng.standard_normal((WORDS, dimensions)).astype(np.float32)
    owners = rng.choice(IDS[:-1], size=20)
    descriptors = rng.standard_normal((20, dimensions)).astype(np.float16)
    words = np.array([rng.permutation(WORDS)[:nearest] for _ in owners], np.uint32)
    found = aggregate(owners, words, descriptors, centroids, IDS, kind)
    slow = [
        reference.residuals(
            [(words[i].tolist(), descriptors[i].tolist()) for i in np.flatnonzero(owners == each)],
            centroids.tolist(),
        )
        for each in IDS
    ]
    return found, slow


def as_vectors(residuals: Residuals, row: int) -> dict[int, np.ndarray]:
    """Return {word: residual} of a picture, signs as 1 and -1 by the root of D."""
    bags = residuals.bags
    entries = slice(bags.offsets[row], bags.offsets[row + 1])
    values = residuals.payload[entries].astype(np.float64)
    if residuals.kind == "bits":
        bits = np.unpackbits(residuals.payload[entries], axis=1)[:, : residuals.dimensions]
        values = (2.0 * bits - 1.0) / np.sqrt(residuals.dimensions)
    return dict(zip(bags.words[entries].tolist(), values, strict=True))


def test_residuals_by_hand() -> None:
    # Word 0 at (0, 0) has (3, 0) and (0, 4) of picture 5: the sum (3, 4) has length 5. Word 1 at
    # (1, 1) has (1, 1) alone, which leaves nothing. Picture 6: (1, 0) less (1, 1) is (0, -1).
    found = aggregate(
        np.array([5, 6, 5, 5]),
        np.array([0, 1, 0, 1], np.uint32),
        np.array([[3, 0], [1, 0], [0, 4], [1, 1]], np.float16),
        np.array([[0, 0], [1, 1]], np.float32),
        np.array([5, 6]),
        "float16",
    )
    assert found.bags.words.tolist() == [0, 1]
    assert found.bags.counts.tolist() == [2, 1]
    assert found.bags.offsets.tolist() == [0, 1, 2]
    np.testing.assert_allclose(found.payload, np.array([[0.6, 0.8], [0, -1]]), atol=3e-4)


@given(seeds, kinds, st.integers(1, 3))
def test_residuals_are_those_of_plain_sums(seed: int, kind: Kind, nearest: int) -> None:
    found, slow = drawn(seed, kind, nearest)
    for row, residuals in enumerate(slow):
        mine = as_vectors(found, row)
        assert list(mine) == sorted(residuals)
        for word, value in residuals.items():
            if kind == "bits":
                assert ((mine[word] > 0) == (np.array(value) >= 0)).all()
            else:
                np.testing.assert_array_equal(mine[word], np.array(value).astype(np.float16))


@given(seeds, kinds)
def test_cut_and_joined_residuals_are_the_same(seed: int, kind: Kind) -> None:
    whole, _ = drawn(seed, kind)
    parts = [select(whole, np.array(rows, np.int64)) for rows in ([0, 1], [], [2, 3])]
    joined = concatenate(parts)
    assert joined.bags.words.tolist() == whole.bags.words.tolist()
    assert joined.payload.tobytes() == whole.payload.tobytes()
    twice = select(whole, np.array([2, 2]))
    assert [as_vectors(twice, row).keys() for row in (0, 1)] == [as_vectors(whole, 2).keys()] * 2


def test_residuals_by_word_are_in_the_order_of_posting_lists() -> None:
    whole, _ = drawn(1, "float16")
    order = sorted(range(len(whole.payload)), key=lambda entry: (whole.bags.words[entry], entry))
    assert by_word(whole).tobytes() == whole.payload[order].tobytes()


def test_no_descriptor_gives_images_without_words() -> None:
    none = np.empty(0, np.int64)
    found = aggregate(
        none, none.astype(np.uint32), np.empty((0, 9), np.float16), np.zeros((2, 9), np.float32),
        IDS, "bits",
    )  # fmt: skip
    assert len(found) == 4
    assert found.payload.shape == empty_residuals(4, 9, "bits").payload.shape == (0, 2)


def unit(*values: float) -> np.ndarray:
    return np.array([values], np.float16)


BAG = BagsOfWords(np.array([0, 1]), np.array([3], np.uint32), np.array([1], np.uint32))


@pytest.mark.parametrize(
    ("payload", "dimensions", "said"),
    [
        (unit(1, 0).astype(np.float32), 2, "float16, or signs as uint8; got float32"),
        (unit(1, 0), 3, "of 3 dimensions takes 3 values as float16; got 2"),
        (np.zeros((1, 2), np.uint8), 8, "of 8 dimensions takes 1 values as bits; got 2"),
        (unit(1, 1), 2, "unit length; that of entry 0 does not"),
        (unit(np.nan, 1), 2, "unit length"),
        (unit(np.inf, 1), 2, "unit length"),
        (np.array([[255]], np.uint8), 7, "signs end at 7 dimensions"),
        (unit(1, 0)[:0], 2, "one residual a word; got 0 for 1"),
        (unit(1, 0)[0], 2, "2 dimensions"),
    ],
)
def test_residuals_that_do_not_fit_are_refused(
    payload: np.ndarray, dimensions: int, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Residuals(BAG, payload, dimensions)


def test_what_cannot_be_aggregated_is_refused() -> None:
    owners, words = np.array([3]), np.array([1], np.uint32)
    rows, centroids = np.ones((1, 2), np.float16), np.zeros((2, 2), np.float32)
    with pytest.raises(ValueError, match="1 descriptors of 2 dimensions"):
        aggregate(owners, words, rows[:, :1], centroids, IDS, "bits")
    with pytest.raises(ValueError, match="word 2 is named, and there are 2"):
        aggregate(owners, words + np.uint32(1), rows, centroids, IDS, "bits")
    with pytest.raises(ValueError, match="none of the images"):
        aggregate(owners + 1, words, rows, centroids, IDS, "bits")
    with pytest.raises(ValueError, match="of one form are joined"):
        concatenate([drawn(0, "bits")[0], drawn(0, "float16")[0]])
    with pytest.raises(ValueError, match="got none"):
        concatenate([])
