"""How long a task may be silent, on a real Ray: progress extends its deadline."""

import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.runner import RayRunner
from tests.builders import SLOW_S, Scripted, ended, tries

pytestmark = pytest.mark.usefixtures("two_cpus")


@dataclass(frozen=True)
class Overlapped(Scripted):
    """A scripted stage of which a worker takes two tasks at once."""

    at_once: int = 2


def test_a_task_may_take_longer_than_its_deadline_while_it_gets_on(tmp_path: Path) -> None:
    stage = Scripted(str(tmp_path), {"000": ("gets-on",), "001": ("gets-on",)})
    with RayRunner(workers=1, task_timeout_s=SLOW_S / 3) as runner:
        outcomes = ended(runner, stage, 3)
    assert [each.attempts for each in outcomes.values()] == [1, 1, 1]
    assert all(each.record is not None for each in outcomes.values())


def test_a_task_that_gets_stuck_is_ended_so_long_after_its_last_sign(tmp_path: Path) -> None:
    stage = Scripted(str(tmp_path), {"000": ("gets-stuck", "ok")})
    began = time.monotonic()
    with RayRunner(workers=1, task_timeout_s=SLOW_S / 2) as runner:
        outcomes = ended(runner, stage, 1)
    assert (outcomes["000"].record is not None, outcomes["000"].attempts) == (True, 2)
    assert time.monotonic() - began > 1.5 * SLOW_S


def test_a_worker_that_can_answer_nothing_is_ended(tmp_path: Path) -> None:
    stage = Scripted(str(tmp_path), {"000": ("holds", "ok")})
    with RayRunner(workers=1, task_timeout_s=1.5) as runner:
        outcomes = ended(runner, stage, 2)
    assert [outcomes[key].attempts for key in ("000", "001")] == [2, 1]
    assert all(each.record is not None for each in outcomes.values())


def test_signs_of_one_task_do_not_count_for_another_in_the_same_worker(tmp_path: Path) -> None:
    stage = Overlapped(str(tmp_path), {"000": ("hang", "ok"), "001": ("gets-on", "ok")})
    with RayRunner(workers=1, task_timeout_s=SLOW_S / 2) as runner:
        outcomes = ended(runner, stage, 2)
    # Both were lost with their worker, before the second could end.
    assert [outcomes[key].attempts for key in ("000", "001")] == [2, 2]
    assert tries(tmp_path, "try.001") == 2
