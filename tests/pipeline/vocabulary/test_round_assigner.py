"""How far a round looks for the words near a word."""

import pytest

from lamella.pipeline.vocabulary.ivf import FAR, NEAR, Reach
from lamella.pipeline.vocabulary.round_assigner import SETTLING, reach_of_round
from tests.pipeline.vocabulary.vectors import reports

STILL = 1.0 - SETTLING / 2


@pytest.mark.parametrize(
    ("objectives", "reach"),
    [
        ((), NEAR),
        ((1.0,), NEAR),
        ((1.0, 0.9), NEAR),
        ((1.0, 1.0 - 2 * SETTLING), NEAR),
        ((1.0, STILL), FAR),
        ((1.0, 1.1), FAR),  # it rises where words were put on far rows
        ((1.0, STILL, 0.9 * STILL), FAR),  # falls again, for far neighbours are new
    ],
)
def test_neighbours_are_sought_far_once_words_settle(
    objectives: tuple[float, ...], reach: Reach
) -> None:
    assert reach_of_round(reports(*objectives, share=1.0)) == reach


def test_rounds_over_parts_of_the_rows_say_nothing_of_settling() -> None:
    parts, whole = reports(1.0, 1.0, 1.0), reports(1.0, share=1.0)
    assert reach_of_round(parts) == NEAR
    assert reach_of_round([*parts, *whole]) == NEAR
    assert reach_of_round([*parts, *whole, *whole]) == FAR
