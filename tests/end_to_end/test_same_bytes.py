"""One corpus, one root digest: whatever runs it, and wherever it was killed before."""

import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lamella.pipeline.errors import CorruptFile
from lamella.pipeline.index.promotions import current_snapshot, latest_number
from lamella.pipeline.jobs.status import store_status
from lamella.pipeline.store import tree
from lamella.pipeline.store.local import LocalStore
from lamella.schemas.files import DoneRecord
from tests.builders import Killed, copied, counted_creates, index_into, reseal
from tests.conftest import Indexed
from tests.end_to_end.commands import Stores, current
from tests.tiny import tiny_index, tiny_job, tiny_pictures

HEAVY = ("jobs", "corpora", "looks", "activations")
"""What takes the network to make, and what it stands on."""


def test_an_index_made_twice_is_not_made_again(indexed: Indexed, tmp_path: Path) -> None:
    store = copied(indexed.store, tmp_path / "store", *_folders(indexed.store))
    with counted_creates() as created:
        again = index_into(store, indexed.source)
    assert created == []
    assert again == indexed.snapshot


def test_two_threads_give_the_bytes_of_one(stores: Stores, tmp_path: Path) -> None:
    job = tiny_job()
    index_into(tmp_path / "store", stores.pictures, job=job, threads=2)
    ours = _contents(tmp_path / "store")
    assert ours == _contents(stores.one)
    assert len(ours) > 15


@pytest.mark.slow
def test_two_threads_give_the_bytes_of_one_over_more_pictures(
    indexed: Indexed, tmp_path: Path
) -> None:
    again = index_into(tmp_path / "store", indexed.source, threads=2)
    assert again.root_digest == indexed.snapshot.root_digest
    ours = _contents(tmp_path / "store")
    assert ours == _contents(indexed.store)
    assert len(ours) > 20


CELLS = {"vocabulary__assigner": "cells"}
"""With it a run over tiny pictures makes a commit of every kind, as one over many pictures does."""


SOME = ("manifest", "extract", "round", "segment", "promotion")
"""Kinds of commits before which a run is killed in the ordinary tests, beside `test_crashes.py`."""


@pytest.mark.parametrize(
    "every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some kinds", "every"]
)
def test_killed_before_any_commit_a_run_ends_in_the_same_bytes(
    every: bool, stores: Stores, tmp_path: Path
) -> None:
    with counted_creates() as all_creates:
        whole = tiny_index(tmp_path / "whole", stores.pictures, **CELLS)
    contents = _contents(tmp_path / "whole")
    assert {_kind(name) for name in all_creates} == {
        *("job", "look", "manifest", "extract"),
        *("sample", "seed", "link", "sum", "merge", "round", "health", "vocabulary"),
        *("encode", "index", "segment", "totals", "snapshot", "promotion"),
    }
    # The first of some kinds; test_crashes.py strikes every call of a run.
    kinds = {_kind(name): name for name in reversed(all_creates)}
    for name in all_creates if every else [kinds[kind] for kind in SOME]:
        number = all_creates.index(name)
        store = tmp_path / f"killed-{number}"
        with pytest.raises(Killed), counted_creates(die_before=number) as before:
            tiny_index(store, stores.pictures, **CELLS)
        assert before == all_creates[:number]
        assert current_snapshot(LocalStore(store)) is None
        with counted_creates() as after:
            found = tiny_index(store, stores.pictures, **CELLS)
        # Exactly what was not done is done, the interrupted commit first.
        assert after == all_creates[number:], f"killed before {name}"
        assert found.root_digest == whole.root_digest, f"killed before {name}"
        assert _contents(store) == contents, f"killed before {name}"
        assert latest_number(LocalStore(store), tree.SNAPSHOT) == 1
        shutil.rmtree(store)


DRIVER = """
import os, signal, sys
from pathlib import Path
from lamella.pipeline.store import local
from tests.builders import index_into
from tests.tiny import tiny_index

left, sync = int(sys.argv[3]), local._fsync

def dying(descriptor):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    sync(descriptor)

local._fsync = dying
if sys.argv[4] == "tiny":
    tiny_index(Path(sys.argv[1]), Path(sys.argv[2]))
else:
    index_into(Path(sys.argv[1]), Path(sys.argv[2]), threads=1)
"""
TINY_SYNCS, SYNCS = 170, 400
"""A run makes a few more: two for a file that is put or created, the file and its folder."""


