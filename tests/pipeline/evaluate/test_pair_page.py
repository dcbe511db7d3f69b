"""The page of an explanation: boxes by hand, names that do nothing, and a real browser."""

import io
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lamella.pipeline.evaluate.matches import Match
from lamella.pipeline.evaluate.pair import Explanation, Neighbour, PairLayer, RankBy, Side
from lamella.pipeline.evaluate.pair_page import Shown, drawn, layer_words, map_chart, render
from lamella.schemas.query import FusionSpec, LayerMap

EVIL = "<script>document.documentElement.dataset.owned = 1</script>\u202e.jpg"
HANDLER = '"><img src=x onerror="document.documentElement.dataset.owned = 1">'
FUSION = FusionSpec(
    layers=(LayerMap(layer="fc", t=0.2, p=0.45), LayerMap(layer="conv"), LayerMap(layer="low"))
)
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def shown(colour: int) -> Shown:
    picture = io.BytesIO()
    Image.new("RGB", (240, 160), (40 * colour, 200 - 30 * colour, 120)).save(picture, "JPEG")
    return Shown(picture.getvalue(), 240, 160)


def match(layer: str, word: int, weight: float) -> Match:
    left = 0.1 * (word % 7)
    return Match(
        layer,
        word,
        weight,
        ((left, 0.0, 0.2, 0.5), (left, 0.75, 0.1, 0.25)),
        ((0.6 - left, 0.25, 0.2, 0.5),),
    )


@pytest.fixture(scope="module")
def found() -> Explanation:
    layers = (
        PairLayer("fc", "global", 0.2, 0.45, 1.0, 0.5, 0.714, 0.714, 4),
        PairLayer("conv", "local", 1.0, 1.0, 1.0, 0.45, 0.45, 0.45, 2, 12, 40, 30),
        PairLayer("low", "local", 1.0, 1.0, 1.0, 0.2, 0.2, 0.2, 9, 2, 8, 5),
    )
    words = [match("conv", word, (12 - word) / 200) for word in range(12)]
    return Explanation(
        snapshot="0f" * 32,
        images=12_345,
        fusion=FUSION,
        weighting="tf-idf",
        query=Side(EVIL, 7, "same"),
        result=Side(HANDLER, 8, "others", "its words are others"),
        layers=layers,
        ranks=(RankBy("alone", "fc", 4, 0.5), RankBy("mapped", "", 3, 1.364)),
        above=(Neighbour(2, 9, EVIL, 1.5, (0.6, 0.4, 0.1), (0.8, 0.6, 0.1)),),
        below=(),
        matches=(*words, match("low", 3, 0.15), match("low", 4, 0.05)),
    )


@pytest.fixture(scope="module")
def page(found: Explanation) -> str:
    return render(found, shown(1), shown(2))


def test_a_place_is_first_drawn_for_its_weightiest_word() -> None:
    # Word 0 has the left half, word 1 the whole: of it the right half is left for word 1.
    boxes = drawn([[(0.0, 0.0, 0.5, 1.0)], [(0.0, 0.0, 1.0, 1.0)]])
    own = [(box.word, box.x, box.width) for box in boxes if not box.first]
    first = [(box.word, box.x, box.width, box.number) for box in boxes if box.first]
    assert own == [(0, 0.0, 50.0), (1, 0.0, 100.0)]
    assert first == [(0, 0.0, 50.0, 1), (1, 50.0, 50.0, 2)]


def test_a_word_whose_places_all_have_weightier_words_is_drawn_when_it_is_chosen() -> None:
    boxes = drawn([[(0.0, 0.0, 1.0, 1.0)], [(0.2, 0.2, 0.1, 0.1)]])
    assert {box.word for box in boxes if box.first} == {0}
    assert [box.x for box in boxes if box.word == 1] == [20.0]


def test_the_largest_box_of_a_word_has_its_number() -> None:
    boxes = drawn([[(0.0, 0.0, 0.1, 0.1), (0.5, 0.5, 0.4, 0.4)]])
    assert [(box.x, box.number) for box in boxes if box.first] == [(0.0, None), (50.0, 1)]


