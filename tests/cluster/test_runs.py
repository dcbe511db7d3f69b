"""`lamella runs`, and tags in the place of numbers; as a person gives them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import lamella
from lamella.cluster.commands import keeping, status, vocabulary
from lamella.cluster.commands.runs import age
from lamella.pipeline.errors import InputError
from lamella.pipeline.index.promotions import promote
from lamella.pipeline.run.drive import Progress
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.upkeep import inventory
from lamella.pipeline.upkeep.expire import expire_one
from lamella.pipeline.upkeep.runs import list_runs
from lamella.pipeline.upkeep.verify import verify_store
from tests.end_to_end.commands import COMMANDS, Stores

Call = Callable[..., str]


@pytest.fixture(scope="module")
def asked(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two snapshots with runs of each kind; the first snapshot was asked too."""
    store = Path(shutil.copytree(stores.two, tmp_path_factory.mktemp("asked") / "store"))
    for name in ("query pictures", "evaluate"):
        COMMANDS[name].run(stores, store)
    promote(LocalStore(store), 1)
    COMMANDS["query ids"].run(stores, store)
    promote(LocalStore(store), 2)
    return store


@pytest.fixture
def store(asked: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(asked, tmp_path / "store"))


def call(*arguments: object) -> str:
    """Give a command in this process, and return what it prints; errors are raised."""
    app = typer.Typer()
    status.register(app)
    keeping.register(app)
    app.add_typer(vocabulary.app, name="vocabulary")
    found = CliRunner().invoke(app, [str(each) for each in arguments])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.stdout


def listed(store: Path, *arguments: object) -> dict[str, Any]:
    runs = json.loads(call("runs", store, *arguments, "--json"))["runs"]
    return {run["kind"]: run for run in runs}


def test_runs_say_what_was_asked_of_which_snapshot_and_what_they_take(store: Path) -> None:
    named = {run["name"]: run for run in json.loads(call("runs", store, "--json"))["runs"]}
    assert len(named) == 4
    said = {(run["kind"], run["asked"], run["snapshot"]) for run in named.values()}
    assert said == {
        ("features", "features of query pictures, for further runs over them", None),
        ("queries", "6 pictures, k 3, exact", 2),
        ("queries", "5 images, k 3, exact", 1),
        ("evaluation", "groups, mAP, 5 queries", 2),
    }
    sizes = {
        name: sum(path.stat().st_size for path in (store / "runs" / name).rglob("*.*"))
        for name in named
    }
    assert {name: run["size_bytes"] for name, run in named.items()} == sizes
    expire_one(LocalStore(store), 1)
    (old,) = (run for run in list_runs(LocalStore(store)) if run.snapshot == 1)
    assert old.expired
    text = " ".join(call("runs", store).split())
    assert "1 expired" in text


def test_a_run_is_removed_and_no_other(store: Path) -> None:
    files = {file.path for file in LocalStore(store).walk()}
    name = listed(store)["evaluation"]["name"]
    with pytest.raises(InputError, match="there is no run 'nothing' in"):
        call("runs", store, "--remove", name, "--remove", "nothing")
    assert {file.path for file in LocalStore(store).walk()} == files
    assert f"run {name} was removed" in call("runs", store, "--remove", name)
    left = {file.path for file in LocalStore(store).walk()}
    assert files - left == {path for path in files if path.startswith(f"runs/{name}/")}
    assert left < files
    assert "evaluation" not in listed(store)
    assert verify_store(LocalStore(store)).damage == ()
    for run in list_runs(LocalStore(store)):
        call("runs", store, "--remove", run.name)
    assert "no runs" in call("runs", store)


def test_what_is_damaged_or_not_finished_is_listed_and_can_be_removed(store: Path) -> None:
    (report,) = store.glob("runs/*/report.json")
    report.write_bytes(report.read_bytes()[:-1])
    for path in store.glob("runs/*/run.json"):
        path.unlink()
    kinds = [run.kind for run in list_runs(LocalStore(store))]
    assert sorted(kinds) == ["damaged", "features", "unfinished", "unfinished"]
    (store / "runs" / "notes.txt").write_text("mine")
    for run in list_runs(LocalStore(store)):
        call("runs", store, "--remove", run.name)
    assert [path.name for path in store.glob("runs/**/*.*")] == ["notes.txt"]


def test_ages_are_said_in_their_largest_unit() -> None:
    assert [age(s) for s in (-2, 59, 60, 7_199, 86_400 * 3)] == ["0s", "59s", "1m", "1h", "3d"]


def test_a_tag_stands_for_the_number_wherever_a_snapshot_is_named(store: Path) -> None:
    call("tag", store, "first", 1)
    with lamella.open(store, at="first", threads=1) as index:
        assert index.snapshot.number == 1
    with pytest.raises(InputError, match="'second' is no number of a snapshot and no tag"):
        lamella.open(store, at="second")
    with pytest.raises(InputError, match="a whole number or a tag as `at`"):
        lamella.open(store, at=1.5)  # type: ignore[arg-type]
    call("tag", store, "again", "first")
    assert json.loads(call("tag", store, "--json")) == {"again": 1, "first": 1}
    asked = ("vocabulary", "compare", store, store, "--json")
    found = json.loads(call(*asked, "--snapshot-a", "first", "--snapshot-b", 2))
    assert found["snapshots"] == [1, 2]
    assert "snapshot 1 answers queries now" in call("snapshots", store, "--promote", "first")
    with pytest.raises(InputError, match="is no number of a snapshot and no tag"):
        call("snapshots", store, "--promote", "second")
    promoted = json.loads(call("snapshots", store, "--json"))
    assert [each["current"] for each in promoted] == [True, False]


def test_status_ends_with_what_the_store_takes(store: Path) -> None:
    text = " ".join(call("status", store).split())
    assert "samples and rounds of trainings" in text
    assert f"`lamella gc --intermediate {store}` would free 0 B besides" in text
    found = json.loads(call("status", store, "--json"))["bytes"]
    total = sum(file.size_bytes for file in LocalStore(store).walk())
    assert found["total"] == sum(found["kinds"].values()) == total
    assert found["intermediate_later"] > 0


def test_records_are_counted_while_they_are_read(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "SAID_EVERY", 1)
    told: list[Progress] = []
    found = inventory.take_inventory(LocalStore(store), on_progress=told.append)
    assert [each.done for each in told] == list(range(len(found.records) + 1))
    assert {each.total for each in told} == {len(found.records)}
