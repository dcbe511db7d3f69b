"""A store is only files: copied to another place, it answers alike, is whole, and goes on."""

import json
import re
import shutil
from pathlib import Path

from tests.command_line import lamella
from tests.end_to_end.commands import Stores
from tests.s3 import upload


def answers(store: object) -> object:
    said = lamella("query", store, "snapshot", "--engine", "serial", "--json")
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)["rankings"]


def goes_on(store: object, stores: Stores) -> None:
    """Check that a moved store is whole, and that the next night finds everything done."""
    assert lamella("verify", store).returncode == 0
    night = ("reindex", store, "--pictures", stores.pictures, "--engine", "serial", "--json")
    said = lamella(*night)
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["snapshot"] == 1


def test_a_store_in_another_folder_answers_alike(stores: Stores, tmp_path: Path) -> None:
    moved = shutil.copytree(stores.one, tmp_path / "elsewhere" / "store")
    assert answers(moved) == answers(stores.one)
    goes_on(moved, stores)


def test_a_store_copied_to_s3_and_back_answers_alike(
    stores: Stores, bucket: str, tmp_path: Path
) -> None:
    from s3fs import S3FileSystem

    there, back = upload(stores.one, f"s3://{bucket}/copied/store"), tmp_path / "back"
    assert answers(there) == answers(stores.one)
    goes_on(there, stores)
    S3FileSystem().get(there, str(back), recursive=True)
    assert answers(back) == answers(stores.one)


def test_a_copy_of_what_the_runbook_names_answers_alike(stores: Stores, tmp_path: Path) -> None:
    runbook = (Path(__file__).parents[2] / "deploy" / "RUNBOOK.md").read_text(encoding="utf-8")
    (sentence,) = re.findall(r"A copy of\s+(`looks/`[^.]*?) answers queries at once", runbook)
    named = re.findall(r"`([a-z]+)/`", sentence)
    for folder in named:
        shutil.copytree(stores.one / folder, tmp_path / "store" / folder)
    assert answers(tmp_path / "store") == answers(stores.one)
