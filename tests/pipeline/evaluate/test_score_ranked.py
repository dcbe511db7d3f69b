"""Rankings by name: worked by hand, and equal to what ir-measures says of random runs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from lamella.pipeline.errors import InputError, MismatchedQueries
from lamella.pipeline.evaluate.measures import parse_measures
from lamella.pipeline.evaluate.metrics import order_by_score
from lamella.pipeline.evaluate.qrels import relevance_of
from lamella.pipeline.evaluate.ranked import Ranked
from lamella.pipeline.evaluate.score_ranked import score_ranked
from lamella.pipeline.evaluate.truth import GroundTruth, GroundTruthQuery, score_queries

OURS = ("mAP", "AP", "RR", "R@2", "P@2", "N-S", "mP@1", "mP@5")


def ranked(**rankings: str) -> Ranked:
    """Return rankings of pictures whose names are letters."""
    return Ranked(
        tuple(rankings),
        tuple(tuple(names) for names in rankings.values()),
        tuple(-np.arange(len(names), dtype=np.float64) for names in rankings.values()),
    )


def query(name: str, right: str, junk: str = "", missing: str = "") -> GroundTruthQuery:
    return GroundTruthQuery(name, frozenset(right), frozenset(junk), missing=frozenset(missing))


def test_measures_worked_by_hand() -> None:
    # Without junk j the ranking is a x b y: right ones at ranks 0 and 2, and c is not found.
    truth = GroundTruth("test", "mAP", (query("q", "ab", "j", "c"),))
    found = score_ranked(ranked(q="jaxby"), truth, "run", parse_measures(OURS))
    scores = {name: row.tolist() for name, row in found.scored.scores.items()}
    assert scores == {
        "mAP": [pytest.approx(((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2) / 3)],
        "AP": [pytest.approx((1 + 2 / 3) / 3)],
        "RR": [1.0],
        "R@2": [pytest.approx(1 / 3)],
        "P@2": [0.5],
        "N-S": [2.0],
        "mP@1": [1.0],
        "mP@5": [pytest.approx(2 / 5)],  # the last right one was not found: all five ranks count
    }
    assert found.scored.ranked == (("a", "x", "b", "y"),)
    assert found.scored.measure == "mAP"


def test_precision_of_revisited_oxford_ends_at_the_last_right_picture() -> None:
    truth = GroundTruth("test", "mAP", (query("q", "ab"),))
    found = score_ranked(ranked(q="axbyz"), truth, "run", parse_measures(["mP@10", "P@10"]))
    assert found.scored.scores["mP@10"].tolist() == [pytest.approx(2 / 3)]
    assert found.scored.scores["P@10"].tolist() == [pytest.approx(2 / 10)]


def test_a_judged_query_without_ranking_scores_0_and_one_without_judgements_is_left_out() -> None:
    truth = GroundTruth("test", "mAP", (query("q", "a"), query("r", "b"), query("s", "c")))
    found = score_ranked(ranked(t="x", s="c", q="xa"), truth, "run", parse_measures(["RR"]))
    assert found.scored.queries == ("q", "r", "s")
    assert found.scored.scores["RR"].tolist() == [0.5, 0.0, 1.0]
    assert found.unanswered == ("r",)
    assert found.unjudged == ("t",)


def test_queries_that_share_a_right_answer_are_one_group() -> None:
    truth = GroundTruth("test", "mAP", (query("q", "a"), query("r", "b"), query("s", "ab")))
    found = score_ranked(ranked(q="a"), truth, "run", parse_measures(["RR"]))
    assert found.scored.groups.tolist() == [0, 0, 0]


def test_a_run_of_other_queries_is_refused() -> None:
    truth = GroundTruth("test", "mAP", (query("q", "a"),))
    with pytest.raises(InputError, match="run x asks 'z' and so on, and test judges 'q'"):
        score_ranked(ranked(z="a"), truth, "run x", parse_measures(["RR"]))
    with pytest.raises(InputError, match="at least 1 measure is wanted"):
        score_ranked(ranked(q="a"), truth, "run x", ())


def test_a_run_has_each_query_and_each_picture_of_a_ranking_once() -> None:
    with pytest.raises(InputError, match="query 'q' 'a' stands twice"):
        ranked(q="aba")
    one = np.zeros(1)
    with pytest.raises(InputError, match="'q' has two"):
        Ranked(("q", "q"), (("a",), ("a",)), (one, one))
    with pytest.raises(MismatchedQueries, match="1 pictures and 2 scores"):
        Ranked(("q",), (("a",),), (np.zeros(2),))
    with pytest.raises(MismatchedQueries, match="1 rankings and 0 scores for 1 queries"):
        Ranked(("q",), (("a",),), ())


SHARED = ("AP", "RR", "R@1", "R@7", "R@40", "P@1", "P@7", "P@40")
"""Measures that are ours and those of ir-measures."""


def drawn(seed: int, queries: int = 40, pictures: int = 60) -> tuple[Ranked, GroundTruth]:
    """Return a random run with ties, and judgements with junk, grades and missing answers."""
    random = np.random.default_rng(seed)
    names = np.array([f"p{number}" for number in range(pictures)])
    asked, rankings, scores = [], [], []
    for number in range(queries):
        order = random.permutation(pictures)
        right, junk, wrong = np.split(order[:20], np.sort(random.integers(1, 20, 2)))
        grades = {str(names[place]): int(random.integers(1, 4)) for place in right}
        missing = [f"m{place}" for place in range(random.integers(0, 3))]
        asked.append(
            GroundTruthQuery(
                f"q{number}",
                frozenset(grades),
                frozenset(names[junk].tolist()),
                missing=frozenset(missing),
                grades={name: grade for name, grade in grades.items() if grade > 1}
                | {str(names[place]): 0 for place in wrong},
            )
        )
        found = np.sort(random.integers(0, 8, random.integers(0, pictures)) / 8)[::-1]
        rankings.append(tuple(random.permutation(names)[: len(found)].tolist()))
        scores.append(found.astype(np.float64))
    return (
        Ranked(tuple(query.name for query in asked), tuple(rankings), tuple(scores)),
        GroundTruth("drawn", "mAP", tuple(asked)),
    )


@pytest.mark.parametrize("seed", range(5))
def test_ours_are_those_of_ir_measures_where_both_exist(seed: int) -> None:
    ir_measures = pytest.importorskip("ir_measures")
    run, truth = drawn(seed)
    found = score_ranked(run, truth, "run", parse_measures(SHARED)).scored
    qrels = {query.name: relevance_of(query) for query in truth.queries}
    rankings = {
        name: {picture: -float(rank) for rank, picture in enumerate(kept)}
        for name, kept in zip(found.queries, found.ranked, strict=True)
        if kept
    }
    measures = [ir_measures.parse_measure(name) for name in SHARED]
    seen = 0
    for each in ir_measures.iter_calc(measures, qrels, rankings):
        ours = found.scores[str(each.measure)][found.queries.index(each.query_id)]
        assert ours == pytest.approx(each.value, abs=1e-9)
        seen += 1
    assert seen == len(SHARED) * len(truth.queries)


@pytest.mark.parametrize("at_once", [1, 7, 1_000])
def test_foreign_measures_do_not_depend_on_how_many_queries_go_together(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ir_measures")
    run, truth = drawn(9)
    measures = parse_measures(["nDCG@10", "AP(rel=2)", "AP@5", "Bpref", "nDCG"])
    whole = score_ranked(run, truth, "run", measures).scored.scores
    monkeypatch.setattr("lamella.pipeline.evaluate.score_ranked.AT_ONCE", at_once)
    parts = score_ranked(run, truth, "run", measures).scored.scores
    assert list(whole) == ["nDCG@10", "AP(rel=2)", "AP@5", "Bpref", "nDCG"]
    for name, row in whole.items():
        np.testing.assert_array_equal(row, parts[name])
        assert 0 < row.mean() < 1


def test_graded_gain_worked_by_hand() -> None:
    pytest.importorskip("ir_measures")
    graded = GroundTruthQuery("q", frozenset("ab"), grades={"b": 3})
    truth = GroundTruth("test", "mAP", (graded,))
    found = score_ranked(ranked(q="ab"), truth, "run", parse_measures(["nDCG@2"])).scored
    gain, best = 1 + 3 / np.log2(3), 3 + 1 / np.log2(3)
    assert found.scores["nDCG@2"].tolist() == [pytest.approx(gain / best, abs=1e-9)]


@settings(max_examples=50)
@given(
    arrays(np.float64, (3, 14), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    st.permutations(range(14)),
    st.integers(0, 2),
)
def test_a_complete_run_scores_as_the_table_of_all_scores(
    table: NDArray[np.float64], shuffled: list[int], missing: int
) -> None:
    """Ties, junk, a query that leaves its ranking, and right answers that the corpus lacks."""
    names = [f"{place:02d}" for place in range(14)]
    lacking = frozenset(f"gone {number}" for number in range(missing))
    right, junk = (frozenset(names[place] for place in shuffled[part]) for part in PARTS)
    asked = [names[place] for place in shuffled[7:10]]
    judged = [GroundTruthQuery(q, right, junk, remove_self=True, missing=lacking) for q in asked]
    rankings = tuple(tuple(names[place] for place in order_by_score(row)) for row in table)
    run = Ranked(tuple(asked), rankings, tuple(np.sort(table)[:, ::-1]))
    for metric in ("mAP", "N-S"):
        truth = GroundTruth("test", metric, tuple(judged))
        found = score_ranked(run, truth, "run", parse_measures([metric])).scored
        whole = score_queries(truth, names, table)
        np.testing.assert_allclose(found.scores[metric], whole, rtol=0, atol=1e-12)


PARTS = (slice(0, 4), slice(4, 7))
"""Which of the shuffled pictures are right, and which are junk."""
