"""Old snapshots go with what only they had; the others stay whole, and answer as before."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from lamella.pipeline.errors import InputError
from lamella.pipeline.index.expired import snapshot_numbers
from lamella.pipeline.index.promotions import (
    current_snapshot,
    latest_number,
    promote,
    read_snapshot,
    release,
)
from lamella.pipeline.index.tags import read_tags, remove_tag, tag_snapshot
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.store import tree
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.upkeep import gc
from lamella.pipeline.upkeep.expire import expire_one, expire_snapshots, protected
from lamella.pipeline.upkeep.gc import collect_garbage
from lamella.pipeline.upkeep.repair import repair_store
from lamella.pipeline.upkeep.verify import verify_store
from lamella.schemas.snapshot import IndexSnapshot
from tests.builders import Killed, counted_creates
from tests.command_line import complaint, lamella
from tests.pipeline.upkeep.nights import OPEN, age, answers, contents, grow, index_nights, settle
from tests.tiny import nothing_reaches_the_disk, seeded, tiny_index, tiny_pictures

NIGHTS = 5


@dataclass(frozen=True)
class Nights:
    """A folder with a store of five nights, and the snapshot of each night."""

    folder: Path
    snapshots: list[IndexSnapshot]


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Nights:
    folder = tmp_path_factory.mktemp("nights")
    with nothing_reaches_the_disk():
        return Nights(folder, index_nights(folder, NIGHTS))


@pytest.fixture(params=[1, gc.AT_ONCE])
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """After how many removals gc looks for new roots; its own removals are none."""
    monkeypatch.setattr(gc, "AT_ONCE", request.param)


@pytest.fixture
def store(nights: Nights, tmp_path: Path) -> LocalStore:
    return LocalStore(Path(shutil.copytree(nights.folder / "store", tmp_path / "store")))


def collect(store: LocalStore) -> None:
    collect_garbage(store, older_than_s=-1.0, forced=True)


def records(store: Path) -> set[str]:
    """Return the paths of all records but those whose names say where or when they were made."""
    others = ("jobs", "corpora", "gates", "snapshots", "promotions", "expired", "tags")
    paths = {path.relative_to(store) for path in store.rglob("*.json")}
    named = {path for path in paths if path.parts[0] not in others and "rounds" not in path.parts}
    assert len([path for path in paths if path.parts[0] == "corpora"]) == 3
    assert len([path for path in paths if path.parts[0] == "jobs"]) == 3
    return {str(path) for path in named}


@pytest.mark.usefixtures("at_once")
def test_after_expire_and_gc_survivors_answer_alike_and_nothing_else_remains(
    nights: Nights, store: LocalStore, tmp_path: Path
) -> None:
    tag_snapshot(store, "first", 1)
    before = {number: answers(store.root, number) for number in (1, 4, 5)}
    found = expire_snapshots(store, keep_last=2, keep_days=0)
    assert found.expired == (2, 3)
    assert found.kept == {1: "has the tag first", 4: "among the last", 5: "among the last"}
    collect(store)
    assert verify_store(store).damage == ()
    assert verify_store(store).orphans == ()
    assert {number: answers(store.root, number) for number in before} == before
    with nothing_reaches_the_disk():
        alone = tmp_path / "alone"
        for number in (0, 3, 4):
            tiny_index(alone, nights.folder / f"night-{number}", **OPEN)
    assert [s.root_digest for s in map(read_snapshot, [LocalStore(alone)] * 3, (1, 2, 3))] == [
        nights.snapshots[number].root_digest for number in (0, 3, 4)
    ]
    assert contents(store.root) == contents(alone)
    assert records(store.root) == records(alone)
    collect(store)  # a second time there is nothing left to do
    assert collect_garbage(store, older_than_s=-1.0, forced=True).removed == ()


@pytest.mark.parametrize(
    "seed", ["one", *(pytest.param(seed, marks=pytest.mark.slow) for seed in ("two", "three"))]
)
def test_whatever_happens_survivors_answer_alike_and_the_rest_goes(
    tmp_path: Path, seed: str
) -> None:
    chance, store = seeded(seed), LocalStore(tmp_path / "store")
    pictures = tiny_pictures(tmp_path / "pictures", 9, broken=0)
    settle(pictures)
    made: dict[int, str] = {}
    with nothing_reaches_the_disk():
        for night in range(4):
            if night:
                grow(pictures, night)
            number = tiny_index(store.root, pictures, **OPEN).number
            made[number] = answers(store.root, number)
            if chance.random() < 0.4:
                tag_snapshot(store, f"night-{night}", chance.choice(snapshot_numbers(store)))
            if chance.random() < 0.6:
                keep = chance.randint(1, 2)
                before, kept = set(snapshot_numbers(store)), set(protected(store))
                gone = expire_snapshots(store, keep_last=keep, keep_days=0).expired
                assert set(gone) == before - kept - set(sorted(before)[-keep:])
            if chance.random() < 0.7:
                collect(store)
                assert collect_garbage(store, older_than_s=-1.0, forced=True).removed == ()
            assert verify_store(store).damage == ()
            for number in snapshot_numbers(store):
                assert answers(store.root, number) == made[number]


def test_the_next_night_finds_all_that_it_may_take_over(nights: Nights, store: LocalStore) -> None:
    expire_snapshots(store, keep_last=1, keep_days=0)
    collect(store)
    with nothing_reaches_the_disk(), counted_creates() as created:
        again = tiny_index(store.root, nights.folder / "pictures", **OPEN)
    assert (again.number, again.root_digest) == (5, nights.snapshots[4].root_digest)
    assert created == []


def test_young_snapshots_and_the_last_ones_stay(store: LocalStore) -> None:
    for number, days in ((1, 40), (2, 31), (3, 29)):
        age(store.root, number, days)
    found = expire_snapshots(store, keep_last=1, keep_days=30, dry_run=True)
    assert found.expired == (1, 2)
    assert found.kept[3] == "young"
    assert snapshot_numbers(store) == [1, 2, 3, 4, 5]
    assert expire_snapshots(store, keep_last=4, keep_days=30).expired == (1,)
    assert expire_snapshots(store, keep_last=0, keep_days=0).expired == (2, 3, 4)
    assert snapshot_numbers(store) == [5]


def test_an_expired_snapshot_says_so_and_its_number_is_not_used_again(
    nights: Nights, store: LocalStore
) -> None:
    expire_one(store, 2)
    line = r"snapshot 2 expired on \d{4}-\d\d-\d\d \(asked for by its number\): see `lamella snap"
    with pytest.raises(InputError, match=line):
        read_snapshot(store, 2)
    with pytest.raises(InputError, match=line):
        promote(store, 2)
    with pytest.raises(InputError, match=line):
        expire_one(store, 2)
    with pytest.raises(InputError, match=line):
        tag_snapshot(store, "late", 2)
    assert latest_number(store, tree.SNAPSHOT) == 5
    with nothing_reaches_the_disk():
        again = tiny_index(store.root, nights.folder / "night-1", **OPEN)
    assert (again.number, again.root_digest) == (6, nights.snapshots[1].root_digest)
    assert verify_store(store).damage == ()


def test_the_highest_number_is_not_used_again_either(nights: Nights, store: LocalStore) -> None:
    promote(store, 4)
    assert protected(store) == {4: "is held"}
    release(store)
    expire_one(store, 5)
    assert latest_number(store, tree.SNAPSHOT) == 5
    with nothing_reaches_the_disk():
        again = tiny_index(store.root, nights.folder / "night-4", **OPEN)
    assert (again.number, again.root_digest) == (6, nights.snapshots[4].root_digest)


def test_what_must_stay_does_not_expire(store: LocalStore) -> None:
    tag_snapshot(store, "keep", 3)
    assert protected(store) == {3: "has the tag keep", 5: "is the current one"}
    said = complaint(lamella("expire", store.root, "--snapshot", 5))
    assert "snapshot 5 is the current one, so it does not expire: promote another one" in said
    said = complaint(lamella("expire", store.root, "--snapshot", "keep"))
    assert "snapshot 3 has the tag keep, so it does not expire: remove that first" in said
    said = complaint(lamella("expire", store.root, "--snapshot", "3", "--keep-last", 2))
    assert "give one" in said
    assert snapshot_numbers(store) == [1, 2, 3, 4, 5]
    said = lamella("expire", store.root, "--keep-last", 1, "--keep-days", 0, "--dry-run").stdout
    assert "snapshots that would expire: 1, 2, 4\n" in said
    assert "snapshot 3 stays: has the tag keep\n" in said
    found = json.loads(lamella("expire", store.root, "--json").stdout)
    assert found["expired"] == []  # the defaults: 7 snapshots, 30 days
    assert lamella("expire", store.root, "--snapshot", 1).returncode == 0
    assert snapshot_numbers(store) == [2, 3, 4, 5]


def test_a_tag_is_given_once_and_stands_for_its_snapshot(store: LocalStore) -> None:
    assert lamella("tag", store.root, "before-cleanup", 2).returncode == 0
    assert lamella("tag", store.root, "before-cleanup", 2).returncode == 0
    said = complaint(lamella("tag", store.root, "before-cleanup", 3))
    assert "tag before-cleanup names snapshot 2, not 3: remove it first" in said
    assert "there is no snapshot 99" in complaint(lamella("tag", store.root, "x", 99))
    assert "the first a letter; got '2'" in complaint(lamella("tag", store.root, "2", 2))
    assert "before-cleanup: snapshot 2" in lamella("tag", store.root).stdout
    shown = lamella("snapshots", store.root, "--json").stdout
    assert '"before-cleanup"' in shown
    assert "there is no tag y" in complaint(lamella("tag", store.root, "--remove", "y"))
    said = complaint(lamella("query", store.root, "--names", "03.png", "--snapshot", "nope"))
    assert "'nope' is no number of a snapshot and no tag" in said
    asked = ("--names", "05.png", "--snapshot", "before-cleanup", "--into", "by-tag")
    assert lamella("query", store.root, *asked, "--engine", "serial").returncode == 0
    remove_tag(store, "before-cleanup")
    assert read_tags(store) == {}


@pytest.mark.parametrize("call", ["create", "discard"])
def test_an_expire_that_dies_goes_on_where_it_was(store: LocalStore, call: str) -> None:
    done, calls = 0, getattr(LocalStore, call)

    def dying(self: LocalStore, *arguments: object) -> None:
        nonlocal done
        if done == 1:
            raise Killed(call)
        done += 1
        calls(self, *arguments)

    with mock.patch.object(LocalStore, call, dying), pytest.raises(Killed):
        expire_snapshots(store, keep_last=1, keep_days=0)
    assert not verify_store(store).damage
    expire_snapshots(store, keep_last=1, keep_days=0)
    assert snapshot_numbers(store) == [5]
    assert store.names("snapshots") == ["000005.json"]
    assert store.names("expired") == [f"00000{n}.json" for n in (1, 2, 3, 4)]
    collect(store)
    assert not verify_store(store).damage


def test_gc_removes_what_a_dead_expire_left(store: LocalStore) -> None:
    with (
        mock.patch.object(LocalStore, "discard", side_effect=Killed("discard")),
        pytest.raises(Killed),
    ):
        expire_one(store, 1)
    assert "snapshot 1 expired and its file is there" in verify_store(store).unfinished[0]
    collect_garbage(store)
    assert store.names("snapshots")[0] == "000002.json"
    assert read_snapshot(store, 2).number == 2


@pytest.mark.parametrize("die_before", [3, 12, 25])
def test_gc_leaves_a_job_that_was_stopped_all_it_has(tmp_path: Path, die_before: int) -> None:
    pictures = tiny_pictures(tmp_path / "pictures", 8)
    settle(pictures)
    store = LocalStore(tmp_path / "store")
    with nothing_reaches_the_disk():
        with counted_creates(die_before=die_before), pytest.raises(Killed):
            tiny_index(store.root, pictures)
        done = {str(p.relative_to(store.root)) for p in store.root.rglob("*.json")}
        collect(store)
        assert done == {str(p.relative_to(store.root)) for p in store.root.rglob("*.json")}
        with counted_creates() as created:
            tiny_index(store.root, pictures)
    assert not set(created) & done
    assert not verify_store(store).damage


def test_a_damaged_record_of_an_expired_snapshot_is_rebuilt(store: LocalStore) -> None:
    expire_one(store, 1)
    (store.root / "expired/000001.json").write_bytes(b"{}")
    assert verify_store(store).damage
    found = repair_store(store, SerialRunner(), threads=1)
    assert found.after == ()
    with pytest.raises(InputError, match=r"this record was damaged, and rebuilt"):
        read_snapshot(store, 1)
    assert (current := current_snapshot(store)) is not None
    assert current.number == 5
