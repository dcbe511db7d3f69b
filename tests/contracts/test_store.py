"""What every store promises; commits stand on it."""

import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import pytest

from pipeline.errors import CommitConflict, MissingFile
from pipeline.store import storage
from pipeline.store.storage import LocalStore, Store, open_store


def _local(request: pytest.FixtureRequest, folder: Path) -> Store:
    return open_store(str(folder / "store"), create=True)


def _s3(request: pytest.FixtureRequest, folder: Path) -> Store:
    bucket = request.getfixturevalue("bucket")
    return open_store(f"s3://{bucket}/{secrets.token_hex(4)}", create=True)


MAKERS: dict[str, Callable[[pytest.FixtureRequest, Path], Store]] = {"local": _local, "s3": _s3}
"""Each makes an empty store; another kind of store is one more entry."""


@pytest.fixture(params=sorted(MAKERS))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MAKERS[request.param](request, tmp_path)


@pytest.fixture
def local(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"), create=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "finished"
    path.write_bytes(b"whole file")
    return path


def test_what_is_put_is_read_back(store: Store, file: Path) -> None:
    store.put("a/b/data.1f.parquet", file)
    assert store.read("a/b/data.1f.parquet") == b"whole file"
    assert store.exists("a/b/data.1f.parquet")
    assert store.size_bytes("a/b/data.1f.parquet") == 10
    assert store.local_path("a/b/data.1f.parquet").read_bytes() == b"whole file"
    assert b"".join(store.chunks("a/b/data.1f.parquet")) == b"whole file"
    assert file.exists()  # the caller's own


def test_a_second_create_is_refused_and_the_first_bytes_stay(store: Store) -> None:
    store.create("done/00001.json", b"first")
    with pytest.raises(CommitConflict, match=r"done/00001\.json"):
        store.create("done/00001.json", b"second")
    with pytest.raises(CommitConflict):
        store.create("done/00001.json", b"first")
    assert store.read("done/00001.json") == b"first"


def test_an_empty_file_is_a_file(store: Store) -> None:
    store.create("empty", b"")
    assert store.read("empty") == b""
    assert store.size_bytes("empty") == 0
    with pytest.raises(CommitConflict):
        store.create("empty", b"")


def test_of_writers_that_race_for_a_name_one_wins(store: Store) -> None:
    # SeaweedFS takes a second for some of these, so there are fewer on it.
    turns, writers = (20, 4) if store.url.startswith("/") else (4, 3)
    for turn in range(turns):
        start = threading.Barrier(writers)
        won: list[bytes] = []

        def race(
            data: bytes,
            name: str = f"done/{turn}.json",
            start: threading.Barrier = start,
            won: list[bytes] = won,
        ) -> None:
            mine = open_store(store.url)
            start.wait()
            try:
                mine.create(name, data)
            except CommitConflict:
                return
            won.append(data)

        racers = [threading.Thread(target=race, args=(b"%d" % n * 1000,)) for n in range(writers)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        assert won == [store.read(f"done/{turn}.json")]
    assert len(store.names("done")) == turns


def test_names_are_sorted_and_only_of_the_folder_itself(store: Store, file: Path) -> None:
    for name in ("b", "a/c", "a/B", "a/10", "a/9", "a/deeper/x"):
        store.put(name, file)
    assert store.names("a") == ["10", "9", "B", "c"]
    assert store.names("absent") == []
    assert store.names("a/absent") == []


def test_folders_are_sorted_and_only_those_right_below(store: Store, file: Path) -> None:
    for name in ("a/b", "a-b/c", "a/10/x", "a/9/x/y", "a/B/z"):
        store.put(name, file)
    assert store.folders("a") == ["10", "9", "B"]
    assert store.folders("absent") == []


def test_a_file_that_was_discarded_is_gone_and_may_be_discarded_again(
    store: Store, file: Path
) -> None:
    store.put("a/b", file)
    for _ in range(2):
        store.discard("a/b")
        assert not store.exists("a/b")


def test_a_walk_meets_every_file_with_its_size_and_time(store: Store, file: Path) -> None:
    began = time.time()
    names = {"b", "a/c", "a/10", "a/deeper/x"}
    for name in names:
        store.put(name, file)
    met = [each for each in store.walk() if not each.path.startswith("probe/")]
    assert {each.path for each in met} == names
    assert len(met) == 4
    assert {each.size_bytes for each in met} == {10}
    assert all(began - 2 < each.modified < time.time() + 2 for each in met)
    assert {each.path for each in store.walk("a")} == {"a/c", "a/10", "a/deeper/x"}
    assert list(store.walk("absent")) == []


def test_a_folder_of_many_files_is_listed_whole(store: Store, file: Path) -> None:
    """More than the thousand that S3 gives at once."""
    wanted = [f"{number:04d}" for number in range(1_050)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.put(f"many/{name}", file), wanted))
    assert store.names("many") == wanted
    assert sorted(each.path for each in store.walk("many")) == [f"many/{n}" for n in wanted]


@pytest.mark.parametrize("name", ["absent", "folder", "folder/absent", "folder/file/below"])
def test_what_is_not_a_file_is_missing(store: Store, file: Path, name: str) -> None:
    store.put("folder/file", file)
    assert not store.exists(name)
    for look in (store.read, store.size_bytes, store.local_path):
        with pytest.raises(MissingFile, match=name):
            look(name)


@pytest.mark.parametrize(
    "name", ["", "/etc/x", "../x", "a/../../x", "a//b", "a/", ".", "a/./b", "a\\b", "a\0b", ".a"]
)
def test_a_name_that_leads_out_of_the_store_is_refused(store: Store, file: Path, name: str) -> None:
    for use in (store.read, store.size_bytes, store.local_path, store.exists, store.names):
        with pytest.raises(ValueError, match="stored name is relative"):
            use(name)
    with pytest.raises(ValueError, match="stored name is relative"):
        store.create(name, b"")
    with pytest.raises(ValueError, match="stored name is relative"):
        store.put(name, file)


def test_a_store_is_opened_again_by_its_url(store: Store) -> None:
    store.create("x", b"1")
    assert open_store(store.url).read("x") == b"1"


class Cut(BaseException):
    """Ends a write in its middle."""


@pytest.mark.parametrize("step", ["copyfile", "fsync", "link", "replace"])
def test_a_write_cut_short_leaves_nothing_to_see(local: Store, file: Path, step: str) -> None:
    store = local
    before = set(_everything(store))

    def cut(source: object, *rest: object) -> None:
        if step == "copyfile":  # half of the file is there
            Path(str(rest[0])).write_bytes(b"whol")
        raise Cut

    where = {
        "copyfile": (storage.shutil, "copyfile"),
        "fsync": (storage, "_fsync"),
        "link": (storage.os, "link"),
        "replace": (Path, "replace"),
    }[step]
    with mock.patch.object(*where, cut):
        if step != "link":
            with pytest.raises(Cut):
                store.put("folder/put", file)
        if step in ("fsync", "link"):
            with pytest.raises(Cut):
                store.create("folder/created", b"whole record")
    assert set(_everything(store)) == before
    store.put("folder/put", file)
    store.create("folder/created", b"whole record")
    assert store.names("folder") == ["created", "put"]


def test_what_a_killed_writer_leaves_is_not_listed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with (
        mock.patch.object(Path, "unlink"),
        mock.patch.object(storage.os, "link", side_effect=Cut),
        pytest.raises(Cut),
    ):
        store.create("folder/record", b"x")
    assert len(list((tmp_path / "folder").iterdir())) == 1
    assert store.names("folder") == []
    assert not store.exists("folder/record")
    (left,) = store.walk()
    store.discard(left.path)
    assert list(store.walk()) == []


def _everything(store: Store) -> list[Path]:
    return [path for path in Path(store.url).rglob("*") if path.is_file()]
