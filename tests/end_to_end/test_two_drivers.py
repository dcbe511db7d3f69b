"""Two drivers at once on one store: one snapshot of each job, whole, under one number."""

import shutil
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lamella.pipeline.errors import MissingFile, NotPromoted
from lamella.pipeline.index.promotions import current_snapshot, latest_number, read_snapshot
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import read_committed
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.upkeep.gc import collect_garbage
from lamella.pipeline.upkeep.verify import verify_store
from lamella.pipeline.vocabulary import rounds
from lamella.schemas.files import FileRef
from lamella.schemas.snapshot import IndexSnapshot
from tests.builders import copied
from tests.end_to_end.commands import Stores
from tests.tiny import tiny_index

HEAVY = ("jobs", "corpora", "looks", "activations")
"""What takes the network to make: it is made once, and every turn begins with a copy."""

turns = pytest.mark.parametrize(
    "turns", [3, pytest.param(50, marks=pytest.mark.slow)], ids="{} turns".format
)


@pytest.fixture(autouse=True)
def threads_take_turns_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


def at_once(store: Path, *drivers: Callable[[], IndexSnapshot]) -> list[IndexSnapshot]:
    """Start drivers at one moment, and return what each published.

    One whose source was listed before that of the current snapshot may be published and not
    promoted: it never takes the place of a newer one.
    """
    gate = threading.Barrier(len(drivers))

    def run(driver: Callable[[], IndexSnapshot]) -> IndexSnapshot:
        gate.wait()
        try:
            return driver()
        except NotPromoted as older:
            return read_snapshot(LocalStore(store), older.snapshot)

    with ThreadPoolExecutor(len(drivers)) as pool:
        return list(pool.map(run, drivers))


def is_whole(store: Path) -> bool:
    """Say whether nothing is damaged, or left to do but to promote what is not the newest."""
    opened = LocalStore(store)
    found = verify_store(opened)
    count = latest_number(opened, tree.SNAPSHOT)
    snapshots = [read_snapshot(opened, number) for number in range(1, count + 1)]
    current = current_snapshot(opened)
    newest = current is not None and current.listed_at == max(s.listed_at for s in snapshots)
    left = [line for line in found.unfinished if "was created and never promoted" not in line]
    return found.damage == () and not left and newest


@turns
def test_two_drivers_of_one_job_publish_one_snapshot(
    turns: int, stores: Stores, tmp_path: Path
) -> None:
    expected = current_snapshot(LocalStore(stores.one))
    assert expected is not None
    orphans = 0
    for turn in range(turns):
        store = copied(stores.one, tmp_path / f"{turn}", *HEAVY)
        one, other = at_once(store, *[lambda: tiny_index(store, stores.pictures)] * 2)  # noqa: B023
        assert one == other
        assert (one.number, one.root_digest) == (1, expected.root_digest)
        assert latest_number(LocalStore(store), tree.SNAPSHOT) == 1
        assert is_whole(store)
        orphans += len(collect_garbage(LocalStore(store), older_than_s=-1.0, forced=True).removed)
        assert is_whole(store)
        shutil.rmtree(store)
    print(f"{turns} of {turns} turns: one snapshot, one root digest; {orphans} orphans collected")


@turns
def test_drivers_of_two_jobs_publish_one_snapshot_each(
    turns: int, stores: Stores, tmp_path: Path
) -> None:
    seen: Counter[str] = Counter()
    for turn in range(turns):
        store = copied(stores.one, tmp_path / f"{turn}", *HEAVY)
        one, other = at_once(
            store,
            lambda: tiny_index(store, stores.pictures),  # noqa: B023
            lambda: tiny_index(store, stores.pictures, fusion__preset="scaled"),  # noqa: B023
        )
        assert {one.number, other.number} == {1, 2}
        for snapshot in (one, other):
            assert read_snapshot(LocalStore(store), snapshot.number) == snapshot
        assert one.root_digest != other.root_digest
        assert current_snapshot(LocalStore(store)) in (one, other)
        assert is_whole(store)
        seen[one.weighting if one.number == 1 else other.weighting] += 1
        shutil.rmtree(store)
    print(f"{turns} of {turns} turns: two snapshots, whole; first was {dict(seen)}")


def test_a_training_whose_sums_another_run_removed_takes_its_checkpoint(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = current_snapshot(LocalStore(stores.one))
    assert expected is not None
    store = copied(stores.one, tmp_path / "store", *HEAVY)
    overtaken: list[FileRef] = []

    def late(opened: LocalStore, reference: FileRef, *how: Any) -> Any:
        # Just before this run merges its first sums, another one trains to the end.
        if not overtaken and "merge-" in reference.path:
            overtaken.append(reference)
            assert tiny_index(store, stores.pictures).number == 1
            with pytest.raises(MissingFile):
                read_committed(opened, reference, *how)
        return read_committed(opened, reference, *how)

    monkeypatch.setattr(rounds, "read_committed", late)
    found = tiny_index(store, stores.pictures)
    assert overtaken
    assert (found.number, found.root_digest) == (1, expected.root_digest)
    assert is_whole(store)
