"""Holidays: groups by number, without the query; whether its pictures stand upright."""

from pathlib import Path

import numpy as np
import pytest

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.protocols.groups import ALONE
from lamella.pipeline.evaluate.protocols.holidays import (
    holidays,
    read_rotations,
    told_upright,
)
from lamella.pipeline.evaluate.truth import Release, score_queries

SHARED = Path(__file__).parents[5] / "shared" / "data"


def test_holidays_removes_the_query_and_groups_by_number() -> None:
    names = ["j/100000.jpg", "j/100001.jpg", "j/100100.jpg", "j/100101.jpg", "j/d7.jpg"]
    truth = holidays(names)
    assert [(query.name, set(query.positives)) for query in truth.queries] == [
        ("j/100000.jpg", {"j/100001.jpg"}),
        ("j/100100.jpg", {"j/100101.jpg"}),
    ]
    # the query's own place does not matter: it leaves, and its one positive comes first
    scores = np.array([[1.0, 0.9, 0.1, 0.1, 0.1], [0.9, 0.1, 1.0, 0.5, 0.1]])
    assert score_queries(truth, names, scores).tolist() == [1.0, 0.25]


def test_holidays_does_not_give_a_group_without_query_to_the_group_before(tmp_path: Path) -> None:
    names = ["100000.jpg", "100001.jpg", "100101.jpg", "100102.jpg"]
    with pytest.raises(InputError, match=r"group 1001 has 100101, 100102 .* but not 100100"):
        holidays(names)
    listed = tmp_path / "holidays_images.dat"
    listed.write_text("100000.jpg\n100001.jpg\n100101.jpg\n")
    with pytest.raises(InputError, match="group 1001 has 100101 in the corpus but not 100100"):
        holidays(names, listed)


def test_holidays_list_decides_who_belongs_and_who_is_missed(tmp_path: Path) -> None:
    listed = tmp_path / "holidays_images.dat"
    listed.write_text("100000.jpg\n100001.jpg\n100002.jpg\n")
    truth = holidays(["100000.jpg", "100002.jpg", "100100.jpg", "100101.jpg"], listed)
    assert [query.name for query in truth.queries] == ["100000.jpg"]
    assert truth.missing == {"100001"}


def test_a_lone_holidays_number_is_a_distractor() -> None:
    assert len(holidays(["100000.jpg", "100001.jpg", "123456.jpg"]).queries) == 1


def test_holidays_refuses_other_names() -> None:
    with pytest.raises(InputError, match="0 groups"):
        holidays(["cat.jpg"])


def test_a_group_of_one_is_said(tmp_path: Path) -> None:
    assert holidays(["100000.jpg", "100001.jpg", "123456.jpg"]).left_out == (("123456.jpg", ALONE),)
    listed = tmp_path / "holidays_images.dat"
    listed.write_text("100000.jpg\n100001.jpg\n100100.jpg\n")
    truth = holidays(["j/100000.jpg", "j/100001.jpg", "j/100100.jpg"], tmp_path)
    assert truth.left_out == (("j/100100.jpg", ALONE),)
    assert truth.files == (listed,)
    assert truth.release == Release(held=3, pictures=1491, queries=500)


NAMES = [f"j/{number}.jpg" for number in (100000, 100001, 100002, 100100, 100101)]
SIDEWAYS, UPRIGHT = (640, 480), (480, 640)
LIST = """{
"100000.jpg": 90,
"100002.jpg": 270,
"100101.jpg": 180,
"149900.jpg": 90,
}
"""


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((SIDEWAYS, SIDEWAYS), "holidays raw"),
        ((UPRIGHT, UPRIGHT), "holidays upright"),
        ((UPRIGHT, SIDEWAYS), "holidays 1 of 2 upright"),
        (((500, 500), UPRIGHT), "holidays 1 of 2 upright"),
    ],
)
def test_the_name_says_how_many_of_the_listed_pictures_stand_upright(
    sizes: tuple[tuple[int, int], ...], said: str, tmp_path: Path
) -> None:
    rotations = tmp_path / "holidays-rotate.yaml"
    rotations.write_text(LIST)
    size_of = dict(zip(("j/100000.jpg", "j/100002.jpg"), sizes, strict=True))
    # 100101 is upside down, which no size tells; 149900 is not in the corpus
    truth = told_upright(holidays(NAMES), rotations, size_of.__getitem__)
    assert truth.protocol == said
    assert truth.files == (rotations,)


def test_a_list_of_rotations_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    rotations = tmp_path / "holidays-rotate.yaml"
    rotations.write_text('{\n"149900.jpg": 90,\n}\n')
    with pytest.raises(InputError, match=r"of 1 in .* the corpus holds 0: leave it out"):
        told_upright(holidays(NAMES), rotations, lambda name: UPRIGHT)
    for text in ("", "{\n}\n"):
        rotations.write_text(text)
        with pytest.raises(InputError, match=r"lines like .* has 0"):
            read_rotations(rotations)
    for text in ('"100000.jpg": 45,', "!!python/object:os.system [ls]", "100000: 90"):
        rotations.write_text(text)
        with pytest.raises(InputError, match="give the published"):
            read_rotations(rotations)


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the data sets are not at {SHARED}")
    return SHARED


def test_the_official_holidays_list_has_500_groups(shared: Path) -> None:
    listed = shared / "ground_truth" / "holidays" / "holidays_images.dat"
    truth = holidays(listed.read_text().split(), listed)
    assert len(truth.queries) == 500
    assert truth.release == Release(held=1491, pictures=1491, queries=500)
    assert not truth.left_out
    assert sum(query.relevant for query in truth.queries) == 991


def test_the_real_subset_has_13_groups(shared: Path) -> None:
    names = sorted(str(file.relative_to(shared)) for file in (shared / "holidays").rglob("*.jpg"))
    assert len(holidays(names, shared / "holidays").queries) == 13
    assert len(holidays(names).queries) == 13


def test_the_published_list_turns_228_pictures(shared: Path) -> None:
    found = read_rotations(shared / "ground_truth" / "holidays" / "holidays-rotate.yaml")
    assert len(found) == 228
    assert sorted(set(found.values())) == [90, 180, 270]
    assert sum(degrees == 180 for degrees in found.values()) == 1
