"""Reports: what was added later is left out where it says nothing, and old ones are read."""

import pytest
from pydantic import ValidationError

from lamella.pipeline.evaluate.figures import chosen_text, joint_text, signed_text
from lamella.schemas.report import CrossValidated, JointSweep, MapSetting, SweepPoint

POINT = SweepPoint(t=0.2, p=0.45, score=0.5)


def test_two_halves_of_before_are_two_folds() -> None:
    value = {"score": 0.5, "chosen": [{"t": 0.2, "p": 0.45, "score": 0.5}] * 2}
    honest = CrossValidated.model_validate(value)
    assert honest.chosen == (POINT, POINT)
    assert honest.model_dump(mode="json") == value  # no field more: digests stay


def test_one_fold_is_no_cross_validation() -> None:
    with pytest.raises(ValidationError, match="at least 2"):
        CrossValidated(score=0.5, chosen=(POINT,))


def test_settings_that_folds_chose_are_counted() -> None:
    other = SweepPoint(t=0.4, p=0.3, lower=(MapSetting(t=0.6, p=0.8),), score=0.25)
    assert chosen_text(CrossValidated(score=0.5, chosen=(POINT, other, POINT))) == (
        "chosen on the other folds of the queries: t 0.2, p 0.45 (2 of 3); "
        "t 0.4, p 0.3 then t 0.6, p 0.8 (1 of 3)"
    )


def test_a_joint_sweep_says_how_much_it_tried() -> None:
    joint = JointSweep(points=1000, left_out=4, best=POINT)
    assert joint_text(joint, "mAP") == (
        "best of 1,000 settings (4 left out) of all maps at once: .500 at t 0.2, p 0.45, tuned on "
        "these queries"
    )


def test_differences_have_signs_unless_they_round_to_zero() -> None:
    found = [signed_text(value, 3) for value in (0.05, -0.05, 0.0001, -0.0001, 1.5)]
    assert found == ["+.050", "-.050", ".000", ".000", "+1.500"]
