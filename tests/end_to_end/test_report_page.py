"""The report page in a real browser: what is clicked, typed and linked, and that no name runs."""

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lamella.pipeline.evaluate.matches import Match
from lamella.pipeline.evaluate.page import Pictures, render
from lamella.pipeline.evaluate.page_queries import PageQueries
from lamella.pipeline.search.fuse import map_similarity
from lamella.schemas.query import LayerMap
from tests.report_pages import (
    LAYERS,
    browser,
    choose,
    drawn,
    expect,
    figures,
    findings,
    hash_of,
    jpeg,
    names_of,
    queries_of,
    report_of,
)

pytestmark = pytest.mark.browser

EVIL = "a/<script>document.documentElement.dataset.owned = 1</script>"
HANDLER = 'a/"><img src=x onerror="document.documentElement.dataset.owned = 1">'
CLOSING = "b/</script></title><b>bold</b>&amp;\u202e.jpg"
LONG = "b/" + "a long name " * 30 + ".jpg"
NAMES = [EVIL, HANDLER, CLOSING, LONG] + [f"{g}/{n}.jpg" for g in "cdefgh" for n in range(4)]
SHOWN = 20  # queries whose rankings are shown; of the others the scores are in the list
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def queries() -> PageQueries:
    plan, result = drawn(NAMES)
    ids = 10 * np.arange(len(NAMES)) + 3
    words = (
        Match(
            "conv", 7, 0.2, ((0.1, 0.2, 0.3, 0.4),), ((0.5, 0.1, 0.2, 0.2), (0.0, 0.0, 0.1, 0.1))
        ),
        Match("conv", 1_234, 0.05, ((0.6, 0.6, 0.2, 0.2),), ()),
    )
    pairs = {(int(a), int(b)): words for a in ids for b in ids}
    listed = queries_of(plan, result, SHOWN, pairs)
    return dataclasses.replace(listed, boxes={listed.listed[0]: (0.5, 0.25, 0.5, 0.5)})


