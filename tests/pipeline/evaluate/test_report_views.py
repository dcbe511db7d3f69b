"""The page and the table: what they say, and that names in them do nothing."""

import base64
import io
import re

import numpy as np
import pytest
from pydantic import ValidationError
from rich.console import Console

from lamella.pipeline.evaluate.explain import explain_query, telling_queries
from lamella.pipeline.evaluate.headline import background_warning, story
from lamella.pipeline.evaluate.page import render, score_lines
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


QUERIES = [explain_query(PLAN, place, IMAGE_IDS, TABLE[:, place]) for place in range(2)]


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


def test_every_ranking_of_a_query_is_explained() -> None:
    first = QUERIES[0]
    assert [row.name for row in first.rankings] == ["fc", "conv", "direct", "mapped"]
    high = first.rankings[0].pictures
    assert [picture.verdict for picture in high] == ["query", "junk", "right", "wrong", "wrong"]
    assert [picture.rank for picture in high] == [1, 2, 3, 4, 5]
    assert [picture.image_id for picture in high] == [0, 7, 1, 4, 5]
    assert QUERIES[1].image_id == 4
    assert high[2].similarities == (0.8, 0.2)
    # .2 + .8 * (.6 / .8) ** .45 = .9029; the low layer stays as it is
    assert high[2].mapped == pytest.approx((0.2 + 0.8 * 0.75**0.45, 0.2))
    assert first.rankings[3].score == RESULT.scores[3, 0]


def test_gains_and_losses_are_shown_in_turn() -> None:
    shown = telling_queries(RESULT, 5)
    assert sorted(place for place, _ in shown) == [0, 1]


def test_the_page_fetches_nothing_and_runs_no_name() -> None:
    page = render(make_report(), QUERIES, {1: JPEG})
    assert not re.search(r"""(?:src|href)\s*=|@import|https?://""", page)
    assert "<script>document" not in page
    assert "&lt;script&gt;document" in page
    assert "<b>net</b>" not in page
    assert not {"\x1b", "\u202e"} & set(page)
    assert page.count("<script") == 1


def test_each_thumbnail_stands_once_and_only_if_used() -> None:
    page = render(make_report(), QUERIES, {1: JPEG, 4: JPEG + b"2", 2: JPEG + b"3"})
    assert page.count(base64.b64encode(JPEG + b"2").decode()) == 1
    assert base64.b64encode(JPEG + b"3").decode() not in page


def test_a_thumbnail_that_is_no_jpeg_is_refused() -> None:
    with pytest.raises(ValueError, match="that of 1 is not"):
        render(make_report(), QUERIES, {1: b"<svg onload=alert(1)>"})


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
