"""`lamella duplicates` as it is typed: pairs, groups, files, runs, and how it ends."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from lamella.cluster.commands import query
from lamella.pipeline.export.pairs import Pairs, find_pairs
from tests.command_line import complaint, lamella
from tests.end_to_end.commands import Stores
from tests.pipeline.export.copied import COPIES, Copied, copied_stores

SERIAL = ("--engine", "serial")


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Copied:
    return copied_stores(tmp_path_factory.mktemp("copied"))


@pytest.fixture
def store(copied: Copied, tmp_path: Path) -> Path:
    return Path(shutil.copytree(copied.cut, tmp_path / "store"))


def found(store: Path, *arguments: object) -> dict[str, Any]:
    said = lamella("duplicates", store, *arguments, *SERIAL, "--json")
    assert said.returncode == 0, said.stderr
    assert said.stderr == ""
    value: dict[str, Any] = json.loads(said.stdout)
    return value


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_copies_are_told_from_look_alikes_and_the_largest_is_kept(store: Path) -> None:
    """00.png and its 12 copies are one file 13 times; large.png has more pixels than 01.png."""
    value = found(store, "--above", "1.9")
    groups: dict[int, list[dict[str, Any]]] = {}
    for member in value["members"]:
        groups.setdefault(member["group"], []).append(member)
    (copies,) = [group for group in groups.values() if group[0]["name"].startswith("copy")] or [
        group for group in groups.values() if group[0]["name"] == "00.png"
    ]
    assert len(copies) == COPIES + 1
    assert [member["keep"] for member in copies] == [True] + [False] * COPIES
    assert all(member["same_file"] and member["score"] > 1.9999 for member in copies[1:])
    (changed,) = [group for group in groups.values() if group[0]["name"] == "large.png"]
    assert "01.png" in {member["name"] for member in changed}
    assert not any(member["same_file"] for member in changed)
    assert value["same_files"] == COPIES
    assert value["spare"] == sum(not member["keep"] for member in value["members"])
    sizes = [len(group) for group in groups.values()]
    assert sizes == sorted(sizes, reverse=True)


def test_pairs_and_groups_go_to_files(store: Path, tmp_path: Path) -> None:
    said = lamella(
        *("duplicates", store, "--above", 1.9, "--groups", tmp_path / "groups.csv"),
        *("--out", tmp_path / "pairs.parquet", *SERIAL),
    )
    assert said.returncode == 0, said.stderr
    with (tmp_path / "groups.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    value = found(store, "--above", "1.9", "--out", tmp_path / "pairs.csv")
    assert [row["name"] for row in rows] == [each["name"] for each in value["members"]]
    assert [row["keep"] == "true" for row in rows] == [each["keep"] for each in value["members"]]
    pairs = pq.read_table(tmp_path / "pairs.parquet")
    assert pairs.num_rows == value["pairs"]
    with (tmp_path / "pairs.csv").open(newline="") as file:
        copied = list(csv.DictReader(file))
    assert [int(row["image_id"]) for row in copied] == pairs["image_id"].to_pylist()
    assert [float(row["score"]) for row in copied] == pairs["score"].to_pylist()
    found(store, "--above", "1.9", "--out", tmp_path / "pairs.json")
    listed = json.loads((tmp_path / "pairs.json").read_text())["pairs"]
    assert [int(row["other_id"]) for row in listed] == pairs["other_id"].to_pylist()
    assert re.search(rf"{value['pairs']} pairs of 25 pictures score 1\.9 or more", said.stdout)
    assert f"groups: {tmp_path}/groups.csv" in said.stdout


def test_few_pictures_leave_no_run_and_a_named_one_is_found_again(store: Path) -> None:
    before = files(store)
    first = found(store, "--above", "1.9", "-k", "3")
    assert files(store) == before
    named = found(store, "--above", "1.9", "-k", "3", "--into", "same")
    assert named["members"] == first["members"]
    assert named["runs"] == ["same", "same.k24"]
    assert (store / "runs/same.k24/run.json").is_file()
    after = files(store)
    assert found(store, "--above", "1.9", "-k", "3", "--into", "same")["members"]
    assert files(store) == after
    said = lamella("duplicates", store, "--above", 1.8, "-k", 3, "--into", "same", *SERIAL)
    assert "above was 1.9, is 1.8" in complaint(said)


def test_many_pictures_are_kept_as_runs(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "FEW", 4)
    (run,) = found(store)["runs"]
    assert (store / f"runs/{run}/run.json").is_file()


def test_the_threshold_is_nine_tenths_of_what_a_picture_scores_with_itself(store: Path) -> None:
    assert found(store)["above"] == 1.8
    assert found(store, "--w", "1,0.5")["above"] == 1.35
    assert found(store, "--layers", "head")["above"] == 0.9


def test_pictures_that_are_all_different_make_no_group(stores: Stores, tmp_path: Path) -> None:
    groups = tmp_path / "groups.csv"
    said = lamella("duplicates", stores.one, "--above", 1.99, "--groups", groups, *SERIAL)
    assert said.returncode == 0, said.stderr
    assert "0 pairs of 5 pictures score 1.99 or more, all of them found: 0 groups" in said.stdout
    assert groups.read_text().startswith('"group","name","image_id"')
    assert len(groups.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--above", 2.5), "less than 2, which a picture scores with itself .1 of head . 1 of p15"),
        (("--above", 2), "less than 2, which .* got 2: 1.8 finds copies"),
        (("--above", -1), "above"),
        (("--layers", "haed"), "did you mean head"),
        (("--out", "pairs.txt"), "ends in .parquet, .csv or .json"),
        (("--groups", "/nowhere/groups.csv"), "--groups takes a file in a folder that is there"),
        (("--into", "a" * 31), "at most 30 letters here"),
        (("-k", 0), "search.k"),
    ],
)
def test_wrong_calls_say_what_is_wrong(store: Path, more: tuple[object, ...], said: str) -> None:
    before = files(store)
    assert re.search(said, complaint(lamella("duplicates", store, *more, *SERIAL)))
    assert files(store) == before


def test_the_same_file_that_makes_no_pair_is_counted(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures that score little with themselves are simulated: nothing is above in the answers."""
    assert found(store)["same_files_apart"] == 0

    def find_none(*arguments: Any) -> Pairs:
        some = find_pairs(*arguments)
        return replace(some, table=some.table.slice(0, 0))

    monkeypatch.setattr("lamella.pipeline.export.duplicates.find_pairs", find_none)
    assert found(store)["same_files_apart"] == COPIES + 1
    said = lamella("duplicates", store, *SERIAL)
    assert "13 pictures more: the same file as another one, and no pair with it" in said.stdout


def test_a_job_file_that_leaves_pictures_out_is_refused(store: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text("search.where = 'width > 40'")
    said = complaint(lamella("duplicates", store, "--job", job, *SERIAL))
    assert "search.where of the job file leaves some out (width > 40): leave it out" in said


def test_a_page_says_where_pictures_are_gone(copied: Copied, store: Path, tmp_path: Path) -> None:
    page = tmp_path / "same.html"
    assert found(store, "--page", page)["written"]["page"] == str(page)
    html = page.read_text()
    assert html.count('<img src="data:image/jpeg') > COPIES
    assert "of 25 pictures are nearly the same as another" in html
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    found(store, "--page", page, "--pictures", elsewhere)
    html = page.read_text()
    assert "the page shows no pictures" in html
    assert "<img" not in html