def test_only_the_first_words_have_a_colour(found: Explanation) -> None:
    words = layer_words(found, found.layers[1])
    assert {box.word for box in words.query if box.first} <= set(range(8))
    assert {box.word for box in words.query if not box.first} == set(range(12))
    assert (len(words.lines), words.rest) == (12, 0)
    many = replace(found, matches=tuple(match("conv", word, 0.01) for word in range(40)))
    words = layer_words(many, found.layers[1])
    assert (len(words.lines), words.rest) == (30, 10)
    assert words.rest_weight == pytest.approx(0.1)


def test_names_do_nothing(page: str) -> None:
    assert "<script>document" not in page
    assert "<img src=x" not in page
    assert "\u202e" not in page
    assert "\\u202e" in page
    assert "rank 3 of 12,345" in page


def test_the_same_explanation_gives_the_same_page(found: Explanation, page: str) -> None:
    assert render(found, shown(1), shown(2)) == page


def test_pictures_that_are_gone_and_layers_without_words(found: Explanation) -> None:
    alone = replace(found, layers=found.layers[:1], matches=(), above=())
    page = render(alone, None, None)
    assert page.count("This picture cannot be shown") == 2
    assert "no local layer" in page
    assert "<ol>" not in page


def test_the_chart_has_a_point_for_each_layer(found: Explanation) -> None:
    drawn_map = map_chart(found.layers)
    assert "fc from 0.500 to 0.714" in drawn_map
    for layer in found.layers:
        assert f"{layer.layer}: S {layer.similarity:.3f}" in drawn_map


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as started:
        arguments = ["--no-sandbox", "--disable-quic"]
        opened = started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


def opened(browser: Any, page: str, folder: Path, **more: Any) -> Any:
    (folder / "page.html").write_text(page, encoding="utf-8")
    tab = browser.new_page(**more)
    tab.goto((folder / "page.html").as_uri())
    return tab


@pytest.mark.browser
def test_a_word_is_shown_on_both_pictures(browser: Any, page: str, tmp_path: Path) -> None:
    tab = opened(browser, page, tmp_path)
    assert tab.evaluate("document.documentElement.dataset.ready") == "12"
    assert tab.evaluate("document.documentElement.dataset.owned") is None
    own = tab.locator(".boxes:not([hidden]) .own")
    assert own.count() == 12 * 3
    shown_own = tab.locator(".boxes:not([hidden]) .own:visible")
    assert shown_own.count() == 0
    third = tab.locator(".words button").nth(2)
    third.hover()
    assert shown_own.count() == 3  # two boxes on the query, one on the result
    third.click()
    tab.mouse.move(1, 1)
    assert shown_own.count() == 3
    assert third.get_attribute("aria-pressed") == "true"
    tab.keyboard.press("ArrowDown")
    assert tab.evaluate("document.activeElement.dataset.word") == "0.3"
    assert {each.get_attribute("data-word") for each in shown_own.all()} == {"0.3"}
    tab.keyboard.press("Escape")
    assert shown_own.count() == 0
    tab.locator(".boxes:not([hidden]) .first").first.click()
    assert tab.locator("[aria-pressed=true]").get_attribute("data-word") == "0.0"
    tab.close()


@pytest.mark.browser
def test_another_layer_has_words_of_its_own(browser: Any, page: str, tmp_path: Path) -> None:
    tab = opened(browser, page, tmp_path)
    tab.get_by_role("radio", name="low").check()
    assert tab.locator(".words:visible button").count() == 2
    assert tab.locator(".boxes:not([hidden]) .own").count() == 2 * 3
    tab.locator(".words:visible button").first.click()
    assert tab.locator(".own:visible").count() == 3
    tab.emulate_media(media="print")
    assert tab.locator(".words:visible").count() == 2  # both lists are printed
    tab.close()


@pytest.mark.browser
@pytest.mark.parametrize(
    ("width", "scheme"), [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")]
)
def test_nothing_is_in_the_way_of_anybody(
    browser: Any, page: str, tmp_path: Path, width: int, scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    size = {"width": width, "height": 844}
    tab = opened(browser, page, tmp_path, viewport=size, color_scheme=scheme)
    found = axe.run(tab).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.close()
