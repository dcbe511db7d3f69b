"""What a reader of a store knows of the jobs that run on it."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from lamella.pipeline.errors import StoreError
from lamella.pipeline.jobs.beats import ENDED_S, Jobs, JobSeen, tell_beat
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.store import tree
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.upkeep.expire import expire_snapshots
from lamella.pipeline.upkeep.forget import forget_picture
from lamella.pipeline.upkeep.forgotten_check import check_forgotten
from lamella.pipeline.upkeep.gc import DAY_S, collect_garbage
from lamella.pipeline.upkeep.sizes import store_sizes
from lamella.pipeline.upkeep.verify import verify_store
from lamella.schemas.base import FORMAT_VERSION, canonical_json
from lamella.schemas.beat import Beat
from tests.end_to_end.commands import Stores
from tests.pipeline.upkeep.memory_store import MemoryStore
from tests.s3 import READER_KEY, READER_SECRET, S3Server, environ, environment
from tests.schemas.test_beat import TOLD

FIRST, SECOND = "20261130T190400Z-0123abcd", "20261130T200000Z-89abcdef"


def beat(number: int = 1, **told: Any) -> Beat:
    return Beat(**(TOLD | {"number": number} | told))


def jobs_of(store: Store, clock: list[float] | None = None) -> Jobs:
    """Return the jobs of a store, looked at by a clock that a test sets."""
    return Jobs(store) if clock is None else Jobs(store, clock=lambda: clock[0])


def states(seen: list[JobSeen]) -> list[tuple[str, str, int]]:
    return [(each.job, each.state, each.number) for each in seen]


def test_the_last_beat_tells_and_two_jobs_are_told_apart() -> None:
    store = MemoryStore()
    tell_beat(store, beat(1))
    store.now += 60
    tell_beat(store, beat(2))
    tell_beat(store, beat(1, job=SECOND, command="query"))
    assert states(Jobs(store).look()) == [(FIRST, "running", 2), (SECOND, "running", 1)]
    tell_beat(store, beat(3, code=143))
    assert states(Jobs(store).look()) == [(FIRST, "ended", 3), (SECOND, "running", 1)]


def test_a_job_leaves_its_last_beats_alone() -> None:
    store = MemoryStore()
    for number in range(1, 7):
        tell_beat(store, beat(number))
    assert sorted(store.files) == [tree.BEAT.at(job=FIRST, number=n) for n in (5, 6)]


def test_a_job_that_misses_three_beats_is_silent_since_its_last() -> None:
    store, clock = MemoryStore(), [5.0]
    tell_beat(store, beat())
    jobs = jobs_of(store, clock)
    (seen,) = jobs.look()
    assert (seen.state, seen.silent_s) == ("running", 0.0)
    clock[0] += 180.0
    assert jobs.look()[0].state == "running"
    clock[0] += 1.0
    (seen,) = jobs.look()
    assert (seen.state, seen.silent_s, seen.told) == ("silent", 181.0, 1_000_000.0)
    # It had run for 130 s by its own clock when it told that.
    assert seen.began == 1_000_000.0 - 130.0
    tell_beat(store, beat(2))
    clock[0] += 7 * 86_400.0
    assert jobs.look() == []


def test_a_later_job_of_the_same_command_is_told_beside_a_silent_one() -> None:
    store, clock = MemoryStore(), [0.0]
    tell_beat(store, beat())
    store.now += 600
    tell_beat(store, beat(1, job=SECOND, command="query"))
    assert [each.superseded for each in jobs_of(store, clock).look()] == [False, False]
    tell_beat(store, beat(1, job="20261130T201000Z-89abcdef"))
    assert [each.superseded for each in jobs_of(store, clock).look()] == [True, False, False]


def test_clocks_that_differ_do_not_make_a_job_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)
    # The clock of the job's machine is two years behind, ours half a day ahead.
    begun, told = "2024-11-30T19:04:00+00:00", "2024-11-30T19:05:00+00:00"
    tell_beat(store, beat(begun_at=begun, told_at=told))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 43_200)
    jobs = Jobs(store)
    (seen,) = jobs.look()
    assert (seen.state, jobs.own_clock) == ("running", True)
    assert seen.began == pytest.approx(seen.told - 60.0)
    assert [path.name for path in tmp_path.iterdir() if path.name != "probe"] == ["beats"]
    assert list((tmp_path / "probe").iterdir()) == []


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (beat().to_json().replace(b"host-a", b"host-b"), "was changed since it was written"),
        (b"", "was changed since it was written: it is no JSON"),
        (
            canonical_json({"format_version": FORMAT_VERSION + 1, "seal": "?"}),
            f"it is in format version {FORMAT_VERSION + 1}",
        ),
        (beat(2).to_json(), f"is the record of beats/{FIRST}.000002.json"),
    ],
    ids=["damaged", "empty", "newer", "moved"],
)
def test_a_beat_that_cannot_be_read_is_told_with_the_reason(data: bytes, why: str) -> None:
    store = MemoryStore()
    store.create(tree.BEAT.at(job=FIRST, number=1), data)
    tell_beat(store, beat(job=SECOND))
    seen = Jobs(store).look()
    assert states(seen) == [(FIRST, "unreadable", 1), (SECOND, "running", 1)]
    assert seen[0].problem.startswith(why)
    assert seen[0].plain()["unreadable"] == seen[0].problem


def test_a_beat_is_read_once_however_often_it_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, read = MemoryStore(), []
    tell_beat(store, beat(1))
    tell_beat(store, beat(2))
    plain = store.read

    def counted(path: str) -> bytes:
        read.append(path)
        return plain(path)

    monkeypatch.setattr(store, "read", counted)
    jobs = Jobs(store)
    jobs.look()
    jobs.look()
    assert read == [tree.BEAT.at(job=FIRST, number=2)]


def test_gc_takes_beats_by_their_age_alone() -> None:
    store = MemoryStore()
    tell_beat(store, beat(1, code=0))
    store.now += DAY_S
    tell_beat(store, beat(1, job=SECOND))
    store.now += 1.0
    old = tree.BEAT.at(job=FIRST, number=1)
    assert [file.path for file in collect_garbage(store).removed] == [old]
    assert list(store.files) == [tree.BEAT.at(job=SECOND, number=1)]


def test_beats_are_no_matter_for_upkeep(stores: Stores, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(stores.two, tmp_path / "store"))
    store = LocalStore(folder)
    before = verify_store(store)
    tell_beat(store, beat(problem=None))
    damaged = folder / tree.BEAT.at(job=SECOND, number=1)
    damaged.write_bytes(b"\xff")
    found = verify_store(store)
    assert (found.damage, found.unfinished, found.strangers) == ((), before.unfinished, 0)
    assert {file.path for file in found.orphans} - {file.path for file in before.orphans} == {
        tree.BEAT.at(job=FIRST, number=1),
        tree.BEAT.at(job=SECOND, number=1),
    }
    assert store_sizes(store).unknown == ""
    assert store_sizes(store).gc_later >= damaged.stat().st_size
    assert collect_garbage(store).removed == ()
    expire_snapshots(store, keep_last=1, keep_days=0)
    assert states(Jobs(store).look()) == [(FIRST, "running", 1), (SECOND, "unreadable", 1)]
    ago = time.time() - ENDED_S - 1
    os.utime(damaged, (ago, ago))
    assert [file.path for file in collect_garbage(store).removed] == [
        tree.BEAT.at(job=SECOND, number=1)
    ]


def test_forgetting_a_picture_takes_the_beats_that_may_name_it(
    stores: Stores, tmp_path: Path
) -> None:
    store = LocalStore(Path(shutil.copytree(stores.one, tmp_path / "store")))
    reason = "corrupt 02.png"
    problem = {"at": TOLD["told_at"], "level": "warning", "event": "note", "reason": reason}
    tell_beat(store, beat(problem=problem))
    assert check_forgotten(store, name="02.png")
    forget_picture(store, SerialRunner(), by="name", value="02.png", reason="asked", threads=1)
    assert check_forgotten(store, name="02.png") == []
    assert store.names("beats") == []


def test_beats_in_s3_are_told_by_the_time_of_the_server_and_read_without_the_right_to_write(
    bucket: str, s3_server: S3Server
) -> None:
    url = f"s3://{bucket}/beats"
    store = open_store(url, create=True)
    for number in range(1, 4):
        tell_beat(store, beat(number))
    jobs = Jobs(store)
    assert (states(jobs.look()), jobs.own_clock) == ([(FIRST, "running", 3)], True)
    assert store.names("probe") == ["create-only"]
    with environ(environment(s3_server.endpoint, READER_KEY, READER_SECRET)):
        reader = open_store(url)
        with pytest.raises(StoreError):
            tell_beat(reader, beat(4))
        jobs = Jobs(reader)
        assert (states(jobs.look()), jobs.own_clock) == ([(FIRST, "running", 3)], False)
