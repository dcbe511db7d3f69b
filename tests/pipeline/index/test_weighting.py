import math

import numpy as np
import pytest

from lamella.pipeline.index.weighting import idf, word_weights


def test_idf_is_worked_by_hand() -> None:
    # 8 images: a word in 2 of them has ln(8 / 2) = ln 4, one in all ln 1 = 0, one in none 0
    weights = idf(np.array([2, 8, 0, 1]), 8)
    assert weights.tolist() == [math.log(4), 0.0, 0.0, math.log(8)]
    assert weights.dtype == np.float64


def test_tf_counts_every_word_once() -> None:
    frequencies = np.array([2, 0])
    assert word_weights("tf", frequencies, 4).tolist() == [1.0, 1.0]
    assert word_weights("tf-idf", frequencies, 4).tolist() == [math.log(2), 0.0]


def test_a_word_in_more_images_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="0 to 3 images"):
        idf(np.array([4]), 3)
