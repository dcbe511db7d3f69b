"""The page of an evaluation with thousands of queries, in a real browser; and its thumbnails.

`PAGE_QUERIES` (5,000) queries of two layers, so four rankings, over four pictures for each query:
every query shows its rankings. Similarities are drawn; thumbnails are cut from real photographs.
"""

import dataclasses
import io
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lamella.pipeline.evaluate.page import Pictures, render
from lamella.pipeline.evaluate.page_queries import PageQueries
from lamella.pipeline.evaluate.protocols.groups import groups
from lamella.pipeline.evaluate.sweep import KEPT_RANKS, plan_sweep
from lamella.pipeline.jobs.thumbnails import QUALITY, THUMBNAIL_EDGE, thumbnail
from lamella.pipeline.planted.photographs import load_photographs
from lamella.schemas.query import FusionSpec
from lamella.schemas.report import RetrievalReport
from tests.benchmarks.record import write_json
from tests.report_pages import LAYERS, browser, drawn, findings, queries_of, report_of

QUERIES = int(os.environ.get("PAGE_QUERIES", "5000"))
VIEWS, SEED, DISTINCT = 5, 7, 400
PAINTS = """
Object.fromEntries(
  [...performance.getEntriesByType('paint'), ...performance.getEntriesByName('ready')]
    .map((entry) => [entry.name, entry.startTime / 1000]))
"""
TIMED = (
    "(step) => { const began = performance.now(); eval(step); return performance.now() - began }"
)


