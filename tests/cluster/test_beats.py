"""A job says that it lives, and neither fails nor waits because of that."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
from rich.console import Console

from lamella.cluster.commands import beats, observed
from lamella.cluster.commands.failures import Stopped
from lamella.cluster.commands.progress import ProgressLines
from lamella.pipeline import events, meters
from lamella.pipeline.errors import InputError, StageFailed
from lamella.pipeline.jobs import beats as stored
from lamella.pipeline.jobs.beats import Jobs, JobSeen
from lamella.pipeline.run.drive import Progress
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.storage import open_store
from lamella.schemas.beat import Beat
from tests.command_line import lamella
from tests.end_to_end.commands import Stores
from tests.s3 import READER_KEY, READER_SECRET, S3Server, environ, environment

MOST_S = 120.0
"""So long something is waited for that comes at once on a machine with nothing else to do."""


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats come so often that no test has to wait for one."""
    monkeypatch.setenv(beats.EVERY, "0.02")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    open_store(str(tmp_path / "store"), create=True)
    return LocalStore(tmp_path / "store")


@contextmanager
def job(store: LocalStore | Path | str, command: str = "index") -> Iterator[None]:
    url = store.url if isinstance(store, LocalStore) else str(store)
    with observed.job(command, url, None, None):
        yield


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + MOST_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def told(store: LocalStore) -> JobSeen:
    """Return the one job of a store."""
    (seen,) = Jobs(store).look()
    return seen


def last(store: LocalStore) -> Beat:
    """Return what the one job of a store told last; here beats may go before they are read."""
    while (beat := told(store).beat) is None:
        pass
    return beat


def beaten(store: LocalStore) -> bool:
    return bool(store.names("beats"))


@pytest.mark.usefixtures("often")
def test_a_job_tells_how_far_it_is_also_where_nothing_is_printed(store: LocalStore) -> None:
    console = Console(stderr=True)
    with job(store), ProgressLines(console, quiet=True) as lines:
        lines.stage(Progress("extract", 0, 10, 0, 1_000))
        lines.stage(Progress("extract", 3, 10, 300, 1_000))
        meters.REFUSED.add(2, reason="corrupt")
        meters.WORKERS.set(3, kind="gpu")
        meters.TASKS_RUNNING.set(3, stage="extract")
        meters.TASKS_WAITING.set(4, stage="extract")
        events.warning("task-retried", "its worker died", shard="00042")
        until(lambda: beaten(store) and last(store).refused != {})
        until(lambda: last(store).problem is not None)
        beat = last(store)
    (stage,) = beat.stages
    assert (stage.name, stage.done, stage.total, stage.unit) == ("extract", 300, 1_000, "pictures")
    assert stage.per_second is not None
    assert stage.per_second > 0
    assert (beat.refused, beat.workers) == ({"corrupt": 2}, {"gpu": 3})
    assert (beat.running, beat.waiting, beat.code) == (3, 4, None)
    assert beat.problem is not None
    assert (beat.problem.event, beat.problem.reason) == ("task-retried", "its worker died")
    assert (beat.command, beat.process, beat.every_s) == ("index", os.getpid(), 0.02)
    ended = told(store)
    assert (ended.state, ended.beat and ended.beat.code) == ("ended", 0)
    assert not [each for each in threading.enumerate() if each.name == "lamella-beats"]


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (StageFailed("p15: 3 of 9 tasks failed"), 1, "p15: 3 of 9 tasks failed"),
        (typer.Exit(3), 3, ""),
    ],
)
def test_the_last_beat_has_the_exit_code_and_why(
    store: LocalStore, error: Exception, code: int, reason: str
) -> None:
    def fail() -> None:
        with job(store):
            until(lambda: beaten(store))
            raise error

    with pytest.raises(type(error)):
        fail()
    beat = last(store)
    told_why = None if beat.problem is None else (beat.problem.event, beat.problem.reason)
    assert (beat.code, told_why) == (code, ("job-ended", reason) if reason else None)


@pytest.mark.usefixtures("often")
def test_a_job_that_was_stopped_inside_compiled_code_has_the_code_of_the_signal(
    store: LocalStore,
) -> None:
    def stop() -> None:
        with job(store):
            until(lambda: beaten(store))
            raise SystemError("returned a result with an exception set") from Stopped(15)

    with pytest.raises(SystemError):
        stop()
    beat = last(store)
    assert beat.code == 143
    assert beat.problem is not None
    assert "stopped by SIGTERM" in beat.problem.reason


