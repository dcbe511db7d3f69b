"""`lamella export` as it is typed."""

import json
import re
from pathlib import Path

import pytest

from tests.command_line import complaint, lamella
from tests.end_to_end.commands import Stores


def test_all_layers_are_exported_and_a_person_is_told_what_and_where(
    stores: Stores, tmp_path: Path
) -> None:
    said = lamella("export", stores.one, "--to", tmp_path / "out", "--clusters", 2)
    assert said.returncode == 0, said.stderr
    assert "head: 5 images, 1,280 dimensions, parquet; 2 clusters, the largest of " in said.stdout
    assert "p15: 5 images, 12 words, npz" in said.stdout
    assert f"in {tmp_path}/out; README.md says how to open them" in said.stdout
    assert "export head done 5" in said.stderr
    assert "cluster head done" in said.stderr


def test_json_is_what_the_folder_says_of_itself(stores: Stores, tmp_path: Path) -> None:
    call = ("export", stores.one, "--layer", "head", "--layer", "p15", "--format", "npy")
    said = lamella(*call, "--to", tmp_path / "out", "--json")
    assert (said.returncode, said.stderr) == (0, "")
    found = json.loads(said.stdout)
    assert found.pop("folder") == f"{tmp_path}/out"
    assert found == json.loads((tmp_path / "out/export.json").read_text())
    assert {"head.npy", "ids.npy", "names.txt", "p15.npz"} <= set(found["files"])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--layer", "haed"), "did you mean head"),
        (("--layer", "p15", "--format", "npy"), "--format is a format of vectors"),
        (("--format", "parket"), r"--format 'parket' is none of .*: did you mean parquet"),
        (("--to", "s3://bucket/out"), "--to takes a path on this machine"),
        (("--snapshot", "7"), "there is no snapshot 7"),
        (("--to", "a\0b"), "--to"),
    ],
)
def test_wrong_calls_say_what_is_wrong(
    stores: Stores, tmp_path: Path, more: tuple[str, ...], said: str
) -> None:
    place = () if "--to" in more else ("--to", tmp_path / "out")
    found = lamella("export", stores.one, *place, *more)
    assert re.search(said, complaint(found))
    assert list(tmp_path.iterdir()) == []
