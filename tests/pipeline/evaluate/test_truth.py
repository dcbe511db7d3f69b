"""What a ground truth refuses, and what it names."""

import numpy as np
import pytest

from lamella.pipeline.errors import InputError, MismatchedQueries
from lamella.pipeline.evaluate.protocols.ukb import ukb
from lamella.pipeline.evaluate.truth import (
    GroundTruth,
    GroundTruthQuery,
    resolve,
    score_queries,
    score_query,
)

UKB = [f"full/ukbench{number:05d}.jpg" for number in range(8)]


def test_truth_refuses_what_cannot_be_scored() -> None:
    with pytest.raises(InputError, match="at least 1 right answer"):
        GroundTruthQuery("a", frozenset())
    with pytest.raises(InputError, match="b is both"):
        GroundTruthQuery("a", frozenset({"b"}), frozenset({"b"}))
    with pytest.raises(InputError, match="at least 1 query"):
        GroundTruth("x", "mAP", ())


def test_scores_of_another_corpus_are_refused() -> None:
    with pytest.raises(MismatchedQueries, match=r"got \(8, 7\), not \(8, 8\)"):
        score_queries(ukb(UKB), UKB, np.zeros((8, 7)))
    with pytest.raises(InputError, match="not among 7"):
        score_queries(ukb(UKB), [f"{name}x" for name in UKB[:7]], np.zeros((8, 7)))


def test_a_truth_whose_queries_are_all_left_out_says_why() -> None:
    with pytest.raises(InputError, match=r"gives 0 \(2 left out; a: no right answer\)"):
        GroundTruth("x", "mAP", (), (("a", "no right answer"), ("b", "no right answer")))


def test_what_a_truth_names_are_queries_answers_and_junk() -> None:
    queries = (
        GroundTruthQuery("a", frozenset({"b"}), frozenset({"c"}), missing=frozenset({"gone"})),
        GroundTruthQuery("d", frozenset({"b"}), remove_self=True),
    )
    assert GroundTruth("x", "mAP", queries).named == {"a", "b", "c", "d"}


def test_queries_that_share_their_junk_share_its_numbers() -> None:
    junk = frozenset({"a", "b"})
    queries = tuple(GroundTruthQuery(name, frozenset({"c"}), junk) for name in ("a", "b"))
    first, second = resolve(GroundTruth("x", "mAP", queries), ["a", "b", "c"]).queries
    assert first.ignored_ids is second.ignored_ids
    assert first.ignored_ids.tolist() == [0, 1]


def test_map_at_100_is_by_rectangles_over_the_answers_or_100() -> None:
    names = [f"{number}" for number in range(200)]
    falling = np.arange(200, 0, -1.0)  # picture n at rank n; the query leaves
    few = GroundTruthQuery("0", frozenset({"1", "3", "150"}), remove_self=True)
    many = GroundTruthQuery("0", frozenset(names[1:151]), remove_self=True)
    resolved = resolve(GroundTruth("x", "mAP@100", (few, many)), names).queries
    # without the query they stand at 1, 3 and 150: (1 / 1 + 2 / 3 + 0) / 3
    assert score_query("mAP@100", resolved[0], falling) == pytest.approx(5 / 9)
    # 150 answers, 100 of them in the first 100: 100 / min(150, 100)
    assert score_query("mAP@100", resolved[1], falling) == 1.0


def test_every_picture_is_right_wrong_junk_or_the_query() -> None:
    names = ["a", "b", "c", "d"]
    query = GroundTruthQuery("d", frozenset({"b"}), frozenset({"c"}), remove_self=True)
    truth = resolve(GroundTruth("x", "mAP", (query,)), names)
    assert truth.verdicts(0, np.array([3, 2, 1, 0])).tolist() == ["query", "junk", "right", "wrong"]
    own = GroundTruthQuery("d", frozenset({"b", "d"}))  # a query that is its own right answer
    assert resolve(GroundTruth("x", "mAP", (own,)), names).verdicts(0, np.array([3])) == ["query"]
