"""The page and the table: what they say, and that names in them do nothing."""

import base64
import io
import re

import numpy as np
import pytest
from pydantic import ValidationError
from rich.console import Console

from lamella.pipeline.evaluate.headline import background_warning, story
from lamella.pipeline.evaluate.page import Pictures, extent, render, score_lines
from lamella.pipeline.evaluate.page_queries import PageQueries
from lamella.pipeline.evaluate.sweep import plan_sweep, score_batch, summarise
from lamella.pipeline.evaluate.table import score_table
from lamella.pipeline.evaluate.truth import GroundTruth, GroundTruthQuery
from lamella.pipeline.text import printable
from lamella.schemas.query import FusionSpec, LayerMap
from lamella.schemas.report import BackgroundSimilarity, RetrievalReport

EVIL = "<script>document.title='owned'</script>\x1b[31m[bold]\u202egpj.a"
NAMES = ["a.jpg", EVIL, "c.jpg", "d.jpg", "e.jpg"]
IMAGE_IDS = np.array([0, 1, 4, 5, 7])  # 2, 3 and 6 were refused
TRUTH = GroundTruth(
    "pairs",
    "mAP",
    (
        GroundTruthQuery("a.jpg", frozenset({EVIL}), frozenset({"e.jpg"}), remove_self=True),
        GroundTruthQuery("c.jpg", frozenset({"d.jpg"}), remove_self=True),
    ),
)
FUSION = FusionSpec(layers=(LayerMap(layer="fc", t=0.2, p=0.45), LayerMap(layer="conv")))
TABLE = np.array(
    [
        [[1.0, 0.8, 0.7, 0.6, 0.9], [0.7, 0.5, 1.0, 0.6, 0.3]],
        [[1.0, 0.2, 0.3, 0.1, 0.4], [0.3, 0.1, 1.0, 0.5, 0.2]],
    ]
)
PLAN = plan_sweep(TRUTH, NAMES, FUSION)
RESULT = summarise(PLAN, [score_batch(PLAN, 0, TABLE)])
JPEG = b"\xff\xd8\xff\xe0 a thumbnail"


def make_report(**changes: object) -> RetrievalReport:
    values = {
        "snapshot": "ab" * 32,
        "protocol": TRUTH.protocol,
        "metric": TRUTH.metric_name,
        "fusion": FUSION,
        "weighting": "tf",
        "mode": "exact",
        "rows": RESULT.rows,
        "sweep": RESULT.sweep,
        "best": RESULT.best,
        "cross_validated": RESULT.cross_validated,
        "background": RESULT.background,
        "settings": {"network": "<b>net</b>"},
        "queries": 2,
        "indexed": 5,
        "refused": 1,
        "elapsed_seconds": 1.5,
    }
    return RetrievalReport.model_validate(values | changes)


QUERIES = PageQueries(PLAN, RESULT, IMAGE_IDS, (1, 0), 2)


def test_a_report_is_read_back_as_it_was_stored() -> None:
    report = make_report()
    assert RetrievalReport.from_json(report.to_json()) == report


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": RESULT.rows[1:]},
        {"best": None},
        {"sweep": (), "cross_validated": None},
        {"snapshot": "ab"},
        {"surprise": 1},
        {"elapsed_seconds": float("nan")},
    ],
)
def test_a_report_that_contradicts_itself_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        make_report(**changes)


def test_the_page_fetches_nothing_and_runs_no_name() -> None:
    page = render(make_report(), QUERIES, Pictures({1: JPEG}, made=1, size_bytes=len(JPEG)))
    assert not re.search(
        r"""<[^>]*(?:src|href)\s*=\s*"[^#]|@import|https?://(?!www\.w3\.org)""", page
    )
    assert "<script>document" not in page
    assert "\\u003cscript\\u003edocument" in page
    assert "<b>net</b>" not in page
    assert not {"\x1b", "\u202e"} & set(page)
    scripts = re.findall(r"<script[^>]*>", page)
    assert scripts == [
        '<script type="application/json" id="data">',
        "<script>",
        '<script type="application/json" id="pictures-0">',
    ]


