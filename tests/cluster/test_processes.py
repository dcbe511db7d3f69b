"""Processes as `/proc` shows them."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lamella.cluster.ray.processes import (
    Process,
    children,
    kill_writers,
    killed_after,
    with_argument,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@contextmanager
def started(*command: object, **settings: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Have a process inside the block, from the moment at which the kernel knows its command."""
    with subprocess.Popen([*map(str, command)], **settings) as process:
        try:
            while not Path(f"/proc/{process.pid}/cmdline").read_bytes():
                time.sleep(0.001)
            yield process
        finally:
            process.kill()


def wait_until_ended(process: Process) -> str:
    deadline = time.monotonic() + 30
    while (how := process.how_it_ended()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return how


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that sleeps."""
    with started("sleep", 60) as process:
        yield process


def found(process: subprocess.Popen[bytes]) -> Process:
    (seen,) = (each for each in children() if each.id == process.pid)
    return seen


def test_a_living_child_is_seen_by_its_name(sleeper: subprocess.Popen[bytes]) -> None:
    process = found(sleeper)
    assert process.name == "sleep"
    assert process.how_it_ended() is None
    assert not process.is_stopped


def test_a_child_that_was_killed_is_told_by_its_signal(sleeper: subprocess.Popen[bytes]) -> None:
    process = found(sleeper)
    sleeper.send_signal(signal.SIGKILL)
    assert wait_until_ended(process) == "was ended by SIGKILL"
    sleeper.wait()
    assert process.how_it_ended() == "has ended"  # its parent was told, so it is gone


def test_a_child_that_has_ended_is_told_by_its_exit_code() -> None:
    with started("sh", "-c", "read line; exit 3", stdin=subprocess.PIPE) as process:
        seen = found(process)
        assert process.stdin is not None
        process.stdin.close()
        assert wait_until_ended(seen) == "has ended with exit code 3"


def test_a_stopped_child_is_seen(sleeper: subprocess.Popen[bytes]) -> None:
    process = found(sleeper)
    sleeper.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 30
    while not process.is_stopped:
        assert time.monotonic() < deadline
    assert process.how_it_ended() is None


def test_a_later_process_of_the_same_id_is_another_one(sleeper: subprocess.Popen[bytes]) -> None:
    process = found(sleeper)
    assert Process(process.id, process.name, "1").how_it_ended() == "has ended"


def test_a_process_is_found_by_an_argument() -> None:
    with started("sleep", 60.25) as process:
        assert [each.id for each in with_argument("60.25")] == [process.pid]
        assert with_argument("60.2") == []


def test_who_writes_into_a_folder_is_ended_and_who_reads_there_is_not(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    log = tmp_path / "mine" / "log"
    with (
        log.open("w") as written,
        started("sleep", 60, stdout=written) as writer,
        log.open() as read,
        started("sleep", 60, stdin=read) as reader,
        (tmp_path / "mine too").open("w") as other,
        started("sleep", 60, stdout=other) as beside,
    ):
        kill_writers(tmp_path / "mine")  # this process writes there too, and goes on
        assert writer.wait() == -signal.SIGKILL
        assert [found(each).how_it_ended() for each in (reader, beside)] == [None, None]


def test_who_writes_is_ended_in_time_though_this_process_can_do_nothing(tmp_path: Path) -> None:
    with (
        (tmp_path / "log").open("w") as written,
        started("sleep", 60, stdout=written) as writer,
    ):
        with killed_after(30.0, tmp_path):
            pass
        assert found(writer).how_it_ended() is None
        with killed_after(0.1, tmp_path):
            ctypes.PyDLL(None).sleep(3)  # called this way, C keeps the interpreter's lock
        assert writer.wait(10) == -signal.SIGKILL


def test_a_name_may_hold_brackets_and_spaces(tmp_path: Path) -> None:
    shutil.copy("/bin/sleep", tmp_path / "a) Z 1 (b")
    with started(tmp_path / "a) Z 1 (b", 60) as process:
        assert found(process).name == "a) Z 1 (b"
        assert found(process).how_it_ended() is None
    assert os.getpid() not in [each.id for each in children()]