@pytest.fixture(scope="module")
def html(queries: PageQueries) -> str:
    inside = {image_id: jpeg(image_id // 10) for image_id in queries.shown_ids}
    del inside[queries.shown_ids[1]]
    report = report_of(queries.plan, queries.result)
    return render(report, queries, Pictures(inside=inside, made=len(inside), size_bytes=1_000))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as opened:
        yield opened


@pytest.fixture
def visit(chromium: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens a page at a size and in a colour scheme; at the end no script of it has failed."""
    contexts, faults, asked = [], [], []

    def opened(html: str, place: str = "", *, wide: int = 1280, scheme: str = "light") -> Any:
        size = {"width": wide, "height": 900}
        context = chromium.new_context(viewport=size, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        (tmp_path / "report.html").write_text(html, encoding="utf-8")
        page.goto((tmp_path / "report.html").as_uri() + place)
        page.wait_for_selector("html[data-ready]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not faults
    assert all(url.startswith(("file:", "data:")) for url in asked)


def test_the_browser_lists_every_query_and_runs_no_name(visit: Open, html: str) -> None:
    page = visit(html)
    assert page.locator("html").get_attribute("data-ready") == str(len(NAMES))
    assert page.locator("#said").inner_text() == f"{len(NAMES)} queries"
    assert page.locator("#list").get_attribute("role") == "list"
    choose(page, "Table")
    page.locator("#find").fill("<")
    expect(page, "#said", f"3 of {len(NAMES)} queries Show all")
    shown = names_of(page)
    assert set(shown) == {EVIL, HANDLER, CLOSING.replace("\u202e", "\\u202e")}
    for name in shown:
        page.get_by_role("link", name=name, exact=True).click()
        if page.locator("[aria-current] .tile").count():
            page.keyboard.press("z")
            page.keyboard.press("Escape")
    assert page.locator("b:text-is('bold')").count() == 0
    assert page.locator("html").get_attribute("data-owned") is None


def test_a_script_that_slips_in_is_stopped_by_the_policy(visit: Open, html: str) -> None:
    slipped = html.replace("<main>", f"<main>{EVIL}<img src=x onerror='{EVIL[10:-9]}'>", 1)
    page = visit(slipped)
    assert page.locator("html").get_attribute("data-owned") is None


def test_columns_sort_both_ways_and_so_does_the_change_between_any_two(
    visit: Open, html: str, queries: PageQueries
) -> None:
    page = visit(html, "#view=table")
    page.get_by_role("button", name="conv").click()
    falling = figures(page, 2)
    assert falling == sorted(falling, reverse=True)
    header = page.get_by_role("columnheader", name="conv")
    assert header.get_attribute("aria-sort") == "descending"
    page.get_by_role("button", name="conv").click()
    rising = figures(page, 2)
    assert rising == sorted(rising)
    assert rising[0] == pytest.approx(queries.result.scores[1].min(), abs=5e-4)
    assert header.get_attribute("aria-sort") == "ascending"
    page.get_by_role("button", name="name").click()
    names = names_of(page)
    assert names[-1].startswith("h/") or names == sorted(names)
    page.locator("#a").select_option(label="fc alone")
    page.locator("#b").select_option(label="conv alone")
    page.locator("#sort").select_option(label="change")
    changes = figures(page, 5)
    assert changes == sorted(changes, reverse=True)
    scores = queries.result.scores
    assert changes[0] == pytest.approx((scores[0] - scores[1]).max(), abs=5e-4)


def test_filters_keep_what_they_say(visit: Open, html: str, queries: PageQueries) -> None:
    page = visit(html, "#view=table")
    change = (queries.result.scores[3] - queries.result.scores[2]).round(5)
    for name, kept in (("Helped", change > 0), ("Hurt", change < 0)):
        choose(page, name)
        assert page.locator("#said").inner_text().startswith(f"{kept.sum()} of {len(NAMES)} ")
        assert all((value > 0) == (name == "Helped") for value in figures(page, 5) if value)
    choose(page, "Worst")
    assert sorted(figures(page, 4)) == pytest.approx(
        np.sort(queries.result.scores[3])[:3], abs=5e-4
    )
    choose(page, "Failed")
    for _ in range(page.locator("#list .line").count()):
        page.keyboard.press("j")
        assert page.locator("[aria-current] .ranking.mapped .tile.right").count() == 0
    page.locator("#find").fill("no such name")
    page.get_by_text("No query is like that").wait_for()
    page.locator("#all").click()
    assert page.locator("#said").inner_text() == f"{len(NAMES)} queries"


def test_an_address_brings_its_view_back(visit: Open, html: str) -> None:
    page = visit(html, "#view=table")
    choose(page, "Helped")
    page.locator("#find").fill("jpg")
    pytest.importorskip("playwright.sync_api").expect(page).to_have_url(re.compile("find=jpg"))
    page.locator("#list a.name").first.click()
    query, listed, place = (
        page.locator("[aria-current] a.name").first.inner_text(),
        names_of(page),
        hash_of(page),
    )
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert (hash_of(page), names_of(page)) == (place, listed)
    assert page.locator("[aria-current] a.name").first.inner_text() == query
    assert page.locator("#find").input_value() == "jpg"
    strange = visit(html, "#show=nothing&sort=__proto__&q=nobody&zoom=99:direct&a=none&view=<b>")
    assert strange.locator("#said").inner_text() == f"{len(NAMES)} queries"
    assert not strange.locator("#zoom").is_visible()


def test_a_result_that_is_clicked_becomes_the_query_and_back_goes_back(
    visit: Open, html: str
) -> None:
    page = visit(html)
    first = page.locator("#list .row").first
    was = first.locator("a.name").inner_text()
    first.locator("a.name").click()
    tile = first.locator(".ranking.mapped .tile.wrong .pick").first
    name = tile.get_attribute("aria-label").split(": ", 1)[1]
    tile.click()
    assert page.locator("[aria-current] a.name, [aria-current] .name").first.inner_text() == name
    assert page.evaluate("document.activeElement.matches('[aria-current]')")
    page.go_back()
    expect(page, "[aria-current] a.name", was)


def test_a_result_that_is_no_query_shows_who_found_it(visit: Open, tmp_path: Path) -> None:
    plan, result = drawn(["a/1", "a/2", "a/3", "b/1", "b/2", "alone/x"])  # a group of one asks not
    listed = queries_of(plan, result)
    page = visit(render(report_of(plan, result), listed))
    page.locator(".tile:has-text('x') .pick").first.click()
    said = page.locator("#said").inner_text()
    assert "that show alone/x among their first" in said
    assert "found=alone%2Fx" in hash_of(page)
    assert page.locator("#list .row").first.get_attribute("aria-setsize") == said.split()[0]


def test_side_by_side_says_what_each_layer_says(
    visit: Open, html: str, queries: PageQueries
) -> None:
    page = visit(html)
    query = queries.listed[0]
    page.locator("#list .row").first.locator(".ranking.mapped .tile").nth(1).hover()
    page.locator("#list .row").first.locator(".ranking.mapped .zoom").nth(1).click()
    dialog = page.locator("#zoom")
    assert "Rank 2 by mapped fusion" in dialog.locator("h2").inner_text()
    for rank in range(2, 9):
        s = queries.result.similarities[3, query, rank - 1]
        f = map_similarity(s, LAYERS[0].t, LAYERS[0].p)
        cells = [row.all_inner_texts() for row in _rows(dialog)]
        place = queries.result.first[3, query, rank - 1]
        for layer, mapped in ((0, f[0]), (1, s[1])):
            assert cells[layer][:2] == [f"{s[layer]:.3f}", f"{mapped:.3f}"]
            assert cells[layer][2] == _rank(queries, layer, query, place)
        assert cells[2][1:] == [f"{s.sum():.3f}", _rank(queries, 2, query, place)]
        assert cells[3][1:] == [f"{f[0] + s[1]:.3f}", str(rank)]
        page.keyboard.press("ArrowRight")
    assert "zoom=8%3Amapped" in hash_of(page)
    assert dialog.locator(".part").get_attribute("style").startswith("left: 50%; top: 25%;")
    assert [frame.locator(".box").count() for frame in dialog.locator(".frame").all()] == [2, 2]
    frame = dialog.locator(".frame").nth(0)
    assert frame.evaluate("f => f.offsetWidth / f.offsetHeight") == pytest.approx(80 / 60, rel=0.01)
    box = frame.locator(".box").first
    assert box.get_attribute("style").startswith("left: 10%; top: 20%; width: 30%; height: 40%")
    dialog.get_by_role("button", name="conv 1,234: 0.050").click()
    assert dialog.locator(".box.on").count() == 1
    page.keyboard.press("ArrowUp")
    assert "by direct sum" in dialog.locator("h2").inner_text()
    page.reload()
    dialog.wait_for()
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert "zoom" not in hash_of(page)


def _rows(dialog: Any) -> list[Any]:
    return [row.locator("td") for row in dialog.locator("tbody tr").all()]


def _rank(queries: PageQueries, ranking: int, query: int, place: int) -> str:
    known = queries.result.first[ranking, query].tolist()
    return str(known.index(place) + 1) if place in known else f"> {len(known)}"


def test_the_keyboard_does_it_all(visit: Open, html: str) -> None:
    page = visit(html)
    order = page.evaluate("order")
    current = "state.query"
    for key, place in (("j", 0), ("j", 1), ("k", 0), ("ArrowDown", 1), ("ArrowUp", 0), ("G", -1)):
        page.keyboard.press(key)
        assert page.evaluate(current) == order[place], key
        assert page.evaluate("document.activeElement.dataset.query") == str(order[place])
    page.keyboard.press("g")
    page.keyboard.press("z")
    assert page.locator("#zoom").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    assert page.locator("#head").is_visible()
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("jjz/")
    assert page.locator("#find").input_value() == "jjz/"
    page.keyboard.press("Escape")
    assert page.locator("#find").input_value() == ""
    page.keyboard.press("Escape")
    assert page.evaluate(current) is None


def test_few_rows_are_in_the_document_however_far_it_is_scrolled(visit: Open) -> None:
    plan, result = drawn([f"{n // 4}/{n}.jpg" for n in range(120)])
    page = visit(render(report_of(plan, result), queries_of(plan, result)))
    assert page.locator("#list").evaluate("list => list.offsetHeight") > 40_000
    seen = set()
    for share in (0.0, 0.3, 0.9, 1.0):
        page.evaluate(f"scrollTo(0, {share} * document.body.scrollHeight)")
        page.evaluate("new Promise(requestAnimationFrame)")
        assert 1 <= page.locator("#list .row").count() < 12
        seen |= set(names_of(page))
    assert len(seen) > 12


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_in_the_way_of_a_screen_reader(visit: Open, html: str, scheme: str) -> None:
    page = visit(html, scheme=scheme)
    assert findings(page) == []
    page.keyboard.press("t")
    page.keyboard.press("j")
    assert findings(page) == []
    page.keyboard.press("z")
    assert findings(page) == []


@pytest.mark.parametrize("wide", [390, 1440])
def test_nothing_is_wider_than_the_window(visit: Open, html: str, wide: int) -> None:
    page = visit(html, wide=wide)
    for key in ("j", "t", "z"):
        assert page.evaluate("document.documentElement.scrollWidth") <= wide
        page.keyboard.press(key)
    assert page.locator("#zoom").is_visible()
    assert page.locator("#zoom").evaluate("box => box.scrollWidth <= box.clientWidth")


def test_dark_is_dark(visit: Open, html: str) -> None:
    colours = [
        visit(html, scheme=scheme).evaluate(
            "getComputedStyle(document.documentElement).backgroundColor"
        )
        for scheme in ("light", "dark")
    ]
    assert colours == ["rgb(247, 246, 242)", "rgb(19, 20, 25)"]


def test_paper_has_the_scores_and_the_first_queries(visit: Open, html: str) -> None:
    page = visit(html)
    assert page.pdf().startswith(b"%PDF")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    shown = [page.locator(each).is_visible() for each in ("#scores", "#sweep", "#bar")]
    assert shown == [True, True, False]
    assert page.locator("#list .row").count() == 12
    page.set_viewport_size({"width": 718, "height": 1_047})  # A4 with margins of 10 mm
    rows = "[...document.querySelectorAll('#list .row')]"
    boxes = page.evaluate(f"{rows}.map((row) => row.getBoundingClientRect().toJSON())")
    assert boxes[0]["bottom"] < 1_047
    assert len({box["y"] for box in boxes}) == 12
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#list").evaluate("list => list.style.height") != ""


def test_pictures_are_taken_from_the_folder_beside_the_page(
    visit: Open, queries: PageQueries, tmp_path: Path
) -> None:
    folder = tmp_path / "page of #1 % é-files"
    folder.mkdir()
    for number in range(len(queries.shown_ids)):
        if number != 2:
            (folder / f"{number}.jpg").write_bytes(jpeg(number))
    gone = frozenset([queries.shown_ids[0]])
    pictures = Pictures(folder=folder.name, made=9, size_bytes=9, gone=gone, note="One is gone.")
    page = visit(render(report_of(queries.plan, queries.result), queries, pictures))
    widths = "Promise.all(order.map((i) => i.decode().then(() => i.naturalWidth)))"
    widths = widths.replace("order", "[...document.querySelectorAll('.row:first-child .tile img')]")
    assert set(page.evaluate(widths)) == {80}
    assert page.locator("#gone").inner_text() == "Pictures are missing. One is gone."
    first = page.locator("#list .row").first
    assert first.locator(".whole .blank").count() == 1  # the first query's own picture is gone
    page.evaluate("scrollTo(0, 1600)")
    page.wait_for_selector(".whole .blank")  # one that the folder lacks is shown by its name


@pytest.mark.parametrize(
    ("names", "layers", "metric"),
    [
        (["a/1", "a/2", "b/1"], LAYERS, "mAP"),
        ([f"{g}/{n}" for g in "abc" for n in range(4)], LAYERS[1:], "N-S"),
        (
            [f"{g}/{n}" for g in "abc" for n in range(4)],
            (LayerMap(layer="top" * 30, t=0.1, p=0.5, weight=2.0), *LAYERS),
            "N-S",
        ),
    ],
    ids=["two queries", "one layer", "three layers"],
)
def test_any_number_of_layers_and_queries_makes_a_page(
    visit: Open, names: list[str], layers: tuple[LayerMap, ...], metric: Any
) -> None:
    plan, result = drawn(names, layers=layers, metric=metric)
    listed = queries_of(plan, result)
    page = visit(render(report_of(plan, result), listed))
    rankings = 1 if len(layers) == 1 else len(layers) + 2
    assert page.locator("#list .row").first.locator(".ranking").count() == rankings
    assert page.locator("#pair").is_visible() == (rankings > 1)
    page.keyboard.press("j")
    page.keyboard.press("z")
    assert page.locator("#zoom").is_visible()
    assert findings(page) == []
    data = json.loads(page.locator("#data").text_content())
    assert len(data["rankings"]) == rankings
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
