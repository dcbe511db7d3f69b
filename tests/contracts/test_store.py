"""What every store promises; commits stand on it."""

import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from lamella.pipeline.errors import CommitConflict, CorruptFile, MissingFile
from lamella.pipeline.store import local, s3_store
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store


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
def local_store(tmp_path: Path) -> Store:
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


def test_what_is_replaced_is_there_whole_before_and_after(store: Store) -> None:
    store.replace("done/00001.json", b"first")
    store.replace("done/00001.json", b"second, and longer")
    assert store.read("done/00001.json") == b"second, and longer"
    with pytest.raises(CommitConflict):
        store.create("done/00001.json", b"third")
    assert store.names("done") == ["00001.json"]


def test_the_folders_of_a_store_itself_are_listed(store: Store, file: Path) -> None:
    for name in ("b/x", "a/y/z", "top"):
        store.put(name, file)
    assert store.folders("") == ["a", "b", "probe"]
    assert store.names("") == ["top"]


def test_what_is_too_large_for_a_record_is_not_read(store: Store, file: Path) -> None:
    store.put("done/00001.json", file)
    for module in (local, s3_store):
        with mock.patch.object(module, "MOST_READ_BYTES", 9):
            if store.url.startswith("s3://") is (module is s3_store):
                with pytest.raises(CorruptFile, match="has 10 bytes, no record or page has more"):
                    store.read("done/00001.json")
    assert store.read("done/00001.json") == b"whole file"


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


@pytest.mark.parametrize("name", ["absent", "folder/absent", "absent/file"])
def test_what_is_not_there_is_missing(store: Store, file: Path, name: str) -> None:
    store.put("folder/file", file)
    assert not store.exists(name)
    for look in (store.read, store.size_bytes, store.local_path):
        with pytest.raises(MissingFile, match=name):
            look(name)


@pytest.mark.parametrize(
    "name", ["", "/etc/x", "../x", "a/../../x", "a//b", "a/", ".", "a/./b", "a\\b", "a\0b", ".a"]
)
def test_a_name_that_leads_out_of_the_store_is_refused(store: Store, file: Path, name: str) -> None:
    for use in (store.read, store.size_bytes, store.local_path, store.exists, store.discard):
        with pytest.raises(ValueError, match="stored name is relative"):
            use(name)
    for look in (store.names, store.folders, lambda prefix: list(store.walk(prefix))):
        if name:  # "" is the store itself
            with pytest.raises(ValueError, match="stored name is relative"):
                look(name)
    with pytest.raises(ValueError, match="stored name is relative"):
        store.replace(name, b"")
    with pytest.raises(ValueError, match="stored name is relative"):
        store.create(name, b"")
    with pytest.raises(ValueError, match="stored name is relative"):
        store.put(name, file)


def test_a_store_is_opened_again_by_its_url(store: Store) -> None:
    store.create("x", b"1")
    assert open_store(store.url).read("x") == b"1"


class Cut(BaseException):
    """Ends a write in its middle."""


@pytest.mark.parametrize("step", ["copyfileobj", "fsync", "link", "replace"])
def test_a_write_cut_short_leaves_nothing_to_see(local_store: Store, file: Path, step: str) -> None:
    store = local_store
    before = set(_everything(store))

    def cut(source: object, *rest: Any, **named: object) -> None:
        if step == "copyfileobj":  # half of the file is there
            rest[0].write(b"whol")
        raise Cut

    where = {
        "copyfileobj": (shutil, "copyfileobj"),
        "fsync": (local, "_fsync"),
        "link": (os, "link"),
        "replace": (os, "replace"),
    }[step]
    with mock.patch.object(*where, cut):
        if step != "link":
            with pytest.raises(Cut):
                store.put("folder/put", file)
        if step in ("fsync", "link"):
            with pytest.raises(Cut):
                store.create("folder/created", b"whole record")
        if step in ("fsync", "replace"):
            with pytest.raises(Cut):
                store.replace("folder/replaced", b"whole record")
    assert set(_everything(store)) == before
    store.put("folder/put", file)
    store.create("folder/created", b"whole record")
    assert store.names("folder") == ["created", "put"]


def test_what_a_killed_writer_leaves_is_not_listed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with (
        mock.patch.object(os, "unlink"),
        mock.patch.object(os, "link", side_effect=Cut),
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
