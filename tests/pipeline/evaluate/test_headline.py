"""What a report says in words, by what its intervals show; and old reports, which have none."""

import io
import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from rich.console import Console

from lamella.pipeline.evaluate.figures import difference_text, map_text, setting_text, ties_text
from lamella.pipeline.evaluate.headline import background_warning, method, story
from lamella.pipeline.evaluate.page import gain_lines, render, score_lines
from lamella.pipeline.evaluate.table import gain_table, score_table
from lamella.schemas.base import FORMAT_VERSION, OlderRecord
from lamella.schemas.query import FusionSpec, LayerMap
from lamella.schemas.report import (
    BackgroundSimilarity,
    Bootstrap,
    FusionKind,
    Gain,
    Interval,
    Metric,
    RetrievalReport,
    RowKind,
    ScoreRow,
)

OLD = Path(__file__).with_name("old_report.json").read_bytes()
LAYERS = (LayerMap(layer="head", t=0.5, p=0.6), LayerMap(layer="p15"))
MADE = Bootstrap(unit="group", units=100, resamples=10_000, seed=0, level=0.95)

Ends = tuple[float, float]
GAIN: Ends = (0.03, 0.07)
LOSS: Ends = (-0.07, -0.03)
NONE: Ends = (-0.01, 0.03)


def row(kind: RowKind, score: float, name: str = "", metric: Metric = "N-S") -> ScoreRow:
    layers = (name,) if kind == "alone" else ("head", "p15")
    return ScoreRow(
        name=name or kind,
        kind=kind,
        layers=layers,
        t=(1.0,) * len(layers),
        p=(1.0,) * len(layers),
        metric=metric,
        score=score,
        interval=Interval(low=score - 0.02, high=score + 0.01),
        lowest=score,
        highest=score,
        queries=400,
    )


def report(
    mapped_over_head: Ends,
    mapped_over_sum: Ends,
    sum_over_head: Ends = NONE,
    *,
    metric: Metric = "N-S",
    **changes: object,
) -> RetrievalReport:
    """Return a report with the middles of its intervals as differences; p15 is far behind."""
    mapped = 3.9 if metric == "N-S" else 0.6
    head, direct = mapped - sum(mapped_over_head) / 2, mapped - sum(mapped_over_sum) / 2

    def over(fusion: FusionKind, other: str, ends: Ends) -> Gain:
        low, high = ends
        interval = Interval(low=low, high=high)
        return Gain(fusion=fusion, over=other, difference=(low + high) / 2, interval=interval)

    values: dict[str, object] = {
        "snapshot": "0f" * 32,
        "protocol": "ukb",
        "metric": metric,
        "fusion": FusionSpec(layers=LAYERS),
        "weighting": "tf",
        "mode": "exact",
        "rows": (
            row("alone", head, "head", metric),
            row("alone", 0.1, "p15", metric),
            row("direct", direct, metric=metric),
            row("mapped", mapped, metric=metric),
        ),
        "gains": (
            over("mapped", "head", mapped_over_head),
            over("mapped", "p15", GAIN),
            over("mapped", "direct", mapped_over_sum),
            over("direct", "head", sum_over_head),
            over("direct", "p15", GAIN),
        ),
        "bootstrap": MADE,
        "queries": 400,
        "indexed": 400,
        "refused": 0,
        "elapsed_seconds": 1.0,
    }
    return RetrievalReport.model_validate(values | changes)


def test_a_fusion_that_gains_over_all_is_to_be_used() -> None:
    assert story(report(GAIN, (0.011, 0.029))) == (
        "Use the mapped fusion: head and p15 find 3.90 of 4 (3.88 to 3.91), "
        ".05 above head alone [.03, .07], .02 above their plain sum [.01, .03]."
    )


def test_without_a_difference_between_the_fusions_both_may_be_used() -> None:
    assert story(report(GAIN, NONE)) == (
        "Use the fusion, mapped or plain: by the map head and p15 find 3.90 of 4 (3.88 to 3.91), "
        ".05 above head alone [.03, .07]; from their plain sum no difference that these 400 "
        "queries show [-.01, .03]."
    )


def test_a_layer_that_is_better_alone_is_to_be_used_alone() -> None:
    assert story(report(LOSS, NONE)) == (
        "Use head alone: it finds 3.95 of 4 (3.93 to 3.96), "
        ".05 above the mapped fusion of head and p15 [.03, .07]."
    )


def test_without_a_difference_the_cheaper_ranking_is_named_and_no_gain() -> None:
    said = story(report(NONE, NONE))
    assert said == (
        "Use head alone, which costs less: it finds 3.89 of 4 (3.87 to 3.90), the mapped "
        "fusion of head and p15 finds 3.90 of 4 (3.88 to 3.91); no difference that these 400 "
        "queries show [-.01, .03]."
    )
    assert "above" not in said


