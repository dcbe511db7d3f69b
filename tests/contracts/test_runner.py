"""What every runner promises, whatever it runs on."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from lamella.cluster.ray.runner import RayRunner
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.run.step import Outcome, Runner
from tests.builders import Scripted, items, tries
from tests.builders import ended as all_ended


@pytest.fixture(scope="module")
def ray_runner() -> Iterator[RayRunner]:
    # Starts nothing by itself, so one pool serves the tests that ask for it.
    with RayRunner(workers=2) as runner:
        yield runner


@pytest.fixture(params=["serial", "ray"])
def runner(request: pytest.FixtureRequest) -> Runner:
    if request.param == "serial":
        return SerialRunner()
    request.getfixturevalue("two_cpus")
    runner: Runner = request.getfixturevalue("ray_runner")
    return runner


@pytest.fixture
def run(runner: Runner) -> Callable[[Scripted, int], dict[str, Outcome]]:
    return partial(all_ended, runner)


Run = Callable[[Scripted, int], dict[str, Outcome]]


def test_each_task_ends_once_with_its_own_result(run: Run, tmp_path: Path) -> None:
    ended = run(Scripted(str(tmp_path)), 9)
    squares = [ended[f"{n:03d}"].record.counts["square"] for n in range(9)]  # type: ignore[union-attr]
    assert squares == [0, 1, 4, 9, 16, 25, 36, 49, 64]
    assert {outcome.attempts for outcome in ended.values()} == {1}
    assert all(tries(tmp_path, f"try.{n:03d}") == 1 for n in range(9))


def test_a_task_that_fails_twice_is_tried_a_third_time(run: Run, tmp_path: Path) -> None:
    ended = run(Scripted(str(tmp_path), {"001": ("os-error", "os-error", "ok")}), 3)
    assert ended["001"].record is not None
    assert ended["001"].attempts == 3
    assert [ended[key].attempts for key in ("000", "002")] == [1, 1]


def test_a_task_that_always_fails_ends_with_its_error(run: Run, tmp_path: Path) -> None:
    ended = run(Scripted(str(tmp_path), {"001": ("os-error",)}), 3)
    assert ended["001"] == Outcome("001", None, "OSError: the disk is away", attempts=3)
    assert tries(tmp_path, "try.001") == 3
    assert ended["000"].record is not None
    assert ended["002"].record is not None


@pytest.mark.parametrize(
    ("act", "error", "kind"),
    [
        ("value-error", "ValueError: no such value", ""),
        ("input-error", "the rule, both values, what to do", "InputError"),
    ],
)
def test_a_wrong_input_is_not_tried_again(
    run: Run, tmp_path: Path, act: str, error: str, kind: str
) -> None:
    ended = run(Scripted(str(tmp_path), {"000": (act,)}), 2)
    assert ended["000"] == Outcome("000", None, error, attempts=1, kind=kind)
    assert ended["001"].record is not None


def test_a_stage_that_cannot_be_opened_fails_its_tasks(run: Run, tmp_path: Path) -> None:
    ended = run(Scripted(str(tmp_path), openings=("input-error",)), 3)
    assert {outcome.error for outcome in ended.values()} == {"the rule, both values, what to do"}


def test_an_opening_that_fails_once_is_tried_again(run: Run, tmp_path: Path) -> None:
    ended = run(Scripted(str(tmp_path), openings=("os-error", "ok")), 3)
    assert all(outcome.record is not None for outcome in ended.values())


def test_nothing_is_opened_without_a_task(runner: Runner, tmp_path: Path) -> None:
    assert list(runner.run(Scripted(str(tmp_path)), [])) == []
    assert tries(tmp_path, "opening") == 0


def test_a_stage_is_opened_for_many_tasks_and_anew_for_the_next_run(
    run: Run, tmp_path: Path
) -> None:
    stage = Scripted(str(tmp_path))
    run(stage, 12)
    opened = tries(tmp_path, "opening")
    assert 1 <= opened <= 2  # at most once a worker
    run(stage, 12)
    assert opened < tries(tmp_path, "opening") <= opened + 2


def test_two_tasks_of_one_name_are_refused(runner: Runner, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="same key"):
        list(runner.run(Scripted(str(tmp_path)), items(1) * 2))
