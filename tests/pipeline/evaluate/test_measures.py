"""Names of measures, and what is said where ir-measures is not installed."""

import sys

import numpy as np
import pytest

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.measures import (
    listed,
    parse_measure,
    parse_measures,
    precision_of_first,
    reciprocal_rank,
    revisited_precision,
    share_right,
)


@pytest.mark.parametrize(
    ("name", "cutoff", "ours"),
    [
        ("mAP", None, True),
        ("N-S", 4, True),
        ("mP@10", 10, True),
        ("mAP@100", 100, True),
        ("AP", None, True),
        ("R@100", 100, True),
        ("nDCG@10", 10, False),
        ("AP@10", 10, False),
        ("nDCG", None, False),
        ("P(rel=2)@5", 5, False),
        ("P(judged_only=True)@5", None, False),
    ],
)
def test_a_measure_has_its_name_and_cutoff(name: str, cutoff: int | None, ours: bool) -> None:
    if not ours:
        pytest.importorskip("ir_measures")
    measure = parse_measure(f" {name} ")
    assert (measure.name, measure.cutoff, measure.ours is not None) == (name, cutoff, ours)


def test_a_list_of_names_keeps_those_with_commas_in_brackets() -> None:
    text = "mAP, AP(rel=2,judged_only=True),,P@5,"
    assert listed(text) == ["mAP", "AP(rel=2,judged_only=True)", "P@5"]


def test_each_measure_counts_once_in_the_order_of_first_naming() -> None:
    found = parse_measures(["RR", "mAP", "RR"])
    assert [measure.name for measure in found] == ["RR", "mAP"]


@pytest.mark.parametrize(
    "name", ["", "map@", "mP", "mP@0", "R@", "nonsense", "__import__('os')", "P@1;x", "(" * 500]
)
def test_what_is_no_measure_is_refused(name: str) -> None:
    pytest.importorskip("ir_measures")
    with pytest.raises(InputError, match="measures are mAP, N-S"):
        parse_measure(name)


def test_without_ir_measures_ours_work_and_others_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ir_measures", None)
    assert len(parse_measures(["mAP", "AP", "RR", "N-S", "mP@5", "P@5", "R@5"])) == 7
    with pytest.raises(InputError, match=r"pip install 'lamella\[lab\]'"):
        parse_measure("nDCG@10")


def test_simple_measures_worked_by_hand() -> None:
    ranks = np.array([1, 4])
    assert share_right(ranks, 4) == 1 / 4
    assert reciprocal_rank(ranks) == 1 / 2
    assert reciprocal_rank(np.array([], np.int64)) == 0.0
    assert revisited_precision(ranks, 2, 10) == 2 / 5  # the last right one is fifth
    assert revisited_precision(ranks, 3, 10) == 2 / 10  # a third one was not found
    assert revisited_precision(ranks, 2, 1) == 0.0
    assert revisited_precision(np.array([], np.int64), 1, 5) == 0.0
    assert precision_of_first(ranks, 2, 4) == (1 / 2) / 2  # the second one stands beyond
    assert precision_of_first(np.array([0, 1, 2]), 9, 3) == 1.0