def evaluation() -> tuple[RetrievalReport, PageQueries]:
    """Return an evaluation of as many queries as are wanted, a fifth of the pictures."""
    names = [
        f"places/{n // VIEWS:05d}/{'query' if n % VIEWS == 0 else 'view'}_{n % VIEWS}.jpg"
        for n in range(QUERIES * VIEWS)
    ]
    whole = groups(names, r"places/(\d+)/", "mAP")
    truth = dataclasses.replace(whole, queries=whole.queries[::VIEWS])
    plan = plan_sweep(truth, names, FusionSpec(layers=LAYERS))
    random = np.random.default_rng(SEED)
    asked = np.array(plan.truth.query_ids)
    shape = (4, QUERIES, KEPT_RANKS)
    near = (asked // VIEWS * VIEWS)[None, :, None] + random.integers(0, VIEWS, shape)
    far = random.integers(0, len(names), shape)
    first = np.where(random.random(shape) < 0.4, near, far)
    small = drawn([f"{n // 4}/{n}" for n in range(40)])[1]
    result = dataclasses.replace(
        small,
        scores=random.random((4, QUERIES)),
        first=np.sort(first, axis=2),
        similarities=random.random((*shape, 2)),
    )
    return report_of(plan, result), queries_of(plan, result)


def cuttings() -> list[bytes]:
    """Return thumbnails of pieces of real photographs, as `thumbnail` makes them."""
    random, photographs = np.random.default_rng(SEED), load_photographs()
    made = []
    for number in range(DISTINCT):
        photograph = photographs[number % len(photographs)]
        left, top = (int(random.integers(0, size // 2)) for size in photograph.size)
        piece = photograph.crop(
            (left, top, left + photograph.width // 2, top + photograph.height // 2)
        )
        piece.thumbnail((2 * THUMBNAIL_EDGE, THUMBNAIL_EDGE))
        out = io.BytesIO()
        piece.save(out, "JPEG", quality=QUALITY, optimize=True)
        made.append(out.getvalue())
    return made


def opened(
    chromium: Any, path: Path, scheme: str = "light", place: str = ""
) -> tuple[Any, dict[str, float]]:
    """Open a page in a fresh context; return it, and the seconds to its first paint and more."""
    context = chromium.new_context(
        viewport={"width": 1440, "height": 900}, color_scheme=scheme, bypass_csp=True
    )
    page = context.new_page()
    began = time.perf_counter()
    page.goto(path.as_uri() + place)
    page.wait_for_selector("html[data-ready]")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    return page, {"seconds_to_load": time.perf_counter() - began, **page.evaluate(PAINTS)}


def heap_bytes(page: Any) -> float:
    """Return what the page's script holds, after what is garbage went."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    metrics = {
        each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]
    }
    return float(metrics["JSHeapUsedSize"])


def milliseconds(page: Any) -> dict[str, float]:
    """Return how long the page takes for what a person does."""
    steps = {
        "sort by a score": "change({ sort: 'score:fc' })",
        "sort by name": "change({ sort: 'name' })",
        "helped": "choose('show', 'helped')",
        "search": "change({ find: '42' })",
        "all, as a table": "change({ ...START, view: 'table' })",
        "all, as pictures": "change({ ...START })",
        "to the last query": "move(Infinity)",
        "who found a picture": "change({ found: nameOf(3) })",
    }
    return {name: page.evaluate(TIMED, step) for name, step in steps.items()}


@pytest.mark.bench
def test_a_page_of_thousands_of_queries(tmp_path: Path) -> None:
    report, queries = evaluation()
    made = cuttings()
    ids, asked = queries.shown_ids, queries.plan.truth.truth.queries[queries.listed[3]].name
    pictures = {image_id: made[number % DISTINCT] for number, image_id in enumerate(ids)}
    size = sum(map(len, pictures.values()))
    folder = tmp_path / "page-files"
    folder.mkdir()
    for number, image_id in enumerate(ids):
        (folder / f"{number}.jpg").write_bytes(pictures[image_id])
    found: dict[str, Any] = {"queries": QUERIES, "pictures": len(ids), "picture_bytes": size}
    for name, shown in (
        ("beside", Pictures(folder=folder.name, made=len(ids), size_bytes=size)),
        ("single file", Pictures(inside=pictures, made=len(ids), size_bytes=size)),
    ):
        began = time.perf_counter()
        html = render(report, queries, shown)
        seconds = time.perf_counter() - began
        path = tmp_path / "page.html"
        path.write_text(html, encoding="utf-8")
        found[name] = {"page_bytes": path.stat().st_size, "seconds_to_render": seconds}
        with browser() as chromium:
            runs = []
            for _ in range(3):
                page, times = opened(chromium, path)
                runs.append(times)
                page.context.close()
            found[name] |= {key: sorted(run[key] for run in runs)[1] for key in runs[0]}
            page, _ = opened(chromium, path)
            found[name]["heap_bytes"] = heap_bytes(page)
            if name == "beside":
                found[name]["rows_in_the_document"] = page.locator("#list .row").count()
                found[name]["milliseconds"] = milliseconds(page)
                found["axe"] = {
                    f"{scheme} {view}": findings(opened(chromium, path, scheme, f"#{view}")[0])
                    for scheme in ("light", "dark")
                    for view in ("view=pictures", "view=table", f"q={asked}&zoom=2:mapped")
                }
    print(write_json("page.json", found))
    assert not any(found["axe"].values()), found["axe"]


@pytest.mark.bench
def test_thumbnails_of_pictures(tmp_path: Path) -> None:
    found = {}
    for edge in (640, 3_000):
        data = []
        for photograph in load_photographs():
            scale = edge / max(photograph.size)
            size = (round(photograph.width * scale), round(photograph.height * scale))
            out = io.BytesIO()
            photograph.resize(size, Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
            data.append(out.getvalue())
        data *= 8 if edge == 640 else 2
        for threads in (1, 2):
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(thumbnail, data[:8]))  # the processes that decode are there now
                began = time.perf_counter()
                made = [each for each in pool.map(thumbnail, data) if each]
                seconds = time.perf_counter() - began
            found[f"{edge} pixels, threads {threads}"] = {
                "pictures": len(made),
                "ms_a_picture": 1_000 * seconds / len(made),
                "bytes_a_thumbnail": sum(map(len, made)) / len(made),
            }
    print(write_json("page_thumbnails.json", found))