def test_each_thumbnail_stands_once_and_only_if_used() -> None:
    inside = {1: JPEG, 4: JPEG + b"2", 2: JPEG + b"3"}
    page = render(make_report(), QUERIES, Pictures(inside, made=2))
    assert page.count(base64.b64encode(JPEG + b"2").decode()) == 1
    assert base64.b64encode(JPEG + b"3").decode() not in page


def test_pictures_beside_a_page_are_not_in_it() -> None:
    page = render(make_report(), QUERIES, Pictures(folder="a b#-files", made=5, size_bytes=2_000))
    assert "base64," not in page
    assert '"folder":"a%20b%23-files/"' in page
    assert "5 pictures, 2 kB, in a b#-files" in page


def test_a_thumbnail_that_is_no_jpeg_is_refused() -> None:
    with pytest.raises(ValueError, match="that of 1 is not"):
        Pictures({1: b"<svg onload=alert(1)>"})


def test_the_page_says_how_much_of_it_is_shown() -> None:
    report = make_report(queries=7)
    some = PageQueries(PLAN, RESULT, IMAGE_IDS, (1, 0), 1)
    assert extent(report, some, Pictures()) == (
        "2 of 7 queries are listed, those that tell most; rankings of 1 are shown."
    )
    assert extent(make_report(), QUERIES, Pictures({1: JPEG}, made=1, size_bytes=17)) == (
        "All 2 queries are listed. 1 picture, 17 B, in this page."
    )


def test_what_is_missing_is_said_on_the_page() -> None:
    page = render(make_report(), QUERIES, Pictures(note="None of <5> can be read."))
    assert "<strong>Pictures are missing.</strong> None of &lt;5&gt; can be read." in page


def test_a_page_without_pictures_or_sweep_is_a_page() -> None:
    one = FusionSpec(layers=(LayerMap(layer="fc"),))
    plan = plan_sweep(TRUTH, NAMES, one)
    result = summarise(plan, [score_batch(plan, 0, TABLE[:1])])
    report = make_report(
        fusion=one, rows=result.rows, sweep=(), best=None, cross_validated=None, background=()
    )
    page = render(report)
    assert 'id="sweep"' not in page
    assert story(report).startswith("fc alone scores")


def test_the_tuned_figure_never_stands_without_saying_so() -> None:
    lines = {line.label: line.setting for line in score_lines(make_report())}
    assert "tuned on these very queries" in lines["best of the sweep"]
    assert "other folds" in lines["sweep, cross-validated"]


def test_a_threshold_below_the_background_is_told() -> None:
    near = (BackgroundSimilarity(layer="fc", median=0.37),)
    text = background_warning(make_report(background=near))
    assert "t = 0.2 lies below 0.37" in text
    assert "The sweep gives" in text
    assert text in render(make_report(background=near))
    far = (BackgroundSimilarity(layer="fc", median=0.1),)
    assert background_warning(make_report(background=far)) == ""


def test_the_map_marks_the_setting_in_use_and_the_best() -> None:
    page = render(make_report())
    cells = re.findall(r'<td class="(?:light|dark)([a-z ]*)"', page)
    assert len(cells) == 60
    assert sum("used" in cell for cell in cells) == sum("best" in cell for cell in cells) == 1


def test_unprintable_characters_are_spelled_out() -> None:
    assert printable("é\x00\u202e\udc80") == "é\\x00\\u202e\\udc80"


def test_the_table_prints_names_as_they_are() -> None:
    printed = io.StringIO()
    console = Console(width=120, color_system=None, file=printed)
    rows = (RESULT.rows[0].model_copy(update={"name": "[red]fc\x1b[0m"}), *RESULT.rows[1:])
    for part in score_table(make_report(rows=rows)):
        console.print(part)
    text = printed.getvalue()
    assert "[red]fc\\x1b[0m alone" in text
    assert "mapped fusion" in text
    assert f"{RESULT.rows[-1].score:.3f}" in text
