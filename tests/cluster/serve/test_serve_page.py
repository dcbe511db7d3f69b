"""The page to search with, in a real browser: what is dropped, clicked, moved, typed and linked."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from lamella.cluster.serve.run import Server
from tests.end_to_end.commands import Stores
from tests.report_pages import browser, expect, findings
from tests.serving import listening
from tests.tiny import tiny_index, tiny_pictures

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=document.documentElement.dataset.owned=1>.png"

GONE = "cats/09.png"


@pytest.fixture(scope="module")
def pictures(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in two folders, one of them of a name that would run if it were markup.

    `stores` has the network opened once.
    """
    folder = tiny_pictures(tmp_path_factory.mktemp("page") / "pictures", 12, broken=0)
    for number, path in enumerate(sorted(folder.iterdir())):
        below = folder / ("cats" if number % 2 else "dogs")
        below.mkdir(exist_ok=True)
        path.rename(below / (EVIL if number == 3 else path.name))
    return folder


@pytest.fixture(scope="module")
def server(pictures: Path) -> Iterator[Server]:
    tiny_index(pictures.parent / "store", pictures)
    (pictures / GONE).unlink()
    with listening(pictures.parent / "store") as opened:
        yield opened


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as opened:
        yield opened


@pytest.fixture
def visit(chromium: Any, server: Server) -> Iterator[Any]:
    """Opens the page; at the end no script of it has failed, and nothing was asked elsewhere."""
    contexts, faults, asked = [], [], []

    def opened(path: str = "/", *, wide: int = 1280, high: int = 900, scheme: str = "light") -> Any:
        size = {"width": wide, "height": high}
        context = chromium.new_context(viewport=size, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(server.address + path)
        page.wait_for_selector("[data-ready]")
        return page

    yield opened
    for each in contexts:
        each.close()
    assert faults == []
    elsewhere = [each for each in asked if not each.startswith((server.address, "blob:", "data:"))]
    assert elsewhere == []


def names(page: Any) -> list[str]:
    """Return the names of the results, in their order."""
    return [
        str(each) for each in page.locator(".hit .label").evaluate_all("l => l.map(e => e.title)")
    ]


def searched(page: Any) -> None:
    """Wait for an answer of the server."""
    expect(page, "#state", re.compile("certified · snapshot 1"))


def said(page: Any) -> dict[str, list[str]]:
    """Return what the address of the page says."""
    return parse_qs(urlsplit(page.url).query)


def id_of(server: Server, name: str) -> str:
    return str(server.service.following.current.ids_of([name])[name])


def drop(page: Any, path: Path) -> None:
    """Drop a file on the page."""
    data = base64.b64encode(path.read_bytes()).decode()
    page.evaluate(
        """([data, name]) => {
            const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, { type: "image/png" }));
            const event = new DragEvent("drop", { dataTransfer: transfer, bubbles: true });
            document.querySelector("#drop").dispatchEvent(event);
        }""",
        [data, path.name],
    )


def test_a_file_that_is_dropped_is_searched_with(
    visit: Any, server: Server, pictures: Path
) -> None:
    page = visit()
    path = pictures / "dogs" / "04.png"
    drop(page, path)
    searched(page)
    found = server.service.following.current.index.query(path.read_bytes(), k=12)
    assert names(page) == list(found.names[0])
    expect(page, "#query-name", "04.png")
    assert said(page) == {}  # a file of somebody's own is in no link
    page.set_input_files("#file", pictures / "cats" / "05.png")
    expect(page, "#query-name", "05.png")
    searched(page)
    assert names(page)[0] == "cats/05.png"


def test_a_file_that_is_no_picture_is_refused_with_its_reason(
    visit: Any, tmp_path: Path, pictures: Path
) -> None:
    page = visit()
    wrong = tmp_path / "letter.png"
    wrong.write_text("Dear Sir,")
    drop(page, wrong)
    expect(page, "#problem", re.compile("letter.png cannot be read: the content is in no known"))
    drop(page, pictures / "dogs" / "00.png")
    searched(page)
    assert page.locator("#problem").is_hidden()


def test_a_click_on_a_result_searches_on_and_back_leads_back(visit: Any, server: Server) -> None:
    page = visit(f"/?id={id_of(server, 'dogs/00.png')}")
    searched(page)
    first = names(page)
    page.locator(".hit .pic").nth(2).click()
    expect(page, "#query-name", first[2])
    searched(page)
    assert names(page)[0] == first[2]
    assert said(page)["id"] == [id_of(server, first[2])]
    page.go_back()
    expect(page, "#query-name", "dogs/00.png")
    searched(page)
    assert names(page) == first


def test_a_slider_ranks_at_once_and_the_server_agrees(visit: Any, server: Server) -> None:
    page = visit(f"/?id={id_of(server, 'dogs/00.png')}")
    searched(page)
    layer = server.service.following.current.snapshot.fusion.layers[0].layer
    held: list[Any] = []
    page.route("**/query", lambda route: held.append(route))  # not heard for now
    for name, value in (("t", "0.05"), ("p", "0.02")):
        slider = page.locator(f'[data-of="{layer}.{name}"]')
        slider.evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); }", value)
    expect(page, "#state", "ranked here, the server is asked")
    found = server.service.following.current.index.query(names="dogs/00.png", k=12, t=0.05, p=0.02)
    plain = server.service.following.current.index.query(names="dogs/00.png", k=12)
    assert list(found.names[0]) != list(plain.names[0])  # or this would show nothing
    assert names(page) == list(found.names[0])
    scores = page.locator(".hit .foot > span").all_inner_texts()
    assert scores == [f"F {score:.3f}" for score in found.scores[0]]
    page.wait_for_timeout(500)
    assert len(held) == 1  # one question after both moves
    assert held[0].request.post_data_json["t"] == [0.05]
    held[0].continue_()
    page.unroute("**/query")
    searched(page)
    assert names(page) == list(found.names[0])
    assert said(page)["t"] == ["0.05"]
    page.locator("#reset").click()
    searched(page)
    assert names(page) == list(plain.names[0])
    assert "t" not in said(page)


