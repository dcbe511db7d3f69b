"""Events on standard error: lines for people, objects for machines, and secrets in neither."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lamella.cluster.commands import logs
from lamella.pipeline import events
from tests.command_line import lamella
from tests.end_to_end.commands import Stores

KEY = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_job_tells_each_event_as_one_object(stores: Stores, tmp_path: Path) -> None:
    store = shutil.copytree(stores.one, tmp_path / "store")
    pictures = shutil.copytree(stores.pictures, tmp_path / "pictures")
    pictures.joinpath("note.jpg").write_text("no picture")
    given = ("--pictures", pictures, "--engine", "serial", "--log", "json", "--json")
    said = lamella("reindex", store, *given)
    assert said.returncode == 0, said.stderr
    json.loads(said.stdout)
    told = objects(said.stderr)  # nothing else is on standard error
    assert (told[0]["event"], told[-1]["event"]) == ("job-begun", "job-ended")
    assert {each["job"] for each in told} == {told[0]["job"]}
    assert all({"time", "level", "event"} <= each.keys() for each in told)
    of = {each["event"]: each for each in told}
    assert of["task-done"]["stage"]
    assert of["stage-done"]["stage"] == "index"  # the last one
    refused = {each.get("picture"): each for each in told}["note.jpg"]
    assert (refused["event"], refused["stage"]) == ("picture-refused", "extract")
    assert refused["reason"].startswith("not-an-image")
    assert refused["shard"]


def test_a_failure_is_an_event_too(tmp_path: Path) -> None:
    said = lamella("index", tmp_path / "nowhere", "--into", tmp_path / "store", "--log", "json")
    assert said.returncode == 2
    *_, ended, failed = objects(said.stderr)
    assert (ended["event"], ended["code"], ended["level"]) == ("job-ended", 2, "error")
    assert failed["event"] == "failed"
    assert str(tmp_path / "nowhere") in failed["reason"]


def test_a_job_whose_result_is_not_enough_ends_with_that_code(
    stores: Stores, tmp_path: Path
) -> None:
    store = shutil.copytree(stores.two, tmp_path / "store")
    assert lamella("snapshots", store, "--promote", "1").returncode == 0  # and that holds
    pictures = shutil.copytree(stores.pictures, tmp_path / "pictures")
    pictures.joinpath("note.jpg").write_text("no picture")
    given = ("--pictures", pictures, "--engine", "serial", "--log", "json", "--json")
    said = lamella("reindex", store, *given)
    ended = next(each for each in objects(said.stderr) if each["event"] == "job-ended")
    assert (said.returncode, ended["code"]) == (3, 3)
    assert "hold" in ended["reason"]


def test_people_get_lines_and_only_what_matters(stores: Stores, tmp_path: Path) -> None:
    store = shutil.copytree(stores.one, tmp_path / "store")
    quiet = lamella("reindex", store, "--engine", "serial")
    assert "stage-done" not in quiet.stderr
    more = lamella("reindex", store, "--engine", "serial", "--log-level", "info")
    assert "info stage-done stage=corpus" in more.stderr


def test_the_environment_says_it_for_commands_that_a_scheduler_gives(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LAMELLA_LOG", "json")
    said = lamella("status", tmp_path / "no-store")
    assert objects(said.stderr)[-1]["event"] == "failed"


@pytest.mark.parametrize(("option", "known"), [("--log", "text, json"), ("--log-level", "debug")])
def test_an_unknown_name_is_a_wrong_call_that_names_the_known_ones(option: str, known: str) -> None:
    said = lamella("status", "/store", option, "loud")
    assert said.returncode == 2
    assert known in said.stderr


def test_no_event_shows_a_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    for form in logs.FORMATS:
        logs.begin(form, None)
        events.warning("store-silent", f"key {KEY}", url="http://me:hunter22@host/x", key=KEY)
    logs.begin(None, None)
    said = capsys.readouterr().err
    assert said.count("[AWS_SECRET_ACCESS_KEY]") == 4
    assert KEY not in said
    assert "hunter22" not in said
