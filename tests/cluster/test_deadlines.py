"""How long a task may be silent, on a real Ray: progress extends its deadline."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from lamella.cluster.ray.runner import RayRunner
from lamella.pipeline.corpus import image_table, sandbox
from lamella.pipeline.corpus.decode import DecodeLimits, Probe
from lamella.pipeline.corpus.listing import Entry
from lamella.pipeline.corpus.sandbox import Sandbox
from lamella.pipeline.corpus.stage import LookTask, LookWork
from lamella.pipeline.run.step import Counts, Do, StoreStep
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import Attempt
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store
from tests.bombs import saved
from tests.builders import SLOW_S, Scripted, _note, ended, tries
from tests.hostile_child import marked

pytestmark = pytest.mark.usefixtures("two_cpus")


@dataclass(frozen=True)
class Overlapped(Scripted):
    """A scripted stage of which a worker takes two tasks at once."""

    at_once: int = 2


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_worker_that_can_answer_nothing_is_ended(tmp_path: Path) -> None:
    stage = Scripted(str(tmp_path), {"000": ("holds", "ok")})
    with RayRunner(workers=1, task_timeout_s=1.5) as runner:
        outcomes = ended(runner, stage, 2)
    assert [outcomes[key].attempts for key in ("000", "001")] == [2, 1]
    assert all(each.record is not None for each in outcomes.values())


@pytest.mark.slow
def test_signs_of_one_task_do_not_count_for_another_in_the_same_worker(tmp_path: Path) -> None:
    stage = Overlapped(str(tmp_path), {"000": ("hang", "ok"), "001": ("gets-on", "ok")})
    with RayRunner(workers=1, task_timeout_s=0.8 * SLOW_S) as runner:
        outcomes = ended(runner, stage, 2)
    # Both were lost with their worker, before the second could end.
    assert [outcomes[key].attempts for key in ("000", "001")] == [2, 2]
    assert tries(tmp_path, "try.001") == 2


@dataclass(frozen=True)
class SlowPictures(LookWork):
    """Looks at headers in children with flaws; may end its first worker before a picture.

    Notes how many children each worker started, and who looked at a picture.
    """

    notes: str = ""
    kill_before: int = -1

    def open(self, store: Store) -> Do[LookTask]:
        flawed = sandbox._sandbox = Sandbox("tests.hostile_child")
        probe_all, probe = super().open(store), sandbox.probe
        first = _note(self.notes, "opening") == 0

        def noted(data: bytes, limits: DecodeLimits) -> Probe:
            if _note(self.notes, "look") == self.kill_before and first:
                os.kill(os.getpid(), signal.SIGKILL)
            return probe(data, limits)

        image_table.probe = noted  # type: ignore[attr-defined]

        def look(task: LookTask, work: Attempt) -> Counts:
            counts = probe_all(task, work)
            for _ in range(flawed.started):
                _note(self.notes, "child")
            return counts

        return look


def slow_pictures(folder: Path, count: int) -> tuple[Entry, ...]:
    """Fill a folder with pictures whose headers compute without end."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.png").write_bytes(marked(saved("PNG"), f"spin {number}", at="header"))
    return tuple(Entry(path.name, "", 0, 1) for path in sorted(folder.iterdir()))


def step_in(tmp_path: Path, kill_before: int = -1) -> StoreStep[LookTask]:
    """Return a step that looks at the pictures, with a new store."""
    store = open_store(str(tmp_path / "store"), create=True)
    (tmp_path / "notes").mkdir()
    work = SlowPictures(
        str(tmp_path / "pictures"),
        "folder",
        DecodeLimits(max_seconds=0.5),
        notes=str(tmp_path / "notes"),
        kill_before=kill_before,
    )
    return StoreStep(tree.LOOK, store.url, "looks/c-0123456789ab", "0123456789ab", work)


@pytest.mark.slow
def test_slow_pictures_may_take_longer_together_than_a_task_may_be_silent(tmp_path: Path) -> None:
    # Each takes two children of half a second of processor time, and their starts.
    entries = slow_pictures(tmp_path / "pictures", 6)
    step = step_in(tmp_path)
    began = time.monotonic()
    with RayRunner(workers=1, task_timeout_s=5.0) as runner:
        (outcome,) = runner.run(step, [LookTask("00000", entries)])
    assert time.monotonic() - began > 6 * 2 * 0.5
    assert (outcome.attempts, outcome.error) == (1, None)
    assert outcome.record is not None
    assert outcome.record.counts == {"images": 6, "refused": 6, "ignored": 0, "unsure": 0}


@pytest.mark.slow
def test_one_picture_that_takes_longer_than_a_task_may_be_silent_ends_it(tmp_path: Path) -> None:
    entries = slow_pictures(tmp_path / "pictures", 1)
    step = step_in(tmp_path)
    with RayRunner(workers=1, task_timeout_s=0.8) as runner:
        (outcome,) = runner.run(step, [LookTask("00000", entries)])
    assert outcome.error == "no sign of progress in 0.8 s: worker ended"


@pytest.mark.slow
def test_verdicts_survive_the_worker_that_reached_them(tmp_path: Path) -> None:
    entries = slow_pictures(tmp_path / "pictures", 4)
    step = step_in(tmp_path, kill_before=2)
    with RayRunner(workers=1) as runner:
        (outcome,) = runner.run(step, [LookTask("00000", entries)])
    assert outcome.attempts == 2
    assert outcome.record is not None
    assert outcome.record.counts["refused"] == 4
    # The first worker reached two verdicts, the second one began with the third picture.
    assert tries(tmp_path / "notes", "look") == 3 + 2
    # Two a picture, and the one in which a sound picture is tried serves the next picture.
    assert tries(tmp_path / "notes", "child") == 2 * 2 + 1
