"""Processes as `/proc` shows them."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.processes import Process, children, kill_writers, killed_after, with_argument

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def wait_until_ended(process: Process) -> str:
    deadline = time.monotonic() + 30
    while (how := process.how_it_ended()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return how


@pytest.fixture
def sleeper() -> Iterator[tuple[subprocess.Popen[bytes], Process]]:
    """A process that sleeps, and how it is seen."""
    with subprocess.Popen(["sleep", "60"]) as started:
        yield started, found(started)
        started.kill()


def found(started: subprocess.Popen[bytes]) -> Process:
    (process,) = (each for each in children() if each.id == started.pid)
    return process


def test_a_living_child_is_seen_by_its_name(
    sleeper: tuple[subprocess.Popen[bytes], Process],
) -> None:
    started, process = sleeper
    assert found(started).name == "sleep"
    assert process.how_it_ended() is None
    assert not process.is_stopped


def test_a_child_that_was_killed_is_told_by_its_signal(
    sleeper: tuple[subprocess.Popen[bytes], Process],
) -> None:
    started, process = sleeper
    started.send_signal(signal.SIGKILL)
    assert wait_until_ended(process) == "was ended by SIGKILL"
    started.wait()
    assert process.how_it_ended() == "has ended"  # its parent was told, so it is gone


def test_a_child_that_has_ended_is_told_by_its_exit_code() -> None:
    with subprocess.Popen(["sh", "-c", "read line; exit 3"], stdin=subprocess.PIPE) as started:
        process = found(started)
        assert started.stdin is not None
        started.stdin.close()
        assert wait_until_ended(process) == "has ended with exit code 3"


def test_a_stopped_child_is_seen(sleeper: tuple[subprocess.Popen[bytes], Process]) -> None:
    started, process = sleeper
    started.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 30
    while not process.is_stopped:
        assert time.monotonic() < deadline
    assert process.how_it_ended() is None


def test_a_later_process_of_the_same_id_is_another_one(
    sleeper: tuple[subprocess.Popen[bytes], Process],
) -> None:
    _, process = sleeper
    assert Process(process.id, process.name, "1").how_it_ended() == "has ended"


def test_a_process_is_found_by_an_argument() -> None:
    with subprocess.Popen(["sleep", "60.25"]) as started:
        assert [each.id for each in with_argument("60.25")] == [started.pid]
        assert with_argument("60.2") == []
        started.kill()


def test_who_writes_into_a_folder_is_ended_and_who_reads_there_is_not(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    log = tmp_path / "mine" / "log"
    with (
        log.open("w") as written,
        subprocess.Popen(["sleep", "60"], stdout=written) as writer,
        log.open() as read,
        subprocess.Popen(["sleep", "60"], stdin=read) as reader,
        (tmp_path / "mine too").open("w") as other,
        subprocess.Popen(["sleep", "60"], stdout=other) as beside,
    ):
        seen = found(reader), found(beside)
        kill_writers(tmp_path / "mine")  # this process writes there too, and goes on
        assert writer.wait() == -signal.SIGKILL
        assert [each.how_it_ended() for each in seen] == [None, None]
        reader.kill()
        beside.kill()


def test_who_writes_is_ended_in_time_though_this_process_can_do_nothing(tmp_path: Path) -> None:
    with (
        (tmp_path / "log").open("w") as written,
        subprocess.Popen(["sleep", "60"], stdout=written) as writer,
    ):
        with killed_after(30.0, tmp_path):
            pass
        assert found(writer).how_it_ended() is None
        with killed_after(0.1, tmp_path):
            ctypes.PyDLL(None).sleep(3)  # called this way, C keeps the interpreter's lock
        assert writer.wait(10) == -signal.SIGKILL


def test_a_name_may_hold_brackets_and_spaces(tmp_path: Path) -> None:
    program = tmp_path / "a) Z 1 (b"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as started:
        assert found(started).name == "a) Z 1 (b"
        assert found(started).how_it_ended() is None
        started.kill()
    assert os.getpid() not in [each.id for each in children()]