def test_where_the_map_hurts_the_plain_sum_stands_for_fusion() -> None:
    assert story(report(NONE, LOSS, GAIN)) == (
        "Use the plain sum: head and p15 find 3.95 of 4 (3.93 to 3.96), "
        ".05 above head alone [.03, .07], .05 above their mapped fusion [.03, .07]."
    )
    assert story(report(LOSS, LOSS, NONE)).startswith("Use head alone, which costs less")
    assert "above the plain sum of head" in story(report(LOSS, LOSS, LOSS))


def test_average_precision_has_three_decimals() -> None:
    said = story(report((0.0312, 0.0688), NONE, metric="mAP"))
    assert "head and p15 score .600 mAP (.580 to .610), .050 above head alone [.031, .069]" in said


def test_what_excludes_zero_is_not_printed_as_zero() -> None:
    interval = Interval(low=0.0004, high=0.02)
    small = Gain(fusion="mapped", over="head", difference=0.01, interval=interval)
    assert difference_text(small, "N-S") == (".0100", "[.0004, .0200]")
    assert difference_text(small, "N-S", flipped=True) == ("-.0100", "[-.0200, -.0004]")


def test_the_page_and_the_table_show_intervals_and_gains() -> None:
    shown = report(GAIN, NONE)
    mapped = score_lines(shown)[3]
    assert mapped.interval == "3.880 to 3.910"
    assert mapped.whisker == pytest.approx((97.0, 0.75))  # 3.88 and .03 of 4, in percent
    first, _, third, *_ = gain_lines(shown)
    assert (first.difference, first.interval) == ("+.050", "[.030, .070]")
    assert third.verdict == "no difference"
    # the axis goes from -.07 to .07: .03 is at 100 / 140 of it
    assert first.whisker == pytest.approx((100 * 10 / 14, 100 * 4 / 14))
    page = render(shown)
    assert page.count('<b class="whisker"') == 4 + 5
    assert story(shown) in page
    assert "10,000 resamples of 100 groups" in page


def test_the_tables_fit_a_terminal_of_80_columns() -> None:
    printed = io.StringIO()
    console = Console(width=80, color_system=None, file=printed)
    shown = report(GAIN, NONE)
    for part in score_table(shown):
        console.print(part)
    console.print(gain_table(shown))
    lines = printed.getvalue().splitlines()
    mapped = next(line for line in lines if line.startswith(" mapped fusion"))
    assert "3.900 │ 3.880 to 3.910" in mapped
    first = next(line for line in lines if line.startswith(" map over head alone"))
    cells = [cell.strip() for cell in first.split("│")]
    assert cells == ["map over head alone", "+.050", "[.030, .070]", "gain"]
    assert any("map over direct sum" in line and "no difference" in line for line in lines)


def test_it_is_said_where_queries_are_drawn_singly() -> None:
    few = MADE.model_copy(update={"unit": "query", "units": 24})
    said = method(report(GAIN, NONE, bootstrap=few))
    assert said.startswith("95 % intervals: 10,000 resamples of 24 single queries. Fewer than 10")


def with_p(shown: RetrievalReport, *corrected: float) -> RetrievalReport:
    """Return a report whose gains were tested too."""
    gains = [
        gain.model_copy(update={"p": p / 5, "corrected_p": p})
        for gain, p in zip(shown.gains, corrected, strict=True)
    ]
    return shown.model_copy(update={"gains": tuple(gains)})


def test_a_gain_that_chance_explains_is_none() -> None:
    shown = with_p(report(GAIN, NONE), 0.0731, 0.0004, 1.0, 0.5, 0.012)
    assert story(shown).endswith(
        "finds 3.90 of 4 (3.88 to 3.91); no difference that these 400 queries show [.03, .07], "
        "p .073."
    )
    lines = gain_lines(shown)
    assert [line.p for line in lines] == [".073", "< .001", "1.00", ".50", ".012"]
    assert [line.verdict for line in lines[:2]] == ["no difference", "gain"]
    assert method(shown).endswith(
        "p: paired randomisation test over the same units, corrected over 5 comparisons by Holm; "
        "a gain needs an interval without zero and p of at most .050."
    )
    printed = io.StringIO()
    Console(width=80, color_system=None, file=printed).print(gain_table(shown))
    first = next(line for line in printed.getvalue().splitlines() if " map over head" in line)
    cells = [cell.strip() for cell in first.split("│")]
    assert cells == ["map over head alone", ".050", "[.030, .070]", ".073", "no difference"]


