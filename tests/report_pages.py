"""Small and large evaluations for tests of the report page, and a browser to open it in."""

import contextlib
import io
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lamella.pipeline.evaluate.page_queries import Matches, PageQueries, telling_queries
from lamella.pipeline.evaluate.protocols.groups import groups
from lamella.pipeline.evaluate.sweep import (
    SweepPlan,
    SweepResult,
    plan_sweep,
    score_batch,
    summarise,
)
from lamella.pipeline.evaluate.truth import GroundTruth
from lamella.schemas.query import FusionSpec, LayerMap
from lamella.schemas.report import Metric, RetrievalReport

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
LAYERS = (LayerMap(layer="fc", t=0.2, p=0.45), LayerMap(layer="conv"))


def report_of(plan: SweepPlan, result: SweepResult, **changes: object) -> RetrievalReport:
    """Return the report of what was scored."""
    truth = plan.truth.truth
    values: dict[str, object] = {
        "snapshot": "0f" * 32,
        "protocol": truth.protocol,
        "metric": truth.metric_name,
        "fusion": plan.fusion,
        "weighting": "tf",
        "mode": "exact",
        "rows": result.rows,
        "gains": result.gains,
        "bootstrap": result.bootstrap,
        "sweep": result.sweep,
        "best": result.best,
        "cross_validated": result.cross_validated,
        "background": result.background,
        "queries": len(truth.queries),
        "indexed": len(plan.truth.names),
        "refused": 0,
        "elapsed_seconds": 0.1,
    }
    return RetrievalReport.model_validate(values | changes)


def queries_of(
    plan: SweepPlan,
    result: SweepResult,
    pictured: int | None = None,
    matches: Matches | None = None,
) -> PageQueries:
    """Return all queries for a page; image ids are ten times the place, and three."""
    ids = 10 * np.arange(len(plan.truth.names), dtype=np.int64) + 3
    listed = tuple(telling_queries(result))
    return PageQueries(
        plan, result, ids, listed, len(listed) if pictured is None else pictured, matches or {}
    )


def drawn(
    names: Sequence[str],
    pattern: str = r"^([^/]+)/",
    *,
    metric: Metric = "mAP",
    layers: Sequence[LayerMap] = LAYERS,
    seed: int = 3,
) -> tuple[SweepPlan, SweepResult]:
    """Return the evaluation of similarities drawn at random; pictures of a group are nearer."""
    return scored(groups(names, pattern, metric), names, layers, _similarities(pattern, seed))


def scored(
    truth: GroundTruth,
    names: Sequence[str],
    layers: Sequence[LayerMap],
    similarities: Callable[[Sequence[str], int], NDArray[np.float64]],
) -> tuple[SweepPlan, SweepResult]:
    """Return an evaluation of similarities (layers, queries, pictures)."""
    plan = plan_sweep(truth, names, FusionSpec(layers=tuple(layers)))
    table = similarities(names, len(layers))
    asked = [names.index(query.name) for query in truth.queries]
    return plan, summarise(plan, [score_batch(plan, 0, table[:, asked])])


def _similarities(pattern: str, seed: int) -> Callable[[Sequence[str], int], NDArray[np.float64]]:
    def draw(names: Sequence[str], layers: int) -> NDArray[np.float64]:
        random = np.random.default_rng(seed)
        group = np.array([name.split("/")[0] for name in names])
        near = (group[:, None] == group[None])[None]
        table = random.random((layers, len(names), len(names)))
        return np.clip(0.7 * table + 0.25 * near, 0.0, 1.0)

    return draw


def jpeg(number: int, size: tuple[int, int] = (80, 60)) -> bytes:
    """Return a plain JPEG; each number has another colour."""
    picture = io.BytesIO()
    colour = (40 * number % 256, (200 - 30 * number) % 256, 120)
    Image.new("RGB", size, colour).save(picture, "JPEG")
    return picture.getvalue()


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """Give a real browser; skips where there is none."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-quic"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        try:
            yield chromium
        finally:
            chromium.close()


def findings(page: Any) -> list[tuple[str, str]]:
    """Return what axe-core finds wrong for people who do not see or do not use a mouse."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    return [(each["id"], each["nodes"][0]["html"][:200]) for each in found]


def expect(page: Any, place: str, text: str | re.Pattern[str]) -> None:
    """Wait for a text; `wait_for_function` would need what the page's policy forbids."""
    sync_api = pytest.importorskip("playwright.sync_api")
    sync_api.expect(page.locator(place)).to_have_text(text)


def figures(page: Any, column: int) -> list[float]:
    """Return a column of the table."""
    cells = page.locator("#list .line").all()
    texts = [cell.locator("> *").nth(column).inner_text() for cell in cells]
    return [float(text.replace("−", "-").replace("+", "")) for text in texts]


def names_of(page: Any) -> list[str]:
    """Return the names of the queries in the list that are near the window."""
    texts: list[str] = page.locator("#list a.name").all_inner_texts()
    return list(dict.fromkeys(texts))


def choose(page: Any, name: str) -> None:
    """Click a button of the bar, by how its text begins."""
    page.locator("#bar").get_by_role("button", name=re.compile(f"^{name}")).click()


def hash_of(page: Any) -> str:
    """Return the part of the address that says what is shown."""
    place: str = page.evaluate("location.hash")
    return place
