"""A step is one file and one row of the tree: harness, verify, gc and repair know it by the row."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lamella.pipeline.errors import AccountMismatch
from lamella.pipeline.run.drive import complete
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.run.step import Counts, Do, StoreStep
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import Attempt
from lamella.pipeline.store.form import Form
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.store.tree import StepKind
from lamella.pipeline.upkeep.gc import collect_garbage
from lamella.pipeline.upkeep.verify import verify_store
from lamella.schemas.base import digest_of

# The row. In the project it stands in `STEPS`.
TOY = StepKind(
    "toy",
    Form("toys/{keyed}"),
    total="images",
    states=("counted", "passed"),
    rows={"numbers": "counted"},
)


# The file of the step.
@dataclass(frozen=True)
class ToyTask:
    key: str
    images: int


@dataclass(frozen=True)
class ToyWork:
    """Writes the even numbers below that of a task's images."""

    lost: int = 0

    def open(self, store: Store) -> Do[ToyTask]:
        def count(task: ToyTask, work: Attempt) -> Counts:
            even = list(range(0, task.images, 2))

            def fill(path: Path) -> int:
                path.write_text(json.dumps(even))
                return len(even)

            work.write("numbers", tree.layer_folder(work.folder, "even"), "json", fill)
            passed = task.images - len(even) - self.lost
            return {"images": task.images, "counted": len(even), "passed": passed}

        return count


TASKS = [ToyTask("00000", 5), ToyTask("00001", 4)]
INPUTS = digest_of(["toy"])


@pytest.fixture
def with_row(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The row in its place."""
    kept = (tree.tops, tree.step_folder)  # what is worked out from the rows once
    with monkeypatch.context() as patch:
        patch.setattr(tree, "STEPS", [*tree.STEPS, TOY])
        for function in kept:
            function.cache_clear()
        yield
    for function in kept:
        function.cache_clear()


def run_in(store: Store, work: ToyWork | None = None) -> list[dict[str, int]]:
    folder = TOY.folder(keyed=tree.keyed("toy", INPUTS))
    step = StoreStep(TOY, store.url, folder, INPUTS, work or ToyWork())
    done = complete(store, SerialRunner(), step, TASKS, units=lambda task: task.images)
    return [record.counts for record in done]


@pytest.mark.usefixtures("with_row")
def test_a_step_with_a_row_is_run_verified_and_swept(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), create=True)
    assert run_in(store) == [
        {"images": 5, "counted": 3, "passed": 2},
        {"images": 4, "counted": 2, "passed": 2},
    ]
    assert run_in(store) == run_in(store)
    (tmp_path / "toys").joinpath(
        tree.keyed("toy", INPUTS), "even", "00000.0123456789ab.json"
    ).write_text("[]")
    found = verify_store(store)
    assert (found.damage, found.strangers, len(found.orphans)) == ((), 0, 1)
    removed = collect_garbage(store, older_than_s=-1.0, forced=True).removed
    assert [file.path for file in removed] == [file.path for file in found.orphans]

    path = next(tmp_path.glob("toys/*/even/00001.*.json"))
    path.write_text("[1]")
    (damage,) = verify_store(store).damage
    assert damage.path == str(path.relative_to(tmp_path))
    mended = tree.read(damage.path)
    assert mended is not None
    assert mended.mend == "rebuild"


@pytest.mark.usefixtures("with_row")
def test_units_that_a_step_loses_are_missed(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), create=True)
    with pytest.raises(AccountMismatch, match=r"toy 00000: 3 counted . 1 passed is not 5"):
        run_in(store, ToyWork(lost=1))
    assert [each.problem for each in verify_store(store).damage if "00000" in each.path] == [
        "says 3 counted + 1 passed of 5 images"
    ]


def test_without_a_row_its_files_are_a_strangers(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), create=True)
    run_in(store)
    found = verify_store(store)
    assert (found.damage, found.orphans, found.strangers) == ((), (), 4)
