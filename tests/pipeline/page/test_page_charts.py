"""Charts for pages: sound XML, colours of the page, text that does nothing, the same bytes."""

from typing import Any
from xml.etree import ElementTree

from lamella.pipeline.page.charts import COLOURS, chart, in_powers

EVIL = '</svg><script>alert(1)</script>"'


def draw(axes: Any) -> None:
    axes.plot([0, 1, 2], [0.1, 0.4, 0.2], color=COLOURS["one"], label="a $x^2$ line")
    axes.bar([0, 1], [0.2, 0.3], color=COLOURS["two"])
    axes.set(xlabel=EVIL, ylabel="mAP")
    axes.legend()


def test_a_chart_is_one_sound_element_and_its_text_does_nothing() -> None:
    root = ElementTree.fromstring(chart(draw, EVIL))
    assert root.tag.endswith("svg")
    assert root.get("aria-label") == EVIL
    assert root.get("width") is None
    texts = [each.text for each in root.iter() if each.tag.endswith("text")]
    assert EVIL in texts
    assert "a $x^2$ line" in texts
    assert not [each for each in root.iter() if each.tag.endswith("script")]


def test_colours_are_those_of_the_page() -> None:
    drawn = chart(draw, "a line")
    assert "var(--one)" in drawn
    assert "var(--two)" in drawn
    assert not [name for name, colour in COLOURS.items() if colour in drawn]


def test_the_same_drawing_gives_the_same_bytes() -> None:
    assert chart(draw, "a line") == chart(draw, "a line")


def test_powers_are_plain_numbers() -> None:
    def draw(axes: Any) -> None:
        axes.plot([1, 50, 2_000], [0.02, 0.5, 40.0])
        in_powers(axes, "x", "y")

    root = ElementTree.fromstring(chart(draw, "powers"))
    texts = {each.text for each in root.iter() if each.tag.endswith("text")}
    assert {"1", "30", "1,000", "0.1", "10"} <= texts
    assert not [text for text in texts if text and "$" in text]


def test_two_charts_share_no_id() -> None:
    def other(axes: Any) -> None:
        axes.plot([3, 1], [0, 1])

    first, second = (ElementTree.fromstring(chart(each, "a")) for each in (draw, other))
    ids = [{each.get("id") for each in root.iter()} - {None} for root in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    links = [value for each in first.iter() for name, value in each.items() if "href" in name]
    assert links
    assert {link.removeprefix("#") for link in links} <= ids[0]
