"""Protocols by name: the options each takes, a data set's folder, and parts."""

import json
from pathlib import Path

import pytest

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.protocols.by_name import ProtocolOptions, ground_truths
from lamella.pipeline.jobs.evaluating import ground_truth
from lamella.schemas.report import Difficulty

UKB = [f"ukb/ukbench{number:05d}.jpg" for number in range(4)]


def test_a_distractor_with_the_name_of_a_picture_is_refused_with_a_way_out() -> None:
    names = [*UKB, "distractors/ukbench00002.jpg", "distractors/cat.jpg"]
    with pytest.raises(InputError) as refused:
        ground_truths("ukb", names, ProtocolOptions())
    assert "ukbench00002 is both ukb/ukbench00002.jpg and distractors/ukbench00002.jpg" in str(
        refused.value
    )
    assert "--within ukb/" in str(refused.value)
    for folder in ("ukb/", "ukb", "./ukb"):
        (truth,) = ground_truths("ukb", names, ProtocolOptions(within=folder))
        assert truth.queries[2].positives == frozenset(UKB)
        assert truth.named == frozenset(UKB)


def test_the_way_out_names_a_folder_that_tells_the_two_apart() -> None:
    names = ["data/ukbench00002.jpg", "data/more/ukbench00002.jpg"]
    with pytest.raises(InputError, match="--within data/more/"):
        ground_truths("ukb", names, ProtocolOptions())


def test_the_way_out_is_the_folder_that_holds_most_of_the_data_set() -> None:
    names = ["bad/ukbench00000.bmp", "bad/ukbench00000.jpg", *UKB]
    with pytest.raises(InputError, match=r"is both bad/.*bmp and bad/.*jpg: .*--within ukb/"):
        ground_truths("ukb", names, ProtocolOptions())
    with pytest.raises(InputError, match=r"ukbench00000\.jpg: index one of them"):
        ground_truths("ukb", names[:2], ProtocolOptions())


def test_a_folder_that_only_begins_alike_is_another() -> None:
    names = [*UKB, "ukb2/ukbench00000.jpg"]
    (truth,) = ground_truths("ukb", names, ProtocolOptions(within="ukb"))
    assert len(truth.queries) == 4


def test_a_folder_without_pictures_is_refused_with_those_there_are() -> None:
    said = ProtocolOptions(within="oxford/")
    with pytest.raises(InputError, match=r"0 of 5 names begin with oxford/: give one of a/, ukb/"):
        ground_truths("ukb", [*UKB, "a/cat.jpg"], said)
    with pytest.raises(InputError, match="give one of none, for all pictures lie"):
        ground_truths("ukb", ["cat.jpg"], said)


def test_within_keeps_distractors_out_of_groups() -> None:
    names = ["toys/a/1.jpg", "toys/a/2.jpg", "far/1.jpg", "far/2.jpg"]
    (truth,) = ground_truths("groups", names, ProtocolOptions(within="toys"))
    assert truth.named == frozenset(names[:2])


@pytest.mark.parametrize("protocol", ["ukb", "copydays", "groups"])
def test_protocols_without_files_refuse_them(protocol: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"protocol {protocol} goes by the names .* leave it out"):
        ground_truths(protocol, UKB, ProtocolOptions(truth=tmp_path))  # type: ignore[arg-type]


def test_rotations_are_for_holidays_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the protocol is ukb: leave it out"):
        ground_truths("ukb", UKB, ProtocolOptions(rotations=tmp_path))


def test_all_difficulties_are_three_parts(tmp_path: Path) -> None:
    file = tmp_path / "gnd_rparis6k.json"
    entry = {"bbx": [1, 2, 3, 4], "easy": [0], "hard": [1], "junk": []}
    easy = {"bbx": [1, 2, 3, 4], "easy": [0], "hard": [], "junk": []}
    content = {"imlist": ["a", "b"], "qimlist": ["q", "r"], "gnd": [entry, easy]}
    file.write_text(json.dumps(content))
    names = ["p/a.jpg", "p/b.jpg", "p/q.jpg", "p/r.jpg"]
    said = ProtocolOptions(truth=tmp_path, difficulty="all")
    found = ground_truths("rparis", names, said)
    assert [truth.protocol for truth in found] == [f"rparis {level} roi" for level in LEVELS]
    assert [len(truth.queries) for truth in found] == [2, 2, 1]
    assert found[2].left_out == (("p/r.jpg", "no hard answer"),)
    assert all(truth.measures == ("mP@1", "mP@5", "mP@10") for truth in found)
    for level, truth in zip(LEVELS, found, strict=True):
        assert truth == ground_truth("rparis", names, truth=file, difficulty=level)


LEVELS: tuple[Difficulty, ...] = ("easy", "medium", "hard")


def test_one_truth_of_a_protocol_with_several_parts_is_refused() -> None:
    names = ["200000.jpg", "strong/200001.jpg", "crops/10/200000.jpg"]
    with pytest.raises(InputError, match="copydays has 2 here, copydays strong to copydays crops"):
        ground_truth("copydays", names)


def test_one_part_is_chosen_by_its_name() -> None:
    names = ["200000.jpg", "strong/200001.jpg", "crops/10/200000.jpg"]
    (found,) = ground_truths("copydays", names, ProtocolOptions(part="Crops 10"))
    assert found.protocol == "copydays crops 10"
    with pytest.raises(InputError, match=r"--part .*crops 20.* is none of strong, crops 10"):
        ground_truths("copydays", names, ProtocolOptions(part="crops 20"))
    with pytest.raises(InputError, match="of copydays and gldv2; the protocol is ukb: leave"):
        ground_truths("ukb", UKB, ProtocolOptions(part="strong"))