def test_a_link_shows_what_its_sender_saw(visit: Any, server: Server) -> None:
    high, low = (each.layer for each in server.service.following.current.snapshot.fusion.layers)
    page = visit("/?name=dogs/02.png")
    searched(page)
    page.locator(f'[data-layer="{high}"] input[type=checkbox]').uncheck()
    searched(page)
    page.locator("#k").select_option("12")
    searched(page)
    shown = names(page)
    again = visit(page.url.removeprefix(server.address))
    searched(again)
    assert names(again) == shown
    assert said(again) == said(page)
    assert said(again)["layers"] == [low]
    expect(again, "#query-name", "dogs/02.png")
    assert again.locator("#k").input_value() == "12"
    assert again.locator(f'[data-layer="{low}"] input[type=checkbox]').is_disabled()  # the last one


def test_a_folder_is_asked_as_a_filter(visit: Any, server: Server) -> None:
    page = visit(f"/?id={id_of(server, 'dogs/00.png')}")
    searched(page)
    options = page.locator("#folder option").all_inner_texts()
    assert options == ["all pictures", "cats (6)", "dogs (6)"]
    with page.expect_request("**/query") as asked:
        page.locator("#folder").select_option("cats")
    assert asked.value.post_data_json["where"] == 'startswith(name, "cats/")'
    assert said(page)["folder"] == ["cats"]
    with page.expect_request("**/query") as asked:
        page.locator("#only").fill("width < 1")
        page.keyboard.press("Enter")
    both = 'startswith(name, "cats/") and (width < 1)'
    assert asked.value.post_data_json["where"] == both
    expect(page, ".nothing", "No picture answers that.")
    again = visit(page.url.removeprefix(server.address))
    searched(again)
    assert again.locator("#only").input_value() == "width < 1"
    again.locator("#only").fill("wdth < 1")
    again.keyboard.press("Enter")
    again.locator("#problem", has_text="width").wait_for()


