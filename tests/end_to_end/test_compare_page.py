"""The page of a comparison in a real browser: it fits, axe-core is content, names do nothing."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lamella.pipeline.evaluate.compare import Counted, compare, compare_corpora
from lamella.pipeline.evaluate.compare_page import changed_queries, names_on, render_comparison
from lamella.pipeline.evaluate.scored import Scored

pytestmark = pytest.mark.browser

EVIL = "a/<script>document.documentElement.dataset.owned = 1</script>"
HANDLER = 'a/"><img src=x onerror="document.documentElement.dataset.owned = 1">'
NAMES = (EVIL, HANDLER, *(f"b/{'long' * 30}-{number}.jpg" for number in range(10)))
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def thumbnail(colour: int) -> bytes:
    picture = io.BytesIO()
    Image.new("RGB", (80, 60), (20 * colour, 200 - 15 * colour, 120)).save(picture, "JPEG")
    return picture.getvalue()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(2)
    sides = []
    for label, names in (("day", NAMES[:-1]), (EVIL, NAMES[1:])):
        ranked = tuple(tuple(rng.permutation(names).tolist()) for _ in range(11))
        queries = tuple(NAMES[:1] + NAMES[2:])
        scores = {"mAP": rng.random(11)}
        sides.append(Scored(label, queries, np.arange(11), scores, ranked))
    ids = {name: place for place, name in enumerate(NAMES)}
    corpora = compare_corpora(
        {name: ids[name] for name in NAMES[:-1]}, {name: ids[name] for name in NAMES[1:]}
    )
    found = compare(sides[0], sides[1], corpora)
    changed = changed_queries(found, {})
    thumbnails = {name: thumbnail(ids[name]) for name in names_on(changed)[2:]}
    path = tmp_path_factory.mktemp("page") / "night.html"
    html = render_comparison(found, Counted(11, 11, 12), changed, thumbnails, f"note {EVIL}")
    path.write_text(html, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as opened:
        found = opened.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-quic"]
        )
        yield found
        found.close()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_the_page_fits_and_is_clean_and_its_names_do_nothing(
    page: Path, browser: Any, width: int, scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    opened = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    wrong: list[str] = []
    opened.on("console", lambda message: wrong.append(message.text))
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(page.as_uri())
    assert opened.evaluate("document.documentElement.dataset.owned") is None
    assert opened.evaluate("document.documentElement.scrollWidth") == width
    assert opened.locator("article.query").count() == 11
    assert opened.locator("article.query ol").first.locator("li").count() == 8
    assert opened.locator("figure svg").count() == 1
    assert wrong == []
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    found = axe.Axe().run(opened)
    assert [each["id"] for each in found.response["violations"]] == []
    opened.close()
