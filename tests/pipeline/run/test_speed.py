"""The speed of the last minutes, worked by hand."""

import pytest

from lamella.pipeline.run.speed import Speed


def test_nothing_is_known_until_a_first_unit_has_ended() -> None:
    speed = Speed(0.0, 700)
    speed.note(50.0, 700)
    assert speed.per_second(60.0) is None
    assert speed.seconds_left(60.0, 1_000) is None


def test_what_an_earlier_run_has_done_is_no_part_of_the_speed() -> None:
    speed = Speed(100.0, 9_000)
    speed.note(140.0, 9_200)
    assert speed.per_second(140.0) == 200 / 40
    # 800 more at 5 a second take 160 s; 10 s of them have gone.
    assert speed.seconds_left(150.0, 10_000) == 160 - 10


def test_only_the_last_minutes_count() -> None:
    speed = Speed(0.0, 0)
    for minute in range(1, 11):  # 60 a minute for 10 minutes, then 600 a minute for 6
        speed.note(60.0 * minute, 60 * minute)
    for minute in range(1, 7):
        speed.note(600.0 + 60 * minute, 600 + 600 * minute)
    # From 660 s on, 300 s ago, where 1,200 were done, to 960 s and 4,200.
    assert speed.per_second(960.0) == (4_200 - 1_200) / (960 - 660)


def test_tasks_longer_than_these_minutes_have_a_speed() -> None:
    speed = Speed(0.0, 0)
    speed.note(400.0, 100)
    speed.note(800.0, 200)
    assert speed.per_second(1_000.0) == 100 / 400
    assert speed.per_second(1_150.0) == 100 / 400  # nothing has ended in the last 300 s
    assert speed.seconds_left(1_000.0, 300) == 400 - 200


def test_the_speed_falls_while_nothing_ends_for_longer_than_was_usual() -> None:
    speed = Speed(0.0, 0)
    speed.note(100.0, 50)
    assert speed.per_second(200.0) == 50 / 100
    assert speed.per_second(1_100.0) == 50 / 1_000
    assert speed.seconds_left(1_100.0, 100) == 0.0


def test_ends_that_are_near_to_each_other_take_no_memory() -> None:
    speed = Speed(0.0, 0)
    for number in range(1, 100_001):
        speed.note(number / 100, number)
    assert speed.per_second(1_000.0) == pytest.approx(100.0)
    assert len(speed._ends) < 70
