"""A beat checks itself, and tells times apart by its own clock alone."""

from typing import Any

import pytest
from pydantic import ValidationError

from lamella.schemas.beat import Beat, Problem, StageBeat

TOLD: dict[str, Any] = {
    "job": "20261130T190400Z-0123abcd",
    "number": 3,
    "command": "index",
    "host": "host-a",
    "process": 7,
    "begun_at": "2026-11-30T19:04:00+00:00",
    "told_at": "2026-11-30T19:06:10+00:00",
    "every_s": 60.0,
}


def test_a_beat_is_read_back_as_it_was_written() -> None:
    stage = StageBeat(name="extract", done=5, total=20, per_second=2.5, seconds_left=6.0)
    problem = Problem(at=TOLD["told_at"], level="warning", event="task-retried", reason="x")
    beat = Beat(**TOLD, stages=(stage,), problem=problem, refused={"corrupt": 2})
    assert Beat.from_json(beat.to_json()) == beat


def test_how_long_a_job_ran_is_by_its_own_clock_and_never_negative() -> None:
    assert Beat(**TOLD).seconds_running() == 130.0
    back = TOLD | {"told_at": "2026-11-30T19:00:00+00:00"}  # its clock was set back meanwhile
    assert Beat(**back).seconds_running() == 0.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"job": "../x"},
        {"number": 0},
        {"told_at": "2026-11-30T19:06:10"},  # of which zone?
        {"begun_at": "yesterday"},
        {"every_s": 0},
        {"refused": {"corrupt": -1}},
        {"colour": "red"},
    ],
)
def test_a_beat_that_says_nothing_sound_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Beat(**(TOLD | wrong))
