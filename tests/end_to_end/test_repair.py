"""One command rebuilds what is damaged, and only that; what cannot be rebuilt is said."""

import os
import shutil
from pathlib import Path

import pytest

from lamella.pipeline.errors import InputError
from lamella.pipeline.index.promotions import current_snapshot
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.upkeep.repair import Repaired, repair_store
from lamella.pipeline.upkeep.verify import verify_store
from tests.builders import reseal
from tests.end_to_end.commands import COMMANDS, Stores, shard_of
from tests.tiny import seeded

everywhere = pytest.mark.parametrize(
    "every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["sampled", "everywhere"]
)


@pytest.fixture(scope="module")
def full(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with files of every kind: two snapshots, answers, a report."""
    store = Path(shutil.copytree(stores.two, tmp_path_factory.mktemp("full") / "store"))
    for name in ("query ids", "evaluate"):
        COMMANDS[name].run(stores, store)
    return store


@pytest.fixture
def store(full: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(full, tmp_path / "store"))


def repair(store: Path) -> Repaired:
    return repair_store(LocalStore(store), SerialRunner(), threads=1)


def one(store: Path, pattern: str) -> Path:
    return sorted(store.glob(pattern))[0]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def test_a_sound_store_is_left_as_it_is(store: Path) -> None:
    assert repair(store) == Repaired((), (), (), ())


@everywhere
@pytest.mark.parametrize("kind", ["flipped", "deleted"])
def test_any_file_is_rebuilt_and_only_what_it_takes(
    kind: str, every: bool, stores: Stores, full: Path, tmp_path: Path
) -> None:
    right = COMMANDS["query ids"].run(stores, full)
    before = current_snapshot(LocalStore(full))
    files = sorted(str(path.relative_to(full)) for path in full.rglob("*") if path.is_file())
    files = [name for name in files if not name.startswith("jobs/")]
    chosen = files if every else seeded(kind).sample(files, 4)
    rebuilt = most = 0
    for name in chosen:
        store = Path(shutil.copytree(full, tmp_path / "store"))
        flip(store / name) if kind == "flipped" else (store / name).unlink()
        if verify_store(LocalStore(store)).damage:
            done = repair(store)
            assert done.after == (), name
            # The one task of the file, and no other.
            assert len(done.tasks) <= 1, (name, done.tasks)
            most, rebuilt = max(most, len(done.tasks)), rebuilt + 1
            found = current_snapshot(LocalStore(store))
            assert before is not None
            assert found is not None
            assert (found.number, found.root_digest) == (before.number, before.root_digest), name
            data = not name.endswith(".json") and not name.startswith("runs/")
            if data and (store / name).exists():
                assert (store / name).read_bytes() == (full / name).read_bytes()
            assert COMMANDS["query ids"].run(stores, store) == right, name
        shutil.rmtree(store)
    print(f"{kind}: {rebuilt} of {len(chosen)} rebuilt, {most} task at most")
    assert rebuilt


def test_bytes_that_a_snapshot_names_are_put_back_under_their_name(store: Path) -> None:
    path = one(store, "segments/*/p15/*.postings.arrow")
    right = path.read_bytes()
    flip(path)
    done = repair(store)
    assert [each.path for each in done.before] == [str(path.relative_to(store))]
    assert done.before[0].snapshots == (1, 2)
    assert done.before[0].command == f"lamella repair {store}"
    (task,) = done.tasks
    assert task.startswith("segments/")
    assert path.read_bytes() == right


def test_damage_in_many_places_is_rebuilt_at_once(stores: Stores, full: Path, store: Path) -> None:
    for pattern in ("activations/*/p15/*", "bags/*/p15/*", "totals/*/p15/*"):
        flip(one(store, pattern))
    for pattern in ("corpora/*/manifest.json", "vocabularies/*/*/rounds/00002.*.arrow"):
        one(store, pattern).unlink()
    for pattern in ("snapshots/000001.json", "promotions/000002.json"):
        flip(one(store, pattern))
    done = repair(store)
    assert done.after == ()
    assert any("names snapshot 2, the newest" in note for note in done.notes)
    assert COMMANDS["query ids"].run(stores, store) == COMMANDS["query ids"].run(stores, full)
    for number in ("000001", "000002"):
        for series in ("snapshots", "promotions"):
            assert (store / series / f"{number}.json").exists()


def test_a_forged_count_is_found_and_mended(store: Path) -> None:
    path = one(store, f"activations/*/done/{shard_of(store, '00.png').key}.json")
    reseal(path, counts={"images": 4, "indexed": 3, "refused": 0})
    (damage,) = verify_store(LocalStore(store)).damage
    assert damage.problem == "says 3 indexed + 0 refused of 4 images"
    done = repair(store)
    assert done.after == ()
    assert done.tasks == (str(path.relative_to(store)),)


@pytest.mark.parametrize("place", ["looks/*/images/*", "activations/*/head/*"])
def test_nothing_is_withdrawn_when_the_pictures_have_changed(
    stores: Stores, store: Path, place: str
) -> None:
    flip(one(store, place))
    before = sorted(store.rglob("*"))
    hidden = stores.pictures.rename(stores.pictures.parent / "hidden")
    try:
        with pytest.raises(InputError):
            repair(store)
        shutil.copytree(hidden, stores.pictures)
        (stores.pictures / "00.png").unlink()
        with pytest.raises(InputError, match=r"has changed since corpus pictures was made of it"):
            repair(store)
        shutil.rmtree(stores.pictures)
    finally:
        hidden.rename(stores.pictures)
    assert sorted(store.rglob("*")) == before
    assert repair(store).after == ()


def test_other_contents_than_recorded_are_taken_back(stores: Stores, store: Path) -> None:
    flip(one(store, f"activations/*/head/{shard_of(store, '00.png').key}.*"))
    picture = stores.pictures / "00.png"
    right, times = picture.read_bytes(), picture.stat()
    try:
        # As long and as old as it was: only its SHA-256 tells that it has changed.
        picture.write_bytes(right[:-20] + bytes(20))
        os.utime(picture, ns=(times.st_atime_ns, times.st_mtime_ns))
        done = repair(store)
        assert [each.problem for each in done.after] == ["is gone: snapshot 1 was made from it"]
        assert any("is not what was on record, so weights, pictures" in note for note in done.notes)
    finally:
        picture.write_bytes(right)
        os.utime(picture, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert repair(store).after == ()


def test_a_lost_record_of_a_job_is_written_by_the_job_itself(stores: Stores, store: Path) -> None:
    for path in store.glob("jobs/*"):
        path.unlink()
    done = repair(store)
    assert len(done.after) == 2
    assert all("give the same `lamella index` again" in note for note in done.notes)
    COMMANDS["index again"].run(stores, store)
    COMMANDS["index"].run(stores, store)
    assert verify_store(LocalStore(store)).damage == ()
