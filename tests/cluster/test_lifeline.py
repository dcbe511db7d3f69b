"""What is watched of Ray, on processes that only bear its names."""

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lamella.cluster.ray import lifeline
from lamella.cluster.ray.lifeline import Lifeline
from lamella.pipeline.errors import EngineLost

Start = Callable[[str], subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a process that sleeps under a name."""
    started: list[subprocess.Popen[bytes]] = []

    def one(name: str) -> subprocess.Popen[bytes]:
        if not (tmp_path / name).exists():
            shutil.copy("/bin/sleep", tmp_path / name)
        process = subprocess.Popen([tmp_path / name, "60"])
        started.append(process)
        while Path(f"/proc/{process.pid}/comm").read_text() != f"{name}\n":
            time.sleep(0.001)
        return process

    yield one
    for each in started:
        each.kill()
        each.wait()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifeline, "LOOK_S", 0.01)
    monkeypatch.setattr(lifeline, "STOPPED_S", 0.05)


def lost(line: Lifeline, seconds: float = 30.0) -> str:
    deadline = time.monotonic() + seconds
    while line.look() is None:
        line.count_stopped()
        assert time.monotonic() < deadline, "nothing is lost"
        time.sleep(lifeline.LOOK_S)
    assert line.lost is not None
    return line.lost


def test_the_processes_of_a_ray_of_our_own_are_found_while_it_starts(start: Start) -> None:
    earlier = start("raylet")
    line = Lifeline(lambda: None)
    raylet, plane, _ = start("raylet"), start("gcs_server"), start("monitor")
    assert line.look() is None
    assert {each.id for each in line._watched} == {raylet.pid, plane.pid}
    earlier.kill()
    assert line.look() is None


@pytest.mark.parametrize(
    ("name", "called"),
    [("raylet", "scheduler (raylet)"), ("gcs_server", "control plane (gcs_server)")],
)
def test_a_death_is_told_with_its_signal(start: Start, name: str, called: str) -> None:
    line = Lifeline(lambda: None)
    process = start(name)
    assert line.look() is None
    process.kill()
    assert lost(line) == (
        f"Ray's {called}, process {process.pid}, was ended by SIGKILL: what is done stays done; "
        "run the same command again"
    )


def test_a_death_before_the_first_look_is_seen(start: Start) -> None:
    line = Lifeline(lambda: None)
    start("gcs_server").kill()
    assert "was ended by SIGKILL" in lost(line)


def test_one_that_is_stopped_is_lost_after_a_while_and_one_that_goes_on_is_not(
    start: Start,
) -> None:
    line = Lifeline(lambda: None)
    process = start("raylet")
    process.send_signal(signal.SIGSTOP)
    assert line.look() is None
    while not line.is_stopped:
        assert line.look() is None
    line.count_stopped()
    process.send_signal(signal.SIGCONT)
    while line.is_stopped:
        assert line.look() is None
    line.count_stopped()
    assert set(line._watched.values()) == {0}
    process.send_signal(signal.SIGSTOP)
    assert "has been stopped (SIGSTOP) for 0.05 s" in lost(line)


def test_a_connection_is_not_left_while_a_process_is_stopped(start: Start) -> None:
    with lifeline.watched(lambda: None) as line:
        process = start("raylet")
        process.send_signal(signal.SIGSTOP)
        while not (line.look() or line.is_stopped):
            time.sleep(0.001)
        with pytest.raises(EngineLost, match="SIGSTOP"):
            line.settle()
        process.send_signal(signal.SIGCONT)


def test_a_cluster_that_does_not_answer_is_lost_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lifeline, "ASK_S", 0.0)
    monkeypatch.setattr(lifeline, "SILENT_S", 0.05)
    answers = iter([True, False, True])
    line = Lifeline(None)
    line.watch_joined("head:6379", [], lambda: next(answers, False))
    deadline = time.monotonic() + 30
    while line.lost is None:
        line.ask()
        assert time.monotonic() < deadline
    assert line.lost.startswith("Ray at head:6379 has not answered for 0.05 s: what is done")


def test_whoever_waits_is_told_and_the_ray_that_is_left_is_ended(
    start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lifeline, "LEAVE_S", 0.05)
    ended: list[int] = []
    with lifeline.watched(lambda: ended.append(1)):
        lifeline.check()
        start("raylet").kill()
        deadline = time.monotonic() + 30
        while not ended:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(EngineLost, match="scheduler"):
            lifeline.check()
    lifeline.check()  # the next Ray is another one
    assert capsys.readouterr().err == ""  # this is no command line