def test_a_report_that_was_not_tested_keeps_its_bytes() -> None:
    stored = json.loads(report(GAIN, NONE).to_json())
    assert set(stored["gains"][0]) == {"fusion", "over", "difference", "interval"}
    assert "expected" not in stored["rows"][0]
    both = with_p(report(GAIN, NONE), 0.1, 0.2, 0.3, 0.4, 0.5)
    assert RetrievalReport.from_json(both.to_json()) == both
    assert json.loads(both.to_json())["gains"][0]["corrected_p"] == 0.1


def test_scores_of_ties_are_shown_where_they_differ() -> None:
    shown = row("direct", 3.9)
    assert ties_text(shown) == ""
    tied = shown.model_copy(update={"lowest": 3.8, "highest": 3.95})
    assert ties_text(tied) == "ties: 3.800 to 3.950"
    assert ties_text(tied.model_copy(update={"expected": 3.87})).endswith("to 3.950, mean 3.870")


def test_a_warning_calls_a_loss_one_only_where_the_interval_says_so() -> None:
    near = (BackgroundSimilarity(layer="head", median=0.6),)
    assert "here the map hurts" in background_warning(report(NONE, LOSS, background=near))
    assert background_warning(report(NONE, GAIN, background=near)) == ""
    assert "nothing that these queries show" in background_warning(
        report(NONE, NONE, background=near)
    )


def test_weights_are_shown_unless_they_are_one() -> None:
    assert map_text(0.5, 0.6) == "t 0.5, p 0.6"
    assert map_text(0.5, 0.6, 2.0) == "t 0.5, p 0.6, weight 2"
    assert map_text(1.0, 1.0, 0.25) == "weight 0.25"
    assert setting_text([("head", 0.5, 0.6, 1.0), ("p15", 1.0, 1.0, 1.0)]) == "head: t 0.5, p 0.6"
    weighted = FusionSpec(layers=(LAYERS[0], LayerMap(layer="p15", weight=1.5)))
    page = render(report(GAIN, NONE, fusion=weighted))
    assert "weight 1.5" in page


@pytest.mark.parametrize(
    "changes",
    [
        {"bootstrap": None},
        {"gains": report(GAIN, NONE).gains[1:]},
        {"gains": report(GAIN, NONE).gains[::-1]},
        {"rows": [each.model_copy(update={"interval": None}) for each in report(GAIN, NONE).rows]},
    ],
)
def test_intervals_that_contradict_the_report_are_refused(changes: dict[str, object]) -> None:
    values = report(GAIN, NONE).model_dump() | changes
    with pytest.raises(ValidationError):
        RetrievalReport.model_validate(values)


def test_map_is_named_and_so_is_what_trec_eval_says() -> None:
    rows = [row("alone", 0.4, "head", "mAP"), row("mapped", 0.5, metric="mAP")]
    rows = [each.model_copy(update={"rectangles": each.score + 0.0312}) for each in rows]
    said = report(GAIN, NONE).model_copy(update={"metric": "mAP", "rows": tuple(rows)})
    assert method(said).startswith(
        "mAP is by trapezoids, as in the protocol of Oxford5k; by rectangles, as trec_eval and "
        "ir-measures (AP) have it: head alone .431, mapped fusion .531. 95 % intervals: "
    )
    assert "trapezoids" not in method(report(GAIN, NONE))  # N-S


def test_an_interval_ends_above_its_start() -> None:
    with pytest.raises(ValidationError, match="does not end below"):
        Interval(low=0.2, high=0.1)


def test_a_report_with_intervals_is_read_back_as_it_was_stored() -> None:
    stored = report(GAIN, NONE)
    assert RetrievalReport.from_json(stored.to_json()) == stored


def test_a_report_of_the_first_format_is_refused_and_one_without_intervals_claims_nothing() -> None:
    with pytest.raises(OlderRecord, match="format version 1, this Lamella reads 2"):
        RetrievalReport.from_json(OLD)
    said = {name: value for name, value in json.loads(OLD).items() if name != "seal"}
    old = RetrievalReport.model_validate(said | {"format_version": FORMAT_VERSION})
    assert RetrievalReport.from_json(old.to_json()) == old
    assert [each.weights for each in old.rows] == [(1.0,), (1.0,), (1.0, 1.0), (1.0, 1.0)]
    assert (old.bootstrap, old.gains, gain_lines(old)) == (None, (), [])
    assert method(old) == "mAP is by trapezoids, as in the protocol of Oxford5k."
    assert gain_table(old) is None
    assert story(old) == (
        "Fused by the map, fc and conv score .208 mAP, their plain sum scores .229 mAP, fc alone "
        "scores .396 mAP. 4 queries are too few to say which is better."
    )
    many = old.model_copy(update={"queries": 55})
    assert story(many).endswith("This report has no intervals.")
    assert 'class="whisker"' not in render(old)
