"""Finding data sets by their official layouts, and the corpora made of them."""

import hashlib
from pathlib import Path

import pytest

from lamella.pipeline.errors import InputError
from lamella.pipeline.reproduce.data_sets import (
    corpus_of,
    find_data_sets,
    folder_digest,
    numbers_by_name,
)


def write(path: Path, data: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data)
    return path


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """All three data sets in one folder, as they are unpacked, and Paris6k beside them."""
    data = tmp_path / "data"
    write(data / "oxford5k/oxbuild_images/all_souls_000013.jpg")
    write(data / "oxford5k/gt_files_170407/all_souls_1_query.txt", "oxc1_all_souls_000013 0 0 1 1")
    write(data / "paris6k/images/paris_louvre_000001.jpg")
    write(data / "paris6k/gt_files_170407/louvre_1_query.txt", "paris_louvre_000001 0 0 1 1")
    write(data / "holidays/jpg/100000.jpg")
    write(data / "holidays/holidays_images.dat", "100000.jpg\n")
    write(data / "ukbench/full/ukbench00000.jpg")
    write(data / "other/1.jpg")
    return data


def test_data_sets_are_found_in_one_folder_or_named(released: Path) -> None:
    found = find_data_sets([str(released)])
    assert list(found) == ["oxford", "holidays", "ukb"]
    assert found["oxford"].pictures == released / "oxford5k/oxbuild_images"
    assert found["oxford"].truth == released / "oxford5k/gt_files_170407"
    assert found["holidays"].truth == released / "holidays/holidays_images.dat"
    assert found["ukb"].truth is None
    named = find_data_sets([f"ukb={released / 'ukbench'}", f"oxford={released / 'oxford5k'}"])
    assert named == {name: found[name] for name in ("oxford", "ukb")}


def test_the_folder_of_the_pictures_is_a_data_set_too(released: Path) -> None:
    found = find_data_sets(
        [f"ukb={released / 'ukbench/full'}", f"holidays={released}/holidays/jpg"]
    )
    assert found["ukb"].pictures == released / "ukbench/full"
    assert found["holidays"].truth == released / "holidays/holidays_images.dat"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("ukb={}/holidays", "full/ukbench00000.jpg"),
        ("oxford={}/paris6k", "gt_files_170407"),
        ("{}/other", "has no data set"),
        ("{}/nowhere", "there is no folder"),
        ("paris={}/paris6k", "none of"),
    ],
)
def test_what_is_no_data_set_is_refused_with_the_layout(
    released: Path, given: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        find_data_sets([given.format(released)])


def test_one_data_set_in_two_places_is_refused(released: Path) -> None:
    with pytest.raises(InputError, match="say which"):
        find_data_sets([str(released), f"ukb={released / 'ukbench'}"])


def test_data_sets_with_the_same_folders_have_the_same_corpus(
    released: Path, tmp_path: Path
) -> None:
    others = [f"ukb={released}/holidays", f"holidays={released}/ukbench", f"ukb={released}/other"]
    found = find_data_sets([str(released)], [*others, f"holidays={released}/other"])
    ukb, holidays = (corpus_of(found[name], tmp_path) for name in ("ukb", "holidays"))
    assert ukb == holidays
    assert ukb.pictures == 3
    ukb.write()
    lines = Path(ukb.source).read_text().splitlines()
    assert lines == sorted(
        str(path)
        for path in released.rglob("*.jpg")
        if path.parts[-3] in ("holidays", "ukbench") or path.parent.name == "other"
    )
    alone = corpus_of(found["oxford"], tmp_path)
    assert (alone.source, alone.listed) == (str(found["oxford"].pictures), None)


def test_distractors_without_a_name_are_of_every_data_set(released: Path) -> None:
    found = find_data_sets([str(released)], [str(released / "other")])
    assert {data_set.distractors for data_set in found.values()} == {(released / "other",)}


def test_the_digest_of_a_folder_is_that_of_what_sha256sum_prints(tmp_path: Path) -> None:
    write(tmp_path / "b.txt", "two")
    write(tmp_path / "a.txt", "one")
    lines = "".join(
        f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n"
        for name, text in (("a.txt", "one"), ("b.txt", "two"))
    )
    assert folder_digest(tmp_path) == hashlib.sha256(lines.encode()).hexdigest()


def test_numbers_are_of_all_or_of_what_is_named() -> None:
    names = ["vgg16", "ukb"]
    assert numbers_by_name("--words", ["500", "ukb=7"], names) == {"": 500, "ukb": 7}
    assert numbers_by_name("--words", ["vgg16=3", "vgg16=4"], names) == {"vgg16": 4}
    for wrong in ("paris=5", "many", "0", "ukb=", "=5"):
        with pytest.raises(InputError, match="--words takes"):
            numbers_by_name("--words", [wrong], names)
