"""The report of a scored run: what it counts, what its table says, and what it refuses."""

from typing import Any

import numpy as np
import pytest

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.intervals import resample
from lamella.pipeline.evaluate.measures import has_lab, parse_measures
from lamella.pipeline.evaluate.ranked import Ranked
from lamella.pipeline.evaluate.run_report import (
    check_all_known,
    named,
    report_scores,
    unknown_ranked,
    usual_measures,
)
from lamella.pipeline.evaluate.run_table import intervals_text, run_notes, run_table
from lamella.pipeline.evaluate.score_ranked import ScoredRun, score_ranked
from lamella.pipeline.evaluate.truth import GroundTruth, GroundTruthQuery
from lamella.schemas.run_report import MeasureScore, Named, RunReport

MEASURES = parse_measures(["mAP", "N-S", "R@3"])


def truth(queries: int = 12) -> GroundTruth:
    """Return queries q0, q1..., each of whose right answer is of its own: a0, a1..."""
    asked = tuple(GroundTruthQuery(f"q{n}", frozenset({f"a{n}"})) for n in range(queries))
    return GroundTruth("groups", "mAP", asked, (("bad", "no right answer"),))


def run(queries: int = 12) -> Ranked:
    """Return a run that finds every second right answer first, and the others third."""
    rankings = tuple((f"a{n}", "x", "y") if n % 2 else ("x", "y", f"a{n}") for n in range(queries))
    names = tuple(f"q{n}" for n in range(queries))
    return Ranked(names, rankings, (np.array([3.0, 2.0, 1.0]),) * queries)


def reported(found: ScoredRun, judged: GroundTruth, **changed: Any) -> RunReport:
    facts: dict[str, Any] = {
        "run": "mine",
        "snapshot": "a" * 64,
        "qrels": None,
        "depth": 3,
        "complete": False,
        "unknown": (("gone",), ()),
        "elapsed_seconds": 1.0,
    }
    return report_scores(found, judged, MEASURES, **(facts | changed))


def test_a_report_has_means_and_their_intervals() -> None:
    found = score_ranked(run(), truth(), "run mine", MEASURES)
    report = reported(found, truth())
    scores = [row.score for row in report.measures]
    # Third: (0 / 2 + 1 / 3) / 2 by trapezoids.
    assert scores == [pytest.approx((1 + 1 / 6) / 2), 1.0, 1.0]
    drawn = resample(np.stack(list(found.scored.scores.values())), found.scored.groups)
    assert drawn is not None
    assert report.measures[0].interval == drawn.interval(0)
    assert report.bootstrap == drawn.bootstrap
    assert report.left_out == {"no right answer": Named(count=1, first=("bad",))}
    assert RunReport.from_json(report.to_json()) == report


def test_measures_that_look_further_than_the_rankings_say_so() -> None:
    found = score_ranked(run(), truth(), "run mine", MEASURES)
    first = [row.first for row in reported(found, truth()).measures]
    assert first == [3, 3, None]  # N-S looks at four pictures
    assert [row.first for row in reported(found, truth(), complete=True).measures] == [None] * 3


def test_few_queries_have_no_intervals() -> None:
    few = score_ranked(run(4), truth(4), "run mine", MEASURES)
    report = reported(few, truth(4))
    assert report.bootstrap is None
    assert [row.interval for row in report.measures] == [None] * 3
    assert intervals_text(report) == "too few queries for intervals"


def test_usual_measures_begin_with_the_protocols_and_end_where_rankings_do() -> None:
    lab = ["nDCG@10"] if has_lab() else []
    names = [measure.name for measure in usual_measures(truth(), 100)]
    assert names == ["mAP", "AP", "RR", "P@10", "R@10", "R@100", *lab]
    assert [measure.name for measure in usual_measures(truth(), 9)] == ["mAP", "AP", "RR"]
    ukb = GroundTruth("ukb", "N-S", truth().queries)
    assert [measure.name for measure in usual_measures(ukb, 1)] == ["N-S", "AP", "RR"]
    measures = ("mP@1", "mP@5", "mP@10")
    hard = GroundTruth("roxford hard roi", "mAP", truth().queries, measures=measures)
    assert [measure.name for measure in usual_measures(hard, 5)] == [
        *("mAP", "mP@1", "mP@5", "AP", "RR")
    ]


def test_unknown_pictures_are_counted_once_in_the_order_of_the_run() -> None:
    known = [f"a{n}" for n in range(12)]
    assert unknown_ranked(run(), known) == ("x", "y")
    assert unknown_ranked(run(), [*known, "x", "y"]) == ()
    with pytest.raises(InputError, match=r"2 are not among the 12 here, where one is called 'a0'"):
        check_all_known("run mine", ("x", "y"), known)
    check_all_known("run mine", (), known)


def test_many_names_are_counted_and_the_first_are_named() -> None:
    assert named([f"n{n}" for n in range(9)]) == Named(
        count=9, first=("n0", "n1", "n2", "n3", "n4")
    )


def test_the_table_and_its_notes_are_plain_text() -> None:
    judged = GroundTruth("qrels [bold]x", "mAP", (*truth().queries, query("\x1b[31mred")))
    report = reported(score_ranked(run(), judged, "run mine", MEASURES), judged)
    title, table = run_table(report)
    assert title.plain == (
        "run mine by qrels [bold]x: 13 queries, the first 3 pictures of each ranking, snapshot "
        "aaaaaaaaaaaa"
    )
    assert [str(cell) for cell in table.columns[0].cells] == [
        *("mAP of the first 3", "N-S of the first 3", "R@3")
    ]
    assert [str(cell) for cell in table.columns[1].cells] == [".538", "0.92", ".923"]
    notes = run_notes(report)
    assert notes[0].endswith("score 0: \\x1b[31mred")
    assert any("1 judged picture that the corpus lacks" in note for note in notes)
    assert not any("\x1b" in note for note in notes)


def query(name: str) -> GroundTruthQuery:
    return GroundTruthQuery(name, frozenset({f"right for {name}"}))


def test_a_report_checks_itself() -> None:
    report = reported(score_ranked(run(), truth(), "run mine", MEASURES), truth())
    with pytest.raises(ValueError, match="every score has an interval"):
        RunReport(**(dict(report) | {"bootstrap": None}))
    with pytest.raises(ValueError, match="some query is answered"):
        RunReport(**(dict(report) | {"unanswered": Named(count=12, first=("q0",))}))
    with pytest.raises(ValueError, match="the first of 0 are named"):
        Named(count=0, first=("a",))
    with pytest.raises(ValueError, match="finite"):
        MeasureScore(measure="AP", score=float("nan"))
