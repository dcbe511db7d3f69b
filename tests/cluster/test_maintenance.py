"""The commands that care for a store, as a person gives them; bad stores are one line."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from lamella.cluster.commands.maintenance import register
from lamella.pipeline.errors import InputError, LamellaError
from lamella.pipeline.jobs.status import store_status
from lamella.pipeline.store.local import LocalStore
from lamella.schemas.base import FORMAT_VERSION
from tests.builders import reseal
from tests.end_to_end.commands import COMMANDS, Stores


@pytest.fixture
def store(stores: Stores, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stores.one, tmp_path / "store"))


def call(*arguments: object, code: int = 0) -> str:
    """Give a command in this process, and return what it prints; errors are raised."""
    app = typer.Typer()
    register(app)
    found = CliRunner().invoke(app, [str(each) for each in arguments])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == code, found.output
    return found.stdout


def as_json(*arguments: object, code: int = 0) -> Any:
    return json.loads(call(*arguments, "--json", code=code))


def test_a_store_is_verified_repaired_and_sound_again(store: Path) -> None:
    assert "0 damaged" in call("verify", store)
    (path,) = store.glob("totals/*/p15/*.arrow")
    path.write_bytes(path.read_bytes()[:-1])
    found = as_json("verify", store, code=4)
    (damage,) = found["damaged"]
    assert damage["path"] == str(path.relative_to(store))
    assert damage["problem"] == "has 585 bytes, 586 in its record"
    assert (damage["snapshots"], damage["command"]) == ([1], f"lamella repair {store}")
    said = call("verify", store, code=4)
    assert "snapshot 1 answers from it" in said
    assert f"to rebuild what is damaged, and only that: lamella repair {store}" in said
    assert "damaged: 1; tasks run again: 1; still damaged: 0" in call(
        "repair", store, "--engine", "serial"
    )
    # What the first attempt wrote beside the damaged file is loose, or known to the snapshot.
    assert as_json("verify", store)["damaged"] == []


def test_gc_says_what_it_would_do_before_it_does_it(store: Path) -> None:
    loose = store / "bags/p15-000000000000/p15/00000.aaaaaaaaaaaa.arrow"
    loose.parent.mkdir(parents=True)
    loose.write_bytes(b"lost")
    assert "would be removed: 0 files, 0 B; left, as younger than 24h: 1 file" in call(
        "gc", store, "--dry-run"
    )
    os.utime(loose, (0, 0))
    assert "00000.aaaaaaaaaaaa.arrow 4 B" in call("gc", store, "--dry-run")
    assert loose.exists()
    assert as_json("gc", store)["removed"] == ["bags/p15-000000000000/p15/00000.aaaaaaaaaaaa.arrow"]
    assert not loose.exists()
    with pytest.raises(InputError, match=r"s, m, h or d, such as 24h; got 'old'"):
        call("gc", store, "--older-than", "old")


def test_gc_says_what_intermediate_files_cost_to_make_again(store: Path) -> None:
    said = call("gc", store, "--intermediate")
    assert "freed: 0 files, 0 B; " in said
    now = ("--older-than", "0s", "--force")
    said = call("gc", store, "--intermediate", "--dry-run", *now)
    assert "would be freed: 0 files" not in said
    assert "would be freed: " in said
    assert "new words would send 5 pictures through the network again" in said
    assert as_json("gc", store, *now).keys() == {"dry_run", "removed", "size_bytes", "too_young"}
    found = as_json("gc", store, "--intermediate", *now)
    assert found["pictures_without_descriptors"] == 5
    assert found["freed_bytes"] > 0
    assert not any((store / path).exists() for path in found["freed"])
    assert as_json("verify", store)["damaged"] == []


def test_retry_says_how_many_were_tried_and_what_for(store: Path) -> None:
    assert "0 pictures tried again" in call("retry", store, "--engine", "serial")
    with pytest.raises(InputError, match="helps no picture that is 'truncated': give some of"):
        call("retry", store, "--state", "truncated")


def newer(store: Path) -> str:
    reseal(store / "snapshots/000001.json", format_version=FORMAT_VERSION + 1)
    reseal(store / "promotions/000001.json", format_version=FORMAT_VERSION + 1)
    newer, ours = FORMAT_VERSION + 1, FORMAT_VERSION
    return rf"000001\.json: it is in format version {newer}, this Lamella reads up to {ours}: use"


def by_hand(store: Path) -> str:
    (path,) = store.glob("corpora/*/manifest.json")
    path.write_bytes(path.read_bytes().replace(b'"images":6', b'"images":7'))
    for number in store.glob("*/000001.json"):
        number.unlink()
    return r"manifest\.json was changed since .*its seal says .* `lamella verify .* names the comm"


def gone(store: Path) -> str:
    for path in [*store.glob("activations/*/p15/*"), *store.glob("bags/*/done/*")]:
        path.unlink()
    for number in store.glob("*/000001.json"):
        number.unlink()
    return r"parquet is not in .*, and a record names it: `lamella verify .* names the command"


@pytest.mark.parametrize("harm", [newer, by_hand, gone])
def test_a_bad_store_is_one_line_that_says_what_to_do(
    harm: Any, stores: Stores, store: Path
) -> None:
    message = harm(store)
    before = {path: path.read_bytes() for path in store.rglob("*.json")}
    with pytest.raises(LamellaError, match=message) as caught:
        COMMANDS["index"].run(stores, store)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in store.rglob("*.json")} == before
    assert as_json("verify", store, code=4)["damaged"]


def test_a_newer_store_is_left_alone_by_what_removes_and_rebuilds(store: Path) -> None:
    newer(store)
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    with pytest.raises(LamellaError, match=f"format version {FORMAT_VERSION + 1}"):
        call("gc", store, "--older-than", "0s", "--force")
    with pytest.raises(LamellaError, match=f"format version {FORMAT_VERSION + 1}"):
        call("repair", store, "--engine", "serial")
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == before


def test_status_of_a_store_without_jobs_says_so(tmp_path: Path) -> None:
    assert store_status(LocalStore(tmp_path))["corpora"] == []
