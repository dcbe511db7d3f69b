"""One run, the same files: whatever serves its segments, and wherever it was stopped before."""

import shutil
from pathlib import Path

import pytest

from lamella.cluster.commands.query import Queries
from lamella.cluster.ray.engine import Engine
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.upkeep.repair import repair_store
from lamella.pipeline.upkeep.verify import verify_store
from lamella.schemas.files import DoneRecord
from lamella.schemas.rankings import QueryRun
from tests.builders import Killed, counted_creates
from tests.end_to_end.commands import ENGINE, Stores, query_store
from tests.tiny import tiny_job

JOB = {"search__k": 4, "search__batch_queries": 2}


def ask(stores: Stores, store: Path, engine: Engine, what: str) -> QueryRun:
    asked = str(stores.pictures) if what == "pictures" else what
    queries = Queries(asked, into=what)
    return query_store(engine, str(store), tiny_job(**JOB), queries, quiet=True).run


def contents(store: Path, run: QueryRun) -> list[object]:
    """Return what a run holds, without the names of attempts: SHA-256, sizes and counts."""
    folder = store / "runs" / run.run
    records = [
        DoneRecord.from_json(path.read_bytes()).content()
        for path in sorted(folder.glob("rankings/done/*.json"))
    ]
    said = run.model_dump(mode="json", exclude={"rankings", "refusals"})
    return [said, *records, *(file.content() for file in (*run.rankings, *run.refusals))]


@pytest.fixture(scope="module")
def expected(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    """What runs hold that one process made at a stretch."""
    store = Path(shutil.copytree(stores.one, tmp_path_factory.mktemp("whole") / "store"))
    runs = {what: ask(stores, store, ENGINE, what) for what in ("pictures", "snapshot")}
    assert [len(run.rankings) for run in runs.values()] == [3, 3]
    assert runs["pictures"].refused == 1
    return {what: contents(store, run) for what, run in runs.items()}


@pytest.mark.parametrize("what", ["pictures", "snapshot"])
def test_stopped_before_any_commit_a_run_ends_in_the_same_files(
    what: str, stores: Stores, expected: dict[str, list[object]], tmp_path: Path
) -> None:
    with counted_creates() as creates:
        ask(stores, Path(shutil.copytree(stores.one, tmp_path / "whole")), ENGINE, what)
    # Three batches are answered, of pictures encoded before that, and the run's record is last.
    assert len(creates) == (7 if what == "pictures" else 4)
    assert creates[-1] == f"runs/{what}/run.json"
    for number in range(len(creates)):
        store = Path(shutil.copytree(stores.one, tmp_path / f"{number}"))
        with pytest.raises(Killed), counted_creates(die_before=number) as before:
            ask(stores, store, ENGINE, what)
        found = verify_store(LocalStore(store))
        assert found.damage == ()
        begun = [line for line in found.unfinished if "the same `lamella query`" in line]
        assert len(begun) == any("/rankings/" in name for name in before)
        with counted_creates() as after:
            run = ask(stores, store, ENGINE, what)
        assert after == creates[number:], f"stopped before {creates[number]}"
        assert contents(store, run) == expected[what], f"stopped before {creates[number]}"
        whole = verify_store(LocalStore(store))
        assert (whole.damage, whole.unfinished) == ((), ())


@pytest.mark.parametrize(
    "pattern",
    ["run.json", "rankings/*.parquet", "rankings/refusals/*.parquet", "rankings/done/00001.json"],
)
def test_a_damaged_answer_is_found_and_removed_and_the_same_query_gives_it_again(
    pattern: str, stores: Stores, expected: dict[str, list[object]], tmp_path: Path
) -> None:
    store = Path(shutil.copytree(stores.one, tmp_path / "store"))
    ask(stores, store, ENGINE, "pictures")
    path = sorted((store / "runs/pictures").glob(pattern))[0]
    path.write_bytes(path.read_bytes()[:-1])
    (damage,) = verify_store(LocalStore(store)).damage
    assert damage.path == str(path.relative_to(store))
    assert repair_store(LocalStore(store), SerialRunner(), threads=1).after == ()
    again = ask(stores, store, ENGINE, "pictures")
    assert contents(store, again) == expected["pictures"]
    assert verify_store(LocalStore(store)).damage == ()


def test_a_done_record_that_is_gone_is_missed_by_its_run(stores: Stores, tmp_path: Path) -> None:
    store = Path(shutil.copytree(stores.one, tmp_path / "store"))
    ask(stores, store, ENGINE, "snapshot")
    (store / "runs/snapshot/rankings/done/00002.json").unlink()
    (damage,) = verify_store(LocalStore(store)).damage
    assert damage.problem == "is gone: run snapshot was made from it"
