from dataclasses import dataclass
from pathlib import Path

import pytest

from lamella.pipeline.errors import CommitConflict, StageFailed
from lamella.pipeline.run.drive import Progress, complete
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.run.step import Counts, Do, StoreStep
from lamella.pipeline.store.commit import Attempt, read_done
from lamella.pipeline.store.form import Form
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.store.tree import StepKind
from tests.builders import Item, Scripted, items, tries

SQUARES = StepKind("squares", Form("folder"))


@dataclass(frozen=True)
class Squares:
    """A scripted step's own work."""

    scripted: Scripted

    def open(self, store: Store) -> Do[Item]:
        work = self.scripted.open()

        def square(task: Item, trial: Attempt) -> Counts:
            return {"square": work(task).counts["square"]}

        return square


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    (tmp_path / "notes").mkdir()
    open_store(str(tmp_path / "store"), create=True)
    return LocalStore(tmp_path / "store")


def step(store: LocalStore, inputs: str = "i" * 64, **script: tuple[str, ...]) -> StoreStep[Item]:
    named = {key.removeprefix("task"): acts for key, acts in script.items()}
    work = Squares(Scripted(str(store.root.parent / "notes"), named))
    return StoreStep(SQUARES, store.url, "folder", inputs, work)


def test_records_stand_in_the_order_of_the_tasks(store: LocalStore) -> None:
    # The second task fails once and therefore ends last.
    script = step(store, task001=("os-error", "ok"))
    done = complete(store, SerialRunner(), script, items(4))
    assert [each.key for each in done] == ["000", "001", "002", "003"]
    assert [each.counts["square"] for each in done] == [0, 1, 4, 9]


def test_what_is_done_is_not_run_again(store: LocalStore) -> None:
    notes = store.root.parent / "notes"
    first = complete(store, SerialRunner(), step(store), items(2))
    both = complete(store, SerialRunner(), step(store), items(5))
    assert both[:2] == first
    assert [tries(notes, f"try.{n:03d}") for n in range(5)] == [1] * 5
    assert tries(notes, "opening") == 2
    complete(store, SerialRunner(), step(store), items(5))
    assert tries(notes, "opening") == 2  # nothing to do, nothing opened


def test_a_folder_of_another_job_is_refused_before_anything_is_run(store: LocalStore) -> None:
    complete(store, SerialRunner(), step(store, "a" * 64), items(1))
    with pytest.raises(CommitConflict, match=r"task 000 .* a{12}, this job has b{12}: .*another"):
        complete(store, SerialRunner(), step(store, "b" * 64), items(3))
    assert tries(store.root.parent / "notes", "opening") == 1


def test_a_failure_names_tasks_and_causes_and_keeps_the_rest(store: LocalStore) -> None:
    broken = step(store, task001=("os-error",), task003=("input-error",))
    with pytest.raises(StageFailed) as failed:
        complete(store, SerialRunner(), broken, items(5))
    assert str(failed.value) == (
        "squares: 2 of 5 tasks failed (001: OSError: the disk is away; "
        "003: the rule, both values, what to do); "
        "what is done stays done: mend the cause and run the same command again"
    )
    assert failed.value.kinds == {"", "InputError"}
    kept = [read_done(store, "folder", item.key) is not None for item in items(5)]
    assert kept == [True, False, True, False, True]
    done = complete(store, SerialRunner(), step(store), items(5))
    assert len(done) == 5


def test_of_many_failures_five_are_named_and_the_others_counted(store: LocalStore) -> None:
    every = {f"task{n:03d}": ("input-error",) for n in range(9)}
    with pytest.raises(StageFailed, match=r"000, .*, 004: [^;]*; and 4 more\); what is"):
        complete(store, SerialRunner(), step(store, "i" * 64, **every), items(9))


def test_progress_counts_tasks_and_their_units(store: LocalStore) -> None:
    complete(store, SerialRunner(), step(store), items(1))
    seen: list[Progress] = []
    complete(
        store,
        SerialRunner(),
        step(store),
        items(3),
        units=lambda item: 10 + item.value,
        on_progress=seen.append,
    )
    # Units are 10, 11 and 12, and the first task was done before.
    counted = [(each.done, each.units_done) for each in seen]
    assert counted == [(1, 10), (2, 10 + 11), (3, 10 + 11 + 12)]
    assert {(each.stage, each.total, each.units_total) for each in seen} == {("squares", 3, 33)}


def test_a_runner_that_forgets_a_task_is_found_out(store: LocalStore) -> None:
    class Forgetful(SerialRunner):
        def run(self, step, tasks):  # type: ignore[no-untyped-def]
            return super().run(step, tasks[1:])

    with pytest.raises(StageFailed, match="returned nothing for 000"):
        complete(store, Forgetful(), step(store), items(2))
