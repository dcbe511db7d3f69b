"""A name may be given in any case, and a wrong one is answered with the nearest."""

import pytest

from lamella.pipeline.errors import UnknownLayer
from lamella.pipeline.names import known_names, layers_meant, meant

MANY = [f"resnet{number}" for number in range(30)] + ["vgg16", "vgg19"]


def test_a_name_is_known_in_any_case_unless_two_differ_by_case_alone() -> None:
    assert meant("HEAD", ["head", "p15"]) == "head"
    assert meant("b", ["B", "b"]) == "b"
    assert meant("hed", ["head"]) is None
    assert meant("aB", ["AB", "ab"]) is None


def test_few_names_are_all_told_with_the_nearest() -> None:
    assert known_names("hed", ["head", "p15"]) == "head, p15: did you mean head?"
    assert known_names("HED", ["head", "p15"]) == "head, p15: did you mean head?"
    assert known_names("zzz", ["head", "p15"]) == "head, p15"
    assert known_names("zzz", []) == "none"


def test_of_many_names_ten_are_told_and_the_near_ones_are_among_them() -> None:
    said = known_names("vgg61", MANY)
    named, _, near = said.partition(" and 22 more: did you mean ")
    assert len(named.split(", ")) == 10
    assert {"vgg16", "vgg19"} < set(named.split(", "))
    assert near in ("vgg16?", "vgg19?")
    assert known_names("zzz", MANY).startswith("resnet0, resnet1, ")


def test_names_of_strangers_do_not_control_a_terminal() -> None:
    assert "\x1b" not in known_names("ab", ["a\x1b[31mb"])


def test_all_unknown_layers_are_told_at_once() -> None:
    assert layers_meant("snapshot 1", ["P15", "head"], ["head", "p15"]) == ["p15", "head"]
    with pytest.raises(UnknownLayer, match="snapshot 1 has no layers 'hed' and 'x': it has head"):
        layers_meant("snapshot 1", ["hed", "x", "p15"], ["head", "p15"])
