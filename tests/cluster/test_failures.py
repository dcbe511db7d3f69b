"""How commands fail: the same rule for all of them, a line for a person, JSON for a script."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import typer

from lamella.cluster import signals
from lamella.cluster.commands import failures
from lamella.cluster.commands.cli import app
from lamella.cluster.ray import lifeline, starts
from lamella.pipeline import errors
from lamella.pipeline.errors import EngineLost, InputError, LamellaError, NotPromoted
from lamella.pipeline.jobs import status as status_job
from tests.command_line import Said, complaint, lamella


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command with its path."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


SPEAKING = {
    path: command
    for path, command in commands(typer.main.get_command(app))
    if any("--json" in parameter.opts for parameter in command.params)
}
"""The commands that have --json."""


def test_most_commands_speak_json() -> None:
    assert {("query",), ("index",), ("status",), ("vocabulary", "show")} <= set(SPEAKING)
    assert len(SPEAKING) >= 18


def error_of(said: Said) -> dict[str, Any]:
    """Return the error in the one JSON value of a failed command, whose line says the same."""
    value = json.loads(said.stdout)
    error: dict[str, Any] = value["error"]
    assert sorted(error) == ["code", "kind", "message"]
    assert error["code"] == said.returncode
    assert "\n" not in error["message"]
    assert complaint(said, said.returncode) == f"lamella: {error['message']}"
    return error


@pytest.mark.parametrize("path", SPEAKING, ids=" ".join)
def test_a_wrong_call_is_told_in_json(path: tuple[str, ...]) -> None:
    error = error_of(lamella(*path, "--no-such-option", "--json"))
    assert (error["code"], error["kind"]) == (2, "WrongCall")
    assert "--no-such-option" in error["message"]


def failing(path: tuple[str, ...], nowhere: Path) -> list[str]:
    """Return a call of a command that it understands and cannot do."""
    given = list(path)
    for parameter in SPEAKING[path].params:
        if parameter.param_type_name == "argument" and (parameter.required or path == ("demo",)):
            given.append(str(nowhere))
        elif parameter.required:
            given += [parameter.opts[0], "groups" if parameter.name == "protocol" else str(nowhere)]
    has = {option for parameter in SPEAKING[path].params for option in parameter.opts}
    if path == ("query",):
        given += ["--ids", "1"]
    if "--engine" in has:
        given += ["--engine", "none"]
    if path == ("doctor",):
        given += ["--store", str(nowhere)]
    if path == ("bench", "extract"):
        given += ["--weights", str(nowhere)]
    if path == ("bench", "search"):
        given += ["--folder", str(nowhere)]
    return given


@pytest.mark.parametrize("path", SPEAKING, ids=" ".join)
def test_what_cannot_be_done_is_told_in_json(path: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    call = failing(path, tmp_path / "file/nowhere")
    error = error_of(lamella(*call, "--json"))
    assert error["kind"] in {*dir(errors), "WrongCall", "NotADirectoryError"}
    plain = lamella(*call)
    assert plain.returncode == error["code"]
    assert plain.stdout == "" or path == ("doctor",)  # its table says what is broken


def raising(error: BaseException) -> Any:
    return mock.patch.object(status_job, "store_status", side_effect=error)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LamellaError("failed"), 1),
        (InputError("cannot be used"), 2),
        (NotPromoted("stays", 2), 3),
        (OSError("disk"), 1),
        (errors.StoreError("full"), 1),
        (errors.CorruptFile("damaged"), 4),
        (errors.NoAccess("no right"), 4),
        (errors.LoginFailed("expired"), 4),
        (errors.SourceGone("not mounted"), 4),
        (errors.StoreUnavailable("away"), 75),
    ],
)
def test_the_kind_of_an_error_decides_the_exit_code(
    error: Exception, code: int, stores: Any
) -> None:
    with raising(error):
        found = error_of(lamella("status", stores.one, "--json"))
    assert found == {"code": code, "kind": type(error).__name__, "message": str(error)}


@pytest.mark.parametrize(
    ("kinds", "code"),
    [
        ((), 1),
        (("StoreUnavailable",), 75),
        (("StoreUnavailable", "CommitUnknown"), 75),
        (("LoginFailed",), 4),
        (("StoreUnavailable", "CorruptFile"), 4),  # later alone does not help
        (("StoreUnavailable", ""), 1),  # nor here
        (("InputError",), 1),
    ],
)
def test_a_stage_fails_with_the_code_of_its_tasks(kinds: tuple[str, ...], code: int) -> None:
    assert failures.code_of(errors.StageFailed("tasks failed", kinds)) == code


def test_a_commit_is_unknown_for_later_or_for_want_of_rights() -> None:
    unknown = errors.CommitUnknown("unknown")
    unknown.__cause__ = errors.StoreUnavailable("away")
    assert (failures.code_of(unknown), errors.kind_of(unknown)) == (75, "CommitUnknown")
    unknown.__cause__ = errors.LoginFailed("expired")
    assert (failures.code_of(unknown), errors.kind_of(unknown)) == (4, "LoginFailed")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (starts.NoRoom("full", "later"), 75),
        (starts.NoWorkers("none starts", "mend it"), 1),
        (starts.ClusterAway("no answer"), 75),
        (starts.NotStarted("no folder", "name one"), 1),
        (EngineLost("killed"), 75),
    ],
)
def test_ray_that_is_away_or_full_is_for_later(error: Exception, code: int) -> None:
    assert failures.code_of(error) == code


def test_a_fault_of_ours_is_json_on_one_stream_and_a_traceback_on_the_other(stores: Any) -> None:
    with raising(RuntimeError("ours")):
        said = lamella("status", stores.one, "--json")
    assert json.loads(said.stdout)["error"] == {
        "code": 1,
        "kind": "RuntimeError",
        "message": "ours",
    }
    assert "Traceback" in said.stderr


def test_a_stopped_command_says_so_in_json_too(stores: Any) -> None:
    def stop(store: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    try:
        with mock.patch.object(status_job, "store_status", side_effect=stop):
            said = lamella("status", stores.one, "--json")
    finally:
        signal.signal(signal.SIGINT, before)
    error = json.loads(said.stdout)["error"]
    assert (said.returncode, error["code"], error["kind"]) == (130, 130, "Stopped")
    assert error["message"] == said.stderr.strip()
    assert "the same command continues" in error["message"]


def test_a_lost_ray_is_told_in_json_by_whichever_thread_ends_the_command(
    stores: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifeline, "last_words", None)
    monkeypatch.setattr(lifeline, "_leaving", mock.Mock())
    monkeypatch.setattr(lifeline, "_said", threading.Event())
    ended = mock.patch.object(os, "_exit", side_effect=SystemExit)
    with raising(EngineLost("lost")), ended as exit_code:
        said = lamella("status", stores.one, "--json")
    assert exit_code.call_args.args == (75,)
    assert json.loads(said.stdout)["error"] == {"code": 75, "kind": "EngineLost", "message": "lost"}
    assert said.stderr.startswith("lamella: lost")


def test_json_is_wanted_where_it_is_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, wanted in (
        (["status", "s", "--json"], True),
        (["status", "s"], False),
        (["query", "s", "--", "--json"], False),
    ):
        monkeypatch.setattr("sys.argv", ["lamella", *given])
        assert signals.json_wanted() is wanted


def test_the_help_says_what_exit_codes_mean() -> None:
    said = " ".join(lamella("--help").stdout.split())
    for code in ("0 done", "2 what was given cannot be used", "130 stopped"):
        assert code in said
