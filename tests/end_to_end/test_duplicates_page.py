"""The page of near-duplicates in a real browser: it fits, axe-core is content, names do nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lamella.pipeline.export.duplicates import Duplicates, Member
from lamella.pipeline.export.duplicates_page import (
    SHOWN_OF_GROUP,
    render_duplicates,
    shown_groups,
)
from lamella.pipeline.export.pairs import pairs_schema
from lamella.pipeline.jobs.question import Question
from lamella.schemas.job import SearchSettings
from lamella.schemas.query import FusionSpec, LayerMap
from lamella.schemas.rankings import QueryRun
from tests.report_pages import browser, findings, jpeg

pytestmark = pytest.mark.browser

EVIL = "a/<script>document.documentElement.dataset.owned = 1</script>"
HANDLER = 'a/"><img src=x onerror="document.documentElement.dataset.owned = 1">'
FUSION = FusionSpec(layers=(LayerMap(layer="head", t=0.2, p=0.45), LayerMap(layer="p15")))


def member(number: int, name: str, like: Member | None = None, score: float = 1.9) -> Member:
    sha256 = b"same" if number % 2 else number.to_bytes(2)
    facts = {"width": 1024, "height": 768 - number, "size_bytes": 50_000 * (number + 1)}
    return Member(number, name, **facts, sha256=sha256, like=like, score=score if like else None)


def drawn(groups: int) -> Duplicates:
    """Return groups of which the first two hold names that mean harm, and the first is long."""
    made: list[tuple[Member, ...]] = []
    kept = member(1, EVIL)
    names = [HANDLER, *(f"b/{'long' * 30}-{number}.jpg" for number in range(SHOWN_OF_GROUP + 5))]
    copies = [member(number, name, kept) for number, name in enumerate(names, start=2)]
    made.append((kept, *copies))
    ends = member(50, "chain/1.jpg"), member(51, "chain/3.jpg")
    made.append((*ends, member(52, "chain/2.jpg", ends[1], 1.85)))
    for number in range(100, 100 + 2 * groups, 2):
        first = member(number, f"c/{number}.jpg")
        made.append((first, member(number + 1, f"c/{number + 1}.jpg", first, 1.95)))
    pairs = sum(map(len, made)) - len(made)
    rng = np.random.default_rng(2)
    columns: dict[str, Any] = dict.fromkeys(pairs_schema(["head", "p15"]).names, [0] * pairs)
    columns |= {"score": 1.8 + 0.2 * rng.random(pairs), "same_file": rng.random(pairs) < 0.3}
    run = QueryRun(
        run="same", inputs="", snapshot="0" * 64, asked="images", fusion=FUSION, weighting="tf",
        mode="exact", k=100, images=2_000, queries=0, answered=0, refused=0, certified=0,
        rankings=(), refusals=(),
    )  # fmt: skip
    question = Question(FUSION, "tf", SearchSettings(above=1.8))
    return Duplicates(question, pa.table(columns), (run,), tuple(made))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = drawn(groups=600)
    groups = shown_groups(found)
    pictures = {
        each.image_id: jpeg(each.image_id) for group in groups for each in group.members[1:]
    }
    path = tmp_path_factory.mktemp("page") / "same.html"
    path.write_text(render_duplicates(found, groups, pictures, EVIL, f"note {EVIL}"))
    return path


@pytest.mark.parametrize(
    ("width", "scheme"), [pytest.param(1440, "light", marks=pytest.mark.slow), (390, "dark")]
)
def test_the_page_fits_and_is_clean_and_its_names_do_nothing(
    page: Path, width: int, scheme: Any
) -> None:
    with browser() as chromium:
        size = {"width": width, "height": 844}
        opened = chromium.new_page(viewport=size, color_scheme=scheme)
        wrong: list[str] = []
        opened.on("console", lambda message: wrong.append(message.text))
        asked: list[str] = []
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto(page.as_uri())
        assert opened.evaluate("document.documentElement.dataset.owned") is None
        assert opened.evaluate("document.documentElement.scrollWidth") == width
        articles = opened.locator("article")
        assert articles.nth(0).locator("li").count() == SHOWN_OF_GROUP
        assert "7 more pictures are not shown" in articles.nth(0).inner_text()
        assert "A chain of pairs" in articles.nth(1).inner_text()
        assert articles.nth(1).locator("li.keep").count() == 2
        assert "like chain/3.jpg" in articles.nth(1).inner_text()
        assert "1.950" in articles.nth(2).inner_text()
        shown = articles.count()
        assert 400 < shown < 602
        assert f"{602 - shown:,} more groups are not shown" in opened.locator(".more").inner_text()
        assert opened.locator("figure svg").count() == 1
        assert wrong == []
        assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
        # All groups are alike: a few tell axe-core as much, in a second.
        opened.evaluate(
            "document.querySelectorAll('article:nth-of-type(n+6)').forEach(e => e.remove())"
        )
        assert findings(opened) == []


def test_a_page_without_groups_says_so(tmp_path: Path) -> None:
    found = drawn(groups=0)
    none = Duplicates(found.question, found.pairs.slice(0, 0), found.runs, ())
    html = render_duplicates(none, shown_groups(none), {}, "holiday")
    assert "No two of 2,000 pictures score 1.8 or more" in html
    assert "<svg role=" not in html
