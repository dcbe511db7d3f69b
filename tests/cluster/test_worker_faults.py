"""Workers that die, hang or never stand, on a real Ray."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray

from lamella.cluster.ray import capacity
from lamella.cluster.ray.capacity import Machine, threads_of_networks
from lamella.cluster.ray.runner import RayRunner
from lamella.pipeline.errors import StageFailed
from lamella.pipeline.run.step import Outcome
from tests.builders import Scripted, _note, ended, items, tries

pytestmark = pytest.mark.usefixtures("two_cpus")


def pids(outcomes: dict[str, Outcome]) -> set[int]:
    return {each.record.counts["pid"] for each in outcomes.values() if each.record is not None}


def test_a_worker_that_is_killed_is_replaced_and_its_task_done(tmp_path: Path) -> None:
    with RayRunner(workers=1) as runner:
        outcomes = ended(runner, Scripted(str(tmp_path), {"002": ("kill", "ok")}), 5)
    assert all(outcome.record is not None for outcome in outcomes.values())
    assert {key: each.attempts for key, each in outcomes.items() if each.attempts > 1} == {"002": 2}
    assert len(pids(outcomes)) == 2
    assert tries(tmp_path, "opening") == 2  # the new worker opened the stage for itself


def test_a_task_that_kills_every_worker_fails_by_name_and_alone(tmp_path: Path) -> None:
    with RayRunner(workers=2) as runner:
        outcomes = ended(runner, Scripted(str(tmp_path), {"001": ("kill",)}), 6)
        assert tries(tmp_path, "try.001") == 3
        again = ended(runner, Scripted(str(tmp_path)), 2)  # the pool still stands
    lost = outcomes.pop("001")
    assert lost.attempts == 3
    assert lost.error is not None
    assert lost.error.startswith("its worker died (")
    assert all(outcome.record is not None for outcome in [*outcomes.values(), *again.values()])


@pytest.mark.slow
def test_a_worker_whose_card_is_lost_is_replaced_and_its_task_done(tmp_path: Path) -> None:
    with RayRunner(workers=1) as runner:
        outcomes = ended(runner, Scripted(str(tmp_path), {"002": ("card-lost", "ok")}), 5)
    assert all(outcome.record is not None for outcome in outcomes.values())
    assert outcomes["002"].attempts == 2
    assert len(pids(outcomes)) == 2
    assert tries(tmp_path, "opening") == 2


@pytest.mark.slow
def test_a_task_whose_card_is_always_lost_fails_with_what_was_said(tmp_path: Path) -> None:
    with RayRunner(workers=1) as runner:
        outcomes = ended(runner, Scripted(str(tmp_path), {"000": ("card-lost",)}), 2)
    assert (outcomes["000"].error, outcomes["000"].attempts) == ("the card does not answer", 3)
    assert outcomes["001"].record is not None


def test_a_task_that_hangs_is_given_to_another_worker(tmp_path: Path) -> None:
    with RayRunner(workers=1, task_timeout_s=1.5) as runner:
        outcomes = ended(runner, Scripted(str(tmp_path), {"000": ("hang", "ok")}), 2)
    assert [outcomes[key].attempts for key in ("000", "001")] == [2, 1]
    assert all(outcome.record is not None for outcome in outcomes.values())
    assert len(pids(outcomes)) == 1  # that of the second worker: the first answered nothing


@pytest.mark.slow
def test_a_worker_that_is_stopped_is_replaced_and_ended(tmp_path: Path) -> None:
    # It can do nothing itself, not even end when it is asked to.
    with RayRunner(workers=1, task_timeout_s=3.0) as runner:
        outcomes = ended(runner, Scripted(str(tmp_path), {"000": ("stop", "ok")}), 2)
    assert [outcomes[key].attempts for key in ("000", "001")] == [2, 1]
    assert all(outcome.record is not None for outcome in outcomes.values())
    (stopped,) = (int(path.suffix[1:]) for path in tmp_path.glob("running.000.*"))
    deadline = time.monotonic() + 60
    while Path("/proc", str(stopped)).exists():
        assert time.monotonic() < deadline, "the stopped worker is still there"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_task_that_always_hangs_fails_by_name(tmp_path: Path) -> None:
    with RayRunner(workers=2, task_timeout_s=2.5) as runner:
        outcomes = ended(runner, Scripted(str(tmp_path), {"000": ("hang",)}), 3)
    assert outcomes["000"] == Outcome(
        "000", None, "no sign of progress in 2.5 s: worker ended", attempts=3
    )
    assert [outcomes[key].error for key in ("001", "002")] == [None, None]


def test_no_more_tasks_run_at_once_than_there_are_workers(tmp_path: Path) -> None:
    # Two tasks wait for each other, so two do run at once; of the others never a third.
    stage = Scripted(str(tmp_path), {"000": ("meet",), "001": ("meet",)})
    with RayRunner(workers=2) as runner:
        outcomes = ended(runner, stage, 20)
    at_once = [each.record.counts["at_once"] for each in outcomes.values() if each.record]
    assert max(at_once) == 2
    assert len(at_once) == 20
    assert len(pids(outcomes)) == 2


@pytest.mark.slow
def test_workers_serve_one_stage_after_the_other(tmp_path: Path) -> None:
    with RayRunner(workers=1) as runner:
        first = ended(runner, Scripted(str(tmp_path)), 2)
        second = ended(runner, Scripted(str(tmp_path)), 2)
    assert pids(first) == pids(second)


@pytest.mark.slow
def test_a_caller_who_stops_early_leaves_nothing_running(tmp_path: Path) -> None:
    with RayRunner(workers=2) as runner:
        outcomes = runner.run(Scripted(str(tmp_path), {"001": ("hang",)}), items(3))
        next(outcomes)
        outcomes.close()  # type: ignore[attr-defined]
        # The hanging worker's CPU is free again, or these two could not meet.
        stage = Scripted(str(tmp_path), {"000": ("meet",), "001": ("meet",)})
        assert all(each.record for each in ended(runner, stage, 2).values())


def test_a_straggler_is_begun_once_more_and_the_first_to_end_counts(tmp_path: Path) -> None:
    stage = Scripted(str(tmp_path), {"000": ("hang", "ok")})
    with RayRunner(straggler_s=0.5) as runner:
        outcomes = ended(runner, stage, 4)
        assert outcomes["000"].record is not None
        assert outcomes["000"].attempts == 1
        assert tries(tmp_path, "try.000") == 2
        # The worker that hangs is ended: its CPU is free again, or these two could not meet.
        ended(runner, Scripted(str(tmp_path), {"000": ("meet",), "001": ("meet",)}), 2)


@pytest.mark.slow
def test_a_second_try_that_fails_leaves_the_straggler_alone(tmp_path: Path) -> None:
    stage = Scripted(str(tmp_path), {"000": ("outlast", "os-error")})
    with RayRunner(straggler_s=0.2) as runner:
        outcomes = ended(runner, stage, 3)
    assert outcomes["000"].record is not None
    assert (outcomes["000"].attempts, tries(tmp_path, "try.000")) == (1, 2)


@pytest.mark.slow
def test_a_straggler_that_dies_leaves_the_second_try_alone(tmp_path: Path) -> None:
    stage = Scripted(str(tmp_path), {"000": ("outlast-kill", "slow")})
    with RayRunner(straggler_s=0.2) as runner:
        outcomes = ended(runner, stage, 3)
    assert outcomes["000"].record is not None
    assert (outcomes["000"].attempts, tries(tmp_path, "try.000")) == (1, 2)


@dataclass(frozen=True)
class Stillborn:
    """A device check that ends the worker it is sent to, so many times, before that stands."""

    notes: str
    times: int

    def __reduce__(self) -> tuple[Any, ...]:
        return end_before_it_stands, (self.notes, self.times)

    def __call__(self, stage: object) -> None:
        """Find nothing wrong."""


def end_before_it_stands(notes: str, times: int) -> Stillborn:
    if _note(notes, "start") < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return Stillborn(notes, times)


@pytest.mark.slow
def test_a_worker_that_is_killed_before_it_stands_is_replaced(tmp_path: Path) -> None:
    with RayRunner(workers=1, device_check=Stillborn(str(tmp_path), 2)) as runner:
        outcomes = ended(runner, Scripted(str(tmp_path)), 2)
    assert [each.attempts for each in outcomes.values()] == [1, 1]
    assert all(each.record is not None for each in outcomes.values())
    assert tries(tmp_path, "start") == 3


@pytest.mark.slow
def test_workers_that_never_stand_end_the_stage_with_what_became_of_them(tmp_path: Path) -> None:
    wanted = (
        r"scripted: [67] workers died in a row before one could take a task, the last after "
        r"[\d.]+ s: its worker died \(its process was killed, or crashed\): what is done stays done"
    )
    with (
        RayRunner(workers=2, device_check=Stillborn(str(tmp_path), 1000)) as runner,
        pytest.raises(StageFailed, match=wanted),
    ):
        ended(runner, Scripted(str(tmp_path)), 4)
    assert tries(tmp_path, "start") in (6, 7)  # two are on their way at once


def test_a_cluster_too_small_for_a_worker_is_told_so(tmp_path: Path) -> None:
    with (
        RayRunner(workers=1, cpus_per_worker=3, start_timeout_s=1.0) as runner,
        pytest.raises(StageFailed, match=r"needs 3 CPU, the cluster has 2 CPU .2 free.: free"),
    ):
        list(runner.run(Scripted(str(tmp_path)), items(1)))


@pytest.mark.slow
def test_pool_size_follows_cpus_and_is_never_above_the_tasks(tmp_path: Path) -> None:
    # Two tasks that wait for each other need two workers; by default there is one a CPU.
    stage = Scripted(str(tmp_path), {"000": ("meet",), "001": ("meet",)})
    with RayRunner() as runner:
        assert len(pids(ended(runner, stage, 2))) == 2
    with RayRunner(cpus_per_worker=2) as runner:
        assert len(pids(ended(runner, Scripted(str(tmp_path)), 4))) == 1
    assert ray.available_resources().get("CPU", 0) <= 2


@dataclass(frozen=True)
class Sharing(Scripted):
    """A stage whose tasks have threads of their own."""

    threads: int = 2


@pytest.mark.slow
def test_a_stage_that_has_threads_gets_a_worker_with_as_many_cpus(tmp_path: Path) -> None:
    with RayRunner() as runner:
        assert len(pids(ended(runner, Sharing(str(tmp_path)), 4))) == 1
        stage = Scripted(str(tmp_path), {"000": ("meet",), "001": ("meet",)})
        assert len(pids(ended(runner, stage, 2))) == 2  # one CPU each again


def node(cpus: float, gpus: float = 0.0) -> Machine:
    return Machine({"CPU": cpus} | ({"GPU": gpus} if gpus else {}), {})


@pytest.mark.parametrize(
    ("nodes", "threads"),
    [
        ([node(1)], 1),
        ([node(2)], 2),
        ([node(4)], 4),
        ([node(6)], 3),  # two workers of three, not one of four
        ([node(16)], 4),
        ([node(16), node(2)], 2),  # every node has room for a worker
        ([node(16, gpus=2), node(4)], 8),  # all that a card's node has for it
        ([node(2, gpus=4)], 1),
    ],
)
def test_threads_of_a_network(
    monkeypatch: pytest.MonkeyPatch, nodes: list[Machine], threads: int
) -> None:
    monkeypatch.setattr(capacity, "machines", lambda: nodes)
    assert threads_of_networks() == threads
