"""The report page in a real browser: it draws its rows, fetches nothing, and runs no name."""

import html
import io
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lamella.pipeline.evaluate.explain import explain_query, telling_queries
from lamella.pipeline.evaluate.page import render
from lamella.pipeline.evaluate.protocols.groups import groups
from lamella.pipeline.evaluate.sweep import plan_sweep, score_batch, summarise
from lamella.schemas.query import FusionSpec, LayerMap
from lamella.schemas.report import RetrievalReport

pytestmark = pytest.mark.browser

EVIL = "a/<script>document.documentElement.dataset.owned = 1</script>"
HANDLER = 'a/"><img src=x onerror="document.documentElement.dataset.owned = 1">'
NAMES = [EVIL, HANDLER, "a/3.jpg", "b/1.jpg", "b/2.jpg", "b/3.jpg"]
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def thumbnail(colour: int) -> bytes:
    picture = io.BytesIO()
    Image.new("RGB", (80, 60), (40 * colour, 200 - 30 * colour, 120)).save(picture, "JPEG")
    return picture.getvalue()


@pytest.fixture(scope="module")
def page() -> str:
    fusion = FusionSpec(layers=(LayerMap(layer="fc", t=0.2, p=0.45), LayerMap(layer="conv")))
    truth = groups(NAMES, r"^([ab])/")
    plan = plan_sweep(truth, NAMES, fusion)
    table = np.random.default_rng(3).random((2, 6, 6))
    result = summarise(plan, [score_batch(plan, 0, table)])
    report = RetrievalReport(
        snapshot="0f" * 32,
        protocol=truth.protocol,
        metric=truth.metric_name,
        fusion=fusion,
        weighting="tf",
        mode="exact",
        rows=result.rows,
        gains=result.gains,
        bootstrap=result.bootstrap,
        sweep=result.sweep,
        best=result.best,
        cross_validated=result.cross_validated,
        background=result.background,
        queries=6,
        indexed=6,
        refused=0,
        elapsed_seconds=0.1,
    )
    queries = [
        explain_query(plan, place, np.arange(6), table[:, place], note=note)
        for place, note in telling_queries(result, 6)
    ]
    return render(report, queries, {place: thumbnail(place) for place in range(6)})


def browse(page: str, folder: Path, *actions: str) -> str:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    (folder / "report.html").write_text(page, encoding="utf-8")
    quiet = "gpu background-networking component-update sync extensions default-apps"
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--no-first-run",
            *(f"--disable-{what}" for what in quiet.split()),
            f"--user-data-dir={folder / 'profile'}",
            "--window-size=1280,1600",
            *actions,
            (folder / "report.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def test_the_browser_draws_every_row_and_runs_no_name(page: str, tmp_path: Path) -> None:
    drawn = browse(page, tmp_path, "--dump-dom")
    assert len(re.findall(r'<div class="ranking[ "]', drawn)) == 6 * 4
    assert 'data-ready="144"' in drawn  # 6 queries x 4 rankings x 6 pictures: the page's script ran
    assert "data-owned" not in drawn.split("<body")[0]
    assert html.escape(EVIL, quote=False) in drawn
    assert not re.search(r"""(?:src|href)\s*=\s*["']?\s*(?:https?:)?//""", drawn)
    assert "<img" not in re.sub(r'"[^"]*"', "", drawn)


def test_a_script_that_slips_in_is_stopped_by_the_policy(page: str, tmp_path: Path) -> None:
    slipped = page.replace("<main>", f"<main>{EVIL}", 1)
    drawn = browse(slipped, tmp_path, "--dump-dom")
    assert "data-owned" not in drawn.split("<body")[0]
    assert 'data-ready="144"' in drawn


def test_the_panel_shows_a_name_as_text(page: str, tmp_path: Path) -> None:
    """The page's policy is lifted here, so that the test may point at a tile."""
    open_page = re.sub(r"<meta http-equiv=[^>]*>", "", page)
    point = "<script>document.querySelector('.tile').focus()</script></body>"
    drawn = browse(open_page.replace("</body>", point), tmp_path, "--dump-dom")
    panel = drawn.split('id="panel"')[1].split("<script>")[0]
    assert "rank 1 by fc" in panel
    assert panel.count('class="layer"') == 2
    assert "data-owned" not in drawn.split("<body")[0]


def test_the_page_is_painted_with_its_thumbnails(page: str, tmp_path: Path) -> None:
    browse(page, tmp_path, f"--screenshot={tmp_path / 'page.png'}")
    with Image.open(tmp_path / "page.png") as picture:
        colours = picture.convert("RGB").getcolors(2**24)
    assert colours is not None
    near = [c for n, c in colours if n > 500 and np.abs(np.subtract(c, (0, 200, 120))).max() < 6]
    assert near, "the first thumbnail's colour is nowhere on the page"