def test_keys_go_through_results_and_search_on(visit: Any, server: Server) -> None:
    page = visit(f"/?id={id_of(server, 'dogs/00.png')}")
    searched(page)
    shown = names(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    focused = "document.activeElement.closest('.hit').querySelector('.label').title"
    assert page.evaluate(focused) == shown[1]
    columns = page.evaluate(
        "getComputedStyle(document.querySelector('#results')).gridTemplateColumns.split(' ').length"
    )
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == shown[min(1 + columns, 11)]
    page.keyboard.press("Enter")
    expect(page, "#query-name", shown[min(1 + columns, 11)])
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("#help").is_hidden()
    page.keyboard.press("/")
    page.keyboard.type("cats/01.png")
    page.keyboard.press("Enter")
    expect(page, "#query-name", "cats/01.png")
    page.locator("#name").fill("cats/1.png")
    page.keyboard.press("Enter")
    expect(page, "#problem", re.compile("has no image of name 'cats/1.png'"))


def test_why_draws_the_words_that_both_pictures_share(visit: Any, server: Server) -> None:
    page = visit(f"/?id={id_of(server, 'dogs/00.png')}")
    searched(page)
    result = names(page)[1]
    page.locator(".hit .link").nth(1).click()
    page.wait_for_selector("#why-layers tr")
    found = server.service.following.current.index.explain("dogs/00.png", result)
    expect(page, "#why-title", f"Why it is at rank {found.rank}")
    shown = page.locator("#why-layers td").all_inner_texts()
    assert shown[0] == f"{found.layers[0].similarity:.4f}"
    boxes = sum(len(each.query_boxes) for each in found.matches[:12])
    assert page.locator("#boxes-query i").count() == boxes > 0
    page.locator("#why-words button").first.click()
    lit = page.locator("#boxes-result i.on").count()
    assert lit == len(found.matches[0].result_boxes) > 0
    assert findings(page) == []
    page.keyboard.press("Escape")
    assert page.locator("#why").is_hidden()


def test_names_of_pictures_are_shown_and_never_run(visit: Any) -> None:
    page = visit("/?name=dogs/00.png")
    searched(page)
    assert f"cats/{EVIL}" in names(page)
    page.locator("#name").fill(f"cats/{EVIL}")
    page.keyboard.press("Enter")
    expect(page, "#query-name", f"cats/{EVIL}")
    searched(page)
    assert page.evaluate("document.documentElement.dataset.owned") is None


def test_a_picture_that_is_gone_has_a_placeholder(visit: Any) -> None:
    page = visit(f"/?name={GONE}")
    searched(page)
    expect(page, ".hit >> nth=0 >> .pic", "no picture")
    expect(page, "#invite", "This picture cannot be shown here.")


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_axe_finds_nothing_wrong(visit: Any, scheme: str) -> None:
    page = visit("/", scheme=scheme)
    assert findings(page) == []
    page.locator("#random").click()
    searched(page)
    page.wait_for_timeout(600)  # what moved up has faded
    assert findings(page) == []
    page.locator("#keys").click()
    assert findings(page) == []
    page.goto(page.url.partition("?")[0] + "docs")
    assert findings(page) == []


def test_it_fits_a_phone(visit: Any) -> None:
    page = visit("/?name=dogs/00.png", wide=390, high=844)
    searched(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    small = page.locator("button:visible, select:visible, input[type=text]").evaluate_all(
        "l => l.filter(e => e.getBoundingClientRect().height < 24).map(e => e.outerHTML)"
    )
    assert small == []
    page.locator(".hit .link").nth(1).click()
    page.wait_for_selector("#why-layers tr")
    assert page.evaluate("document.querySelector('#why').scrollWidth") <= 390


def test_a_server_without_network_says_that_it_takes_no_uploads(
    chromium: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = server.service.following.current
    monkeypatch.setattr(served, "no_uploads", "its weights are not here")
    page = chromium.new_page()
    page.goto(server.address)
    expect(page, "#invite", "Begin with a random picture, or a name")
    page.close()


def test_the_folders_are_those_of_the_names(server: Server) -> None:
    assert server.service.following.current.folders == [("cats", 6), ("dogs", 6)]