def _kill(folder: Path, source: Path, moment: int, kind: str = "") -> None:
    """Kill a driver in the midst of a write, before its last."""
    arguments = [sys.executable, "-c", DRIVER, str(folder), str(source), str(moment), kind]
    driver = subprocess.run(arguments, cwd=Path(__file__).parents[2], check=False)
    assert driver.returncode == -signal.SIGKILL
    assert current_snapshot(LocalStore(folder)) is None


@pytest.mark.slow
def test_a_driver_killed_from_outside_loses_nothing(stores: Stores, tmp_path: Path) -> None:
    store = tmp_path / "store"
    _kill(store, stores.pictures, random.Random(0).randrange(3, TINY_SYNCS), "tiny")
    found = tiny_index(store, stores.pictures)
    assert found.root_digest == current(stores.one).root_digest


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(23))
def test_a_driver_killed_at_many_moments_loses_nothing(
    indexed: Indexed, tmp_path: Path, seed: int
) -> None:
    store = tmp_path / "store"
    _kill(store, indexed.source, random.Random(seed).randrange(3, SYNCS))
    assert index_into(store, indexed.source).root_digest == indexed.snapshot.root_digest


def test_status_tells_how_far_a_run_that_died_has_looked(stores: Stores, tmp_path: Path) -> None:
    store = Path(shutil.copytree(stores.one, tmp_path / "store"))
    more = tiny_pictures(tmp_path / "more", 8, broken=0)
    with pytest.raises(Killed), counted_creates(die_before=2) as before:  # its job, and one look
        tiny_index(store, more)
    assert [_kind(name) for name in before] == ["job", "look"]
    (account,) = (c for c in store_status(LocalStore(store))["corpora"] if c["name"] == "more")
    assert account["states"] == {"listed": 8}
    assert account["looked_at"] == 3  # a shard has so many on average


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("vocabulary__words", 3),
        ("vocabulary__seed", 1),
        ("network__batch_size", 4),
        ("fusion__t", [0.1]),
        ("fusion__preset", "scaled"),
    ],
)
def test_another_setting_gives_another_digest_beside_the_first(
    stores: Stores, tmp_path: Path, setting: str, value: object
) -> None:
    first = current_snapshot(LocalStore(stores.one))
    assert first is not None
    store = Path(shutil.copytree(stores.one, tmp_path / "store"))
    before = _contents(store)
    other = tiny_index(store, stores.pictures, **{setting: value})
    assert other.root_digest != first.root_digest
    assert other.number == 2
    assert before.items() <= _contents(store).items()
    back = tiny_index(store, stores.pictures)
    assert back.root_digest == first.root_digest


def test_a_store_of_another_job_is_refused(indexed: Indexed, tmp_path: Path) -> None:
    # Folders are named by a digest of the job, so two jobs meet only where someone renamed one.
    store = copied(indexed.store, tmp_path / "store", *HEAVY)
    path = min(store.glob("activations/*/done/*.json"))
    reseal(path, inputs="f" * 64)
    with pytest.raises(
        CorruptFile,
        match=rf"{path.name} was made from inputs f{{12}}, the folder is for \w{{12}}; ",
    ):
        index_into(store, indexed.source)
    assert not (store / "vocabularies").exists()


def _kind(name: str) -> str:
    """Return what a created file commits."""
    folder, *rest = name.split("/")
    match folder:
        case "vocabularies":
            if rest[-1] in ("vocabulary.json", "seed.json", "health.json"):
                return rest[-1].removesuffix(".json")
            if "rounds" in rest:
                return rest[-1].partition("-")[0]  # link, sum or merge
            return "sample" if "sample" in rest else "round"
        case "segments":
            return "segment" if "shards" in rest else "index"
    return {
        "jobs": "job",
        "looks": "look",
        "corpora": "manifest",
        "activations": "extract",
        "bags": "encode",
        "totals": "totals",
        "snapshots": "snapshot",
        "promotions": "promotion",
    }[folder]


def _folders(store: Path) -> list[str]:
    return [path.name for path in store.iterdir() if path.is_dir()]


def _contents(store: Path) -> dict[str, object]:
    """Return what every done record of a store says it made, whichever attempt made it."""
    return {
        str(path.relative_to(store)): DoneRecord.from_json(path.read_bytes()).content()
        for path in sorted(store.rglob("done/*.json"))
    }
