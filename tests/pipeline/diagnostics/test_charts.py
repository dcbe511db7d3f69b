"""Charts: places worked by hand, ticks that can be read, text that does nothing."""

from xml.etree import ElementTree

import pytest

from lamella.pipeline.diagnostics.charts import Axis, Chart, log_ticks, nice_step, short, spread


def test_places_on_an_axis_worked_by_hand() -> None:
    assert Axis(10, 20, "").place(15) == 0.5
    assert Axis(1, 10_000, "", log=True).place(100) == 0.5
    assert Axis(1, 10, "", log=True).place(0) == 0.0  # as far as the axis goes
    assert Axis(3, 3, "").place(3) == 0.0


@pytest.mark.parametrize(
    ("about", "step"), [(0.03, 0.05), (0.05, 0.05), (7, 10), (1, 1), (0.11, 0.2), (0, 1)]
)
def test_steps_are_one_two_or_five(about: float, step: float) -> None:
    assert nice_step(about) == step


def test_ticks_lie_between_the_ends() -> None:
    assert Axis(0.29, 0.46, "").ticks() == pytest.approx([0.3, 0.35, 0.4, 0.45])
    assert Axis(-0.4, 2.4, "", whole=True).ticks() == [0, 1, 2]
    assert log_ticks(1, 1_000) == [1, 10, 100, 1_000]
    assert log_ticks(0.9, 45) == pytest.approx([1, 3, 10, 30])
    assert log_ticks(2, 9) == pytest.approx([2, 5])


def test_numbers_are_written_short() -> None:
    assert [short(value) for value in (0.1 + 0.2, 3.0, 9_000.0, 20_000.0, 3e6)] == [
        *("0.3", "3", "9000", "20k", "3M")
    ]


def test_an_axis_has_room_around_its_values_even_if_they_are_one() -> None:
    low, high = spread([2.0, 2.0])
    assert low < 2 < high
    assert spread([0.0]) == (-1.0, 1.0)


def test_a_note_does_not_stand_on_another() -> None:
    chart = Chart(Axis(0, 1, ""), Axis(0, 1, ""), "")
    chart.note(0.5, 0.5, "first").note(0.5, 0.51, "second").note(0.5, 0.9, "third")
    assert [text in chart.svg() for text in ("first", "second", "third")] == [True, False, True]


def test_a_chart_is_sound_xml_and_its_text_does_nothing() -> None:
    evil = '</svg><script>alert(1)</script>"'
    chart = Chart(Axis(0, 1, evil), Axis(0, 1, evil), evil)
    chart.line([(0, 0), (1, 1)], "line one").dots([(0.5, 0.5)], "dot", 3, [evil])
    chart.bars([(0.5, 0.5)], 0.1, "bar", [evil]).note(0.2, 0.2, evil)
    drawn = ElementTree.fromstring(chart.svg([(0.5, evil)]))
    assert {each.tag for each in drawn.iter()} == {
        *("svg", "text", "path", "polyline", "circle", "rect", "title")
    }
    assert sum(evil in (each.text or "") for each in drawn.iter()) == 6
    line = drawn.find("polyline")
    assert line is not None
    assert line.get("points") == "56.0,198.0 378.0,12.0"
