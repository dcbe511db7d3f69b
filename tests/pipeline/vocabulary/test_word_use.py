"""Use of words: worked by hand."""

import math

import numpy as np
import pytest

from lamella.pipeline.diagnostics.health import improvements
from lamella.pipeline.vocabulary.word_use import word_use
from lamella.schemas.vocabulary import RoundReport


def test_four_words_worked_by_hand() -> None:
    use = word_use(np.array([2, 1, 1, 0]))
    assert (use.words, use.empty, use.rows) == (4, 1, 4)
    assert use.entropy == 1.5  # 1/2 * 1 + 1/4 * 2 + 1/4 * 2
    assert use.evenness == 0.75  # of log2(4) = 2
    assert use.largest_share == 0.5
    assert use.imbalance == 1.5  # 4 * (4 + 1 + 1) / 16


def test_words_left_out_are_empty() -> None:
    assert word_use(np.array([2, 1, 1]), 4) == word_use(np.array([2, 1, 1, 0]))


def test_even_use_is_the_best() -> None:
    use = word_use(np.full(10, 7))
    assert use.imbalance == 1.0
    assert math.isclose(use.evenness, 1.0)
    assert word_use(np.array([5])).evenness == 1.0


def test_no_rows_use_no_words() -> None:
    use = word_use(np.zeros(3, np.int64))
    assert (use.empty, use.rows, use.entropy, use.imbalance) == (3, 0, 0.0, 0.0)


def test_impossible_counts_are_refused() -> None:
    for counts, words in (([], 0), ([1, 2], 1), ([-1], 1)):
        with pytest.raises(ValueError, match="counts are 0 or more"):
            word_use(np.array(counts, np.int64), words)


def test_improvements_are_between_full_rounds() -> None:
    reports = [
        RoundReport(
            round=number, share=share, objective=objective, changed=0, empty_words=0, imbalance=1
        )
        for number, (share, objective) in enumerate([(0.5, 9), (1, 4), (1, 3), (1, 0), (1, 0)])
    ]
    assert improvements(reports) == (0.25, 1.0, 0.0)