def test_a_short_job_writes_nothing(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(beats.EVERY)
    with job(store):
        pass
    assert store.folders("") == ["probe"]


@pytest.mark.parametrize("said", ["soon", "-1", "nan", "1e9"])
def test_seconds_that_are_none_are_a_wrong_call(
    store: LocalStore, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(beats.EVERY, said)
    with (
        pytest.raises(InputError, match=f"LAMELLA_BEAT_S is the seconds .* got '{said}'"),
        job(store),
    ):
        pass


@pytest.mark.usefixtures("often")
def test_a_store_that_is_still_to_be_made_gets_its_first_beat_then(tmp_path: Path) -> None:
    folder, looked = tmp_path / "store", threading.Event()
    opened = beats.Beating._store

    def look(self: beats.Beating) -> object:
        found = opened(self)
        looked.set()
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beats.Beating, "_store", look)
        with job(folder):
            assert looked.wait(MOST_S)
            assert not folder.exists()
            store = open_store(str(folder), create=True)
            assert isinstance(store, LocalStore)
            until(lambda: beaten(store))
    assert last(store).code == 0
    assert events.last_problem is None


@pytest.mark.usefixtures("often")
def test_a_write_that_fails_is_told_once_and_tried_again(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries, plain, failing = [], stored.tell_beat, [True]

    def tell(store: LocalStore, beat: Beat) -> None:
        tries.append(beat.number)
        if failing:
            raise OSError(28, "No space left on device")
        plain(store, beat)

    monkeypatch.setattr(stored, "tell_beat", tell)
    monkeypatch.setattr(events.LOGGER, "propagate", True)
    with job(store):
        until(lambda: len(tries) > 3)
        failing.clear()
        until(lambda: beaten(store))
    said = [each for each in caplog.records if getattr(each, "event", "") == "beat-not-written"]
    assert [each.levelname for each in said] == ["WARNING"]
    assert "No space left on device: the job goes on" in said[0].getMessage()
    assert last(store).code == 0


@pytest.mark.usefixtures("often")
def test_a_store_that_hangs_does_not_hold_the_end_of_the_job(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, go_on = threading.Event(), threading.Event()

    def tell(store: LocalStore, beat: Beat) -> None:
        hangs.set()
        go_on.wait(MOST_S)

    monkeypatch.setattr(stored, "tell_beat", tell)
    monkeypatch.setattr(beats, "LEAVE_S", 0.01)
    with job(store):
        assert hangs.wait(MOST_S)
    (thread,) = [each for each in threading.enumerate() if each.name == "lamella-beats"]
    go_on.set()
    thread.join(MOST_S)
    assert not thread.is_alive()


@pytest.mark.usefixtures("often")
def test_a_query_writes_beats_only_where_it_keeps_its_answers(
    stores: Stores, tmp_path: Path
) -> None:
    store = LocalStore(Path(shutil.copytree(stores.one, tmp_path / "store")))
    asked = ("query", store.root, "--names", "00.png", "--engine", "serial")
    assert lamella(*asked).returncode == 0
    assert not beaten(store)
    assert lamella(*asked, "--into", "kept").returncode == 0
    assert (last(store).command, last(store).code) == ("query", 0)


def test_a_store_that_may_only_be_read_is_asked_without_a_word_of_beats(
    bucket: str,
    s3_server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = f"s3://{bucket}/read-only"
    open_store(url, create=True)
    monkeypatch.setenv(beats.EVERY, "0.02")
    monkeypatch.setattr(events.LOGGER, "propagate", True)
    events.LOGGER.setLevel("INFO")
    with environ(environment(s3_server.endpoint, READER_KEY, READER_SECRET)), job(url, "evaluate"):
        until(lambda: any(getattr(r, "event", "") == "beat-not-written" for r in caplog.records))
    said = [each for each in caplog.records if getattr(each, "event", "") == "beat-not-written"]
    assert [each.levelname for each in said] == ["INFO"]
    assert open_store(url).names("beats") == []


OFTEN = os.environ | {beats.EVERY: "0.2"}


def command(planted: Path, store: LocalStore, engine: str) -> list[str]:
    index = [sys.executable, "-m", "lamella", "index", planted, "--into", store.root]
    return [*map(str, index), "--engine", engine, "--workers", "1"]


def killed(planted: Path, store: LocalStore, engine: str) -> Beat:
    """Index pictures, kill that once it has told of a stage, and return what it told last."""
    running = subprocess.Popen(
        command(planted, store, engine),
        cwd="/",
        env=OFTEN,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: beaten(store) and _of_stage(store, "extract", with_workers=engine == "ray"))
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    clock = [0.0]
    jobs = Jobs(store, clock=lambda: clock[0])
    jobs.look()
    clock[0] += 3 * 0.2 + 1
    (seen,) = jobs.look()
    assert seen.state == "silent"
    assert seen.beat is not None
    assert seen.beat.process == running.pid
    return seen.beat


def _of_stage(store: LocalStore, name: str, *, with_workers: bool) -> bool:
    beat = told(store).beat
    if beat is None or (with_workers and not beat.workers):  # a worker may stand a little later
        return False
    return any(stage.name == name for stage in beat.stages)


def test_a_job_that_was_killed_is_silent_since_its_last_beat(planted: Path, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    beat = killed(planted, store, "serial")
    assert (beat.command, beat.code) == ("index", None)
    assert "it died, or its machine is cut off; give the same command again" in later(store)


@pytest.mark.slow
@pytest.mark.ray
def test_the_same_command_goes_on_and_is_told_beside_the_job_that_died(
    planted: Path, tmp_path: Path
) -> None:
    store = LocalStore(tmp_path / "store")
    beat = killed(planted, store, "ray")
    assert beat.workers == {"cpu": 1}
    later(store)
    again = subprocess.run(
        command(planted, store, "ray"), cwd="/", env=OFTEN, capture_output=True, check=True
    )
    assert b"snapshot 1: 48 pictures indexed" in again.stdout
    died, ended = lamella("status", store.root).stdout.splitlines()[:2]
    assert "and the same command was given again since" in died
    assert " ended " in ended


def later(store: LocalStore) -> str:
    """Return the status of a store ten minutes later: its beats are set back by so much."""
    for path in (store.root / "beats").iterdir():
        at = path.stat().st_mtime - 600
        os.utime(path, (at, at))
    said = lamella("status", store.root)
    assert said.returncode == 0
    return said.stdout
