"""Copies on local disk: fetched once, whole or not at all, and few enough."""

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lamella.pipeline.errors import CorruptFile, StoreError
from lamella.pipeline.store.cache import DEAD_S, GRACE_S, Cache
from lamella.pipeline.store.commit import attempt, open_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store
from lamella.schemas.files import FileRef
from tests.faults import faulty
from tests.s3 import S3Server

NAMES = ["a" * 64, "b" * 64, "c" * 64]


def writes(data: bytes, calls: list[int] | None = None) -> Callable[[Path], None]:
    def fetch(path: Path) -> None:
        if calls is not None:
            calls.append(1)
        path.write_bytes(data)

    return fetch


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()} - {"lock"}


def test_a_file_is_fetched_once(tmp_path: Path) -> None:
    calls: list[int] = []
    for _ in range(3):
        path = Cache(tmp_path, 1000).get(NAMES[0], 5, writes(b"whole", calls))
        assert path.read_bytes() == b"whole"
    assert calls == [1]


def test_the_folder_is_this_user_s_alone(tmp_path: Path) -> None:
    path = Cache(tmp_path / "cache", 1000).get(NAMES[0], 5, writes(b"whole"))
    assert [stat.S_IMODE(each.stat().st_mode) for each in path.parents[:2]] == [0o700, 0o700]


def test_a_folder_that_all_can_write_is_refused(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 1000)
    cache.get(NAMES[0], 5, writes(b"whole"))
    for mode in (0o777, 0o1777):
        cache.folder.chmod(mode)
        with pytest.raises(StoreError, match=f"mode {mode:o}: run chmod o-w on it, or name"):
            cache.get(NAMES[0], 5, writes(b"whole"))


def test_a_copy_of_another_size_is_fetched_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    cache.get(NAMES[0], 5, writes(b"whole")).write_bytes(b"who")
    assert cache.get(NAMES[0], 5, writes(b"whole")).read_bytes() == b"whole"


def test_a_folder_of_other_things_loses_none_of_them(tmp_path: Path) -> None:
    theirs = ["notes.txt", "2026/photo.jpg", "ab/photo.jpg", "ab/" + "a" * 63, "ab/.hidden.tmp"]
    (tmp_path / "elsewhere").mkdir()
    theirs.append("elsewhere/" + "cd" + "a" * 62)
    for name in theirs:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"mine")
        age(tmp_path / name, 10 * DEAD_S)
    (tmp_path / "cd").symlink_to(tmp_path / "elsewhere")
    cache = Cache(tmp_path, 6)
    age(cache.get(NAMES[0], 5, writes(b"whole")), 2 * GRACE_S)
    cache.get(NAMES[1], 5, writes(b"other"))
    assert all((tmp_path / name).read_bytes() == b"mine" for name in theirs)
    assert not (tmp_path / "aa" / NAMES[0]).exists()


def test_a_fetch_cut_short_leaves_nothing(tmp_path: Path) -> None:
    class Cut(BaseException):
        pass

    def fetch(path: Path) -> None:
        path.write_bytes(b"who")
        raise Cut

    with pytest.raises(Cut):
        Cache(tmp_path, 1000).get(NAMES[0], 5, fetch)
    assert files(tmp_path) == set()


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 10)
    for name, seconds in zip(NAMES[:2], (300, 200), strict=True):
        age(cache.get(name, 5, writes(b"whole")), seconds)
    age(cache.get(NAMES[0], 5, writes(b"")), 100)  # used again, later than the other
    cache.get(NAMES[2], 5, writes(b"whole"))
    assert files(tmp_path) == {NAMES[0], NAMES[2]}


def test_what_was_just_used_stays_though_there_is_no_room(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1)
    for name in NAMES:
        cache.get(name, 5, writes(b"whole"))
    assert files(tmp_path) == set(NAMES)
    for name in NAMES:
        age(cache.get(name, 5, writes(b"")), GRACE_S + 5)
    cache.get("d" * 64, 5, writes(b"whole"))
    assert files(tmp_path) == {"d" * 64}


def test_half_written_copies_are_left_for_a_day(tmp_path: Path) -> None:
    (tmp_path / "aa").mkdir()
    old, new = ".0123456789abcdef.tmp", ".fedcba9876543210.tmp"
    for name, seconds in ((old, DEAD_S + 60), (new, GRACE_S + 60)):
        (tmp_path / "aa" / name).write_bytes(b"half")
        age(tmp_path / "aa" / name, seconds)
    Cache(tmp_path, 5).get(NAMES[0], 5, writes(b"whole"))
    assert files(tmp_path) == {new, NAMES[0]}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match=r"cannot take 5 bytes .* LAMELLA_CACHE"):
        Cache(tmp_path / "file", 10).get(NAMES[0], 5, writes(b"whole"))


def test_the_environment_names_the_folder_and_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAMELLA_CACHE", str(tmp_path))
    monkeypatch.setenv("LAMELLA_CACHE_GB", "0.5")
    cache = Cache.standard()
    assert (cache.folder, cache.limit_bytes) == (tmp_path, 500_000_000)
    monkeypatch.delenv("LAMELLA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert Cache.standard().folder == Path("/somewhere/lamella")
    monkeypatch.setenv("LAMELLA_CACHE_GB", "much")
    with pytest.raises(StoreError, match=r"number of gigabytes; got 'much'"):
        Cache.standard()


def committed(store: Store) -> FileRef:
    def fill(path: Path) -> int:
        path.write_bytes(b"0123456789")
        return 1

    with attempt(store, "stage", "stage", "key", "i" * 64) as work:
        reference = work.write("data", "stage", "bin", fill)
        work.finish()
    return reference


def test_a_committed_file_costs_two_requests_and_its_copy_one(
    s3_server: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One looks whether the file is there and as long as its record says."""
    monkeypatch.setenv("LAMELLA_CACHE", str(tmp_path / "cache"))
    with faulty(s3_server.endpoint) as proxy:
        store = open_store(f"s3://{bucket}/requests", create=True)
        reference = committed(store)
        for wanted in ({"HEAD": 1, "GET": 1}, {"HEAD": 1}):
            proxy.seen.clear()
            open_committed(store, reference)
            assert proxy.seen == wanted


@pytest.mark.parametrize("damage", [b"012345678X", b"0123", b""])
def test_a_damaged_copy_is_fetched_again(bucket: str, damage: bytes) -> None:
    store = open_store(f"s3://{bucket}/copies", create=True)
    reference = committed(store)
    copy = open_committed(store, reference)
    assert copy.name == reference.sha256
    copy.write_bytes(damage)
    assert open_committed(store, reference).read_bytes() == b"0123456789"


def test_a_damaged_file_is_told(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAMELLA_CACHE", str(tmp_path / "cache"))
    store = open_store(f"s3://{bucket}/damage", create=True)
    reference = committed(store)
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"012345678X")
    store.put(reference.path, damaged)
    with pytest.raises(CorruptFile, match="SHA-256"):
        open_committed(store, reference)
