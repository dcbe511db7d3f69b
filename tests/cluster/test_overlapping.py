"""Workers that take the next task while they are at the end of one, on a real Ray."""

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from lamella.cluster.ray.runner import RayRunner
from lamella.pipeline.run.step import Outcome
from lamella.schemas.files import DoneRecord
from tests.builders import Item, Scripted, ended, tries

pytestmark = pytest.mark.usefixtures("two_cpus")


@dataclass(frozen=True)
class Overlapped(Scripted):
    """A scripted stage of which a worker takes two tasks at once.

    They may have to take turns; nobody has one before task 000 had.
    """

    at_once: int = 2
    in_turn: bool = False

    def open(self) -> Callable[[Item], DoneRecord]:
        time.sleep(0.2)  # the second task is there before the stage is open
        work, turn = super().open(), threading.Lock() if self.in_turn else nullcontext()

        def overlapped(task: Item) -> DoneRecord:
            while self.in_turn and task.value and not tries(self.notes, "try.000"):
                time.sleep(0.01)
            with turn:
                return work(task)

        return overlapped


def counts(outcomes: dict[str, Outcome], what: str) -> dict[str, int]:
    return {key: each.record.counts[what] for key, each in outcomes.items() if each.record}


def test_a_worker_takes_two_tasks_and_opens_the_stage_once(tmp_path: Path) -> None:
    # They wait for each other: one after the other they would wait in vain.
    stage = Overlapped(str(tmp_path), {"000": ("meet",), "001": ("meet",)})
    with RayRunner(workers=1) as runner:
        outcomes = ended(runner, stage, 6)
    assert len(counts(outcomes, "square")) == 6
    assert len(set(counts(outcomes, "pid").values())) == 1
    assert max(counts(outcomes, "at_once").values()) == 2
    assert tries(tmp_path, "opening") == 1


def test_a_task_waits_in_no_worker_that_another_could_do(tmp_path: Path) -> None:
    # Two tasks and two workers, of which one stands first: it is not given both.
    stage = Overlapped(str(tmp_path), {"000": ("meet",), "001": ("meet",)})
    with RayRunner(workers=2) as runner:
        assert len(set(counts(ended(runner, stage, 2), "pid").values())) == 2


@pytest.mark.slow
def test_other_stages_get_one_task_at_a_time_again(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with RayRunner(workers=1) as runner:
        ended(runner, Overlapped(str(tmp_path)), 3)
        outcomes = ended(runner, Scripted(str(tmp_path / "other")), 6)
    assert set(counts(outcomes, "at_once").values()) == {1}


@pytest.mark.slow
def test_what_goes_down_with_another_task_is_done_by_itself(tmp_path: Path) -> None:
    # Whichever stands beside the one that kills is lost with it once, and never again.
    with RayRunner(workers=1) as runner:
        outcomes = ended(runner, Overlapped(str(tmp_path), {"001": ("kill",)}), 5)
    lost = outcomes.pop("001")
    assert lost.attempts == 3
    assert lost.error is not None
    assert lost.error.startswith("its worker died (")
    assert all(each.record is not None for each in outcomes.values())
    assert max(each.attempts for each in outcomes.values()) <= 2


@pytest.mark.slow
def test_two_that_are_lost_together_are_told_apart(tmp_path: Path) -> None:
    script = {"000": ("meet-kill", "kill"), "001": ("meet-kill", "ok")}
    with RayRunner(workers=1) as runner:
        outcomes = ended(runner, Overlapped(str(tmp_path), script), 3)
    assert (outcomes["000"].record, outcomes["000"].attempts) == (None, 3)
    assert outcomes["001"].record is not None
    assert outcomes["001"].attempts == 2


@pytest.mark.slow
def test_a_task_that_hangs_gives_back_what_waits_behind_it(tmp_path: Path) -> None:
    stage = Overlapped(str(tmp_path), {"000": ("hang", "ok")}, in_turn=True)
    with RayRunner(workers=1, task_timeout_s=2.5) as runner:
        outcomes = ended(runner, stage, 4)
    assert all(each.record is not None for each in outcomes.values())
    assert [outcomes[f"{n:03d}"].attempts for n in range(4)] == [2, 2, 1, 1]


@pytest.mark.slow
def test_a_lost_card_gives_back_both(tmp_path: Path) -> None:
    with RayRunner(workers=1) as runner:
        outcomes = ended(
            runner, Overlapped(str(tmp_path), {"000": ("card-lost", "ok"), "001": ("slow",)}), 3
        )
    assert {key: each.attempts for key, each in outcomes.items()} == {"000": 2, "001": 2, "002": 1}
    assert all(each.record is not None for each in outcomes.values())


@pytest.mark.slow
def test_what_a_straggler_holds_is_done_elsewhere(tmp_path: Path) -> None:
    # 000 hangs; what waits behind it goes back when its second try ends.
    stage = Overlapped(str(tmp_path), {"000": ("hang", "ok")}, in_turn=True)
    with RayRunner(straggler_s=0.5) as runner:
        outcomes = ended(runner, stage, 8)
    assert all(each.record is not None for each in outcomes.values())
    assert outcomes["000"].attempts == 1
    assert tries(tmp_path, "try.000") == 2
    assert sorted(each.attempts for each in outcomes.values()) == [1] * 7 + [2]
