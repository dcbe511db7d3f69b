"""A few pictures are answered without Ray, unless it is asked for, and the same either way."""

import json
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from typer.testing import CliRunner, Result

from lamella.cluster.commands.cli import app
from lamella.cluster.commands.query import FEW, Queries, prepare_queries
from lamella.pipeline.errors import InputError
from lamella.pipeline.jobs.settings import load_job
from lamella.schemas.job import EngineSettings
from tests.conftest import Indexed


def engine_for(indexed: Indexed, queries: Queries, **said: Any) -> EngineSettings:
    job = load_job(None, {f"engine.{name}": value for name, value in said.items()})
    return prepare_queries(str(indexed.store), job, queries).engine(job.engine)


@pytest.fixture
def many(indexed: Indexed, tmp_path: Path) -> str:
    """A list of one picture more than are answered in one process."""
    pictures = [str(path) for path in indexed.source.rglob("*") if path.is_file()]
    path = tmp_path / "many.txt"
    path.write_text("\n".join((pictures * 2)[: FEW + 1]))
    return str(path)


def test_few_pictures_or_images_are_for_one_process(indexed: Indexed) -> None:
    for queries in (Queries(str(indexed.source)), Queries("snapshot"), Queries(ids="1,2")):
        found = engine_for(indexed, queries)
        assert (found.kind, found.search_on) == ("serial", "cpu")
    assert engine_for(indexed, Queries(ids="1"), search_on="gpu").search_on == "gpu"


def test_many_pictures_are_for_ray(indexed: Indexed, many: str) -> None:
    assert engine_for(indexed, Queries(many)) == EngineSettings()


@pytest.mark.parametrize("said", [{"kind": "ray"}, {"workers": 2}, {"address": "head:6379"}])
def test_who_names_an_engine_gets_it(said: dict[str, Any], indexed: Indexed) -> None:
    assert engine_for(indexed, Queries(ids="1"), **said) == EngineSettings(**said)


def test_the_cluster_of_the_environment_is_joined(
    indexed: Indexed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert engine_for(indexed, Queries(ids="1")).kind == "ray"


def test_a_wrong_call_fails_before_an_engine_is_started(indexed: Indexed) -> None:
    with pytest.raises(InputError, match="source none cannot be opened"):
        prepare_queries(str(indexed.store), load_job(None, {}), Queries("none"))


def invoked(*command: str) -> Result:
    return CliRunner().invoke(app, command, catch_exceptions=False)


def test_the_command_gives_the_same_answers_without_ray(indexed: Indexed, tmp_path: Path) -> None:
    store = shutil.copytree(indexed.store, tmp_path / "store")
    picture = sorted(path for path in indexed.source.rglob("*") if path.is_file())[0]
    command = ["query", str(store), str(picture), "-k", "3", "--json"]
    ray = mock.patch("lamella.cluster.ray.connect.connected", side_effect=AssertionError)
    with ray:
        first = json.loads(invoked(*command).stdout)
    assert [row["rank"] for row in first["rankings"]] == [1, 2, 3]
    assert first["run"]["answered"] == 1
    again = json.loads(invoked(*command, "--engine", "serial").stdout)
    assert again == first


def test_the_version_is_told() -> None:
    assert invoked("--version").stdout.startswith("lamella 0.")
