"""Groups of a corpus's own, by folder or by a pattern."""

import pytest

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.protocols.groups import ALONE, groups
from lamella.pipeline.evaluate.truth import GroundTruthQuery

UKB = [f"full/ukbench{number:05d}.jpg" for number in range(8)]


def test_groups_by_parent_folder_leave_the_query_out() -> None:
    truth = groups(["a/1.jpg", "a/2.jpg", "b/1.jpg"])
    assert truth.queries == (
        GroundTruthQuery("a/1.jpg", frozenset({"a/2.jpg"}), remove_self=True),
        GroundTruthQuery("a/2.jpg", frozenset({"a/1.jpg"}), remove_self=True),
    )


def test_groups_by_pattern() -> None:
    truth = groups(["s/obj1_1.JPG", "c/obj1_t1.JPG", "x.jpg"], r"(obj[0-9]+)_")
    assert [query.name for query in truth.queries] == ["s/obj1_1.JPG", "c/obj1_t1.JPG"]


def test_groups_of_four_can_be_scored_as_n_s() -> None:
    truth = groups(UKB[:4], metric="N-S")
    assert truth.queries[0].positives == frozenset(UKB[:4])
    assert not truth.queries[0].remove_self
    with pytest.raises(InputError, match="needs groups of 4; group 'full' has 3: use mAP"):
        groups(UKB[:3], metric="N-S")


@pytest.mark.parametrize(
    ("pattern", "message"), [("(", "regular expression"), ("a", "has 0"), ("(z)", "groups of 1")]
)
def test_groups_refuse_a_pattern_that_groups_nothing(pattern: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        groups(["a/1.jpg", "a/2.jpg"], pattern)


def test_a_group_of_one_is_a_distractor_and_is_said() -> None:
    truth = groups(["a/1.jpg", "a/2.jpg", "b/1.jpg"])
    assert [query.name for query in truth.queries] == ["a/1.jpg", "a/2.jpg"]
    assert truth.left_out == (("b/1.jpg", ALONE),)
