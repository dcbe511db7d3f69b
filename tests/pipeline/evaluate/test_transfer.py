"""The matrix of settings carried from data set to data set, by hand."""

import pytest

from lamella.pipeline.evaluate.transfer import transfer


def test_what_one_data_set_chose_is_scored_on_the_others() -> None:
    means = {
        "a": [0.50, 0.75, 0.25],  # chooses point 1
        "b": [0.75, 0.50, 0.75],  # chooses point 0, the first of the best
        "c": [0.00, 0.25, 1.00],  # chooses point 2
    }
    rows = transfer(means)
    assert [(row.name, row.setting) for row in rows] == [("a", 1), ("b", 0), ("c", 2)]
    assert rows[0].scores == {"a": 0.75, "b": 0.50, "c": 0.25}
    assert rows[0].losses == {"a": 0.0, "b": 0.25, "c": 0.75}
    assert rows[1].losses == {"a": 0.25, "b": 0.0, "c": 1.0}
    assert rows[2].losses == {"a": 0.5, "b": 0.0, "c": 0.0}


def test_settings_that_no_data_set_chose_stand_below_with_what_they_lose() -> None:
    rows = transfer({"a": [0.5, 0.75], "b": [1.0, 0.5]}, {"scaled": {"a": 0.875, "b": 0.75}})
    last = rows[-1]
    assert (last.name, last.setting) == ("scaled", None)
    assert last.losses == {"a": -0.125, "b": 0.25}  # other weights may be better than any point


@pytest.mark.parametrize("means", [{"a": [0.5], "b": [0.5, 0.6]}, {"a": []}])
def test_data_sets_of_other_points_cannot_be_compared(means: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="same points"):
        transfer(means)
