"""Plan and reality: what a run took is noted stage by stage, a new stage by itself."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamella.pipeline.plan.actuals import Stopwatch, Taken, compare
from lamella.pipeline.plan.history import keep_plan, last_plan
from lamella.pipeline.run.drive import Progress
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.run.step import Outcome
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.upkeep.gc import collect_garbage
from lamella.pipeline.upkeep.repair import repair_store
from lamella.pipeline.upkeep.verify import verify_store
from lamella.schemas.files import DoneRecord
from lamella.schemas.plan import Figure, Plan, PlannedBytes, PlannedStage, ProbedMachine


def stage(name: str, seconds: float) -> PlannedStage:
    return PlannedStage(
        name=name,
        steps={},
        per_second=Figure(mean=100 / seconds),
        seconds=Figure(mean=seconds),
        tasks=2,
        basis="measured",
    )


def plan(**changes: object) -> Plan:
    values: dict[str, Any] = {
        "subject": "a" * 64,
        "name": "pictures",
        "entries": 100,
        "sampled": 10,
        "refused": 0,
        "ignored": 0,
        "pictures": Figure(mean=100),
        "shards": 2,
        "segments": 1,
        "machine": ProbedMachine(
            cores=2,
            workers=2,
            threads=1,
            gpus=0,
            device="cpu",
            available_bytes=1,
            probe_peak_bytes=1,
        ),
        "stages": (stage("extract", 10), stage("vocabulary b11", 5), stage("encode", 2)),
        "stored": (
            PlannedBytes(kind="activations", stage="extract", size_bytes=Figure(mean=1000)),
            PlannedBytes(kind="lists", stage="extract", size_bytes=Figure(mean=10)),
            PlannedBytes(
                kind="sums", stage="vocabulary b11", size_bytes=Figure(mean=5), kept=False
            ),
        ),
        "memory": {},
        "requests": {},
        "hours": Figure(mean=1),
        "hours_by_workers": {1: Figure(mean=1)},
        "hours_by_gpus": None,
        "fits": True,
        "refusals": (),
    }
    return Plan(**(values | changes))


def test_plan_and_reality_stand_side_by_side() -> None:
    taken = {
        "extract": Taken(seconds=20.0, tasks=2, pictures=90),
        "vocabulary b11": Taken(seconds=6.0, tasks=40),
        "polish": Taken(seconds=1.0, tasks=2, pictures=90),
        "idle": Taken(),
    }
    rows = {
        row.stage: row for row in compare(plan(), taken, {"extract": 990, "encode": 7}, indexed=90)
    }
    assert list(rows) == ["extract", "vocabulary b11", "encode", "polish"]
    extract = rows["extract"]
    assert (extract.planned_per_second, extract.per_second) == (10.0, 4.5)
    assert (extract.planned_seconds, extract.seconds) == (10.0, 20.0)
    assert (extract.planned_bytes, extract.size_bytes, extract.note) == (1010.0, 990, "")
    assert rows["vocabulary b11"].per_second == 90 / 6  # its tasks count no pictures
    assert rows["vocabulary b11"].planned_bytes == 0  # sums are gone by then
    assert rows["encode"].seconds is None
    assert (rows["encode"].note, rows["encode"].size_bytes) == ("done before", 7)
    # A stage that the plan does not know of shows up by itself.
    assert (rows["polish"].planned_seconds, rows["polish"].seconds) == (None, 1.0)


@dataclass(frozen=True)
class Indexing:
    """A step whose tasks index five pictures each."""

    name: str
    stage: str
    uses_gpu: bool = False
    threads: int | None = None
    at_once: int = 1

    def open(self) -> Any:
        def work(task: Any) -> DoneRecord:
            return DoneRecord(
                stage=self.name,
                key=task.key,
                inputs="i",
                files={},
                counts={"images": 5},
                commit_id="c",
            )

        return work


@dataclass(frozen=True)
class Task:
    key: str


def ran(watch: Stopwatch, step: Indexing, *keys: str) -> list[Outcome]:
    return list(watch.run(step, [Task(key) for key in keys]))


def test_a_stopwatch_notes_tasks_pictures_and_seconds_of_every_stage() -> None:
    watch = Stopwatch(SerialRunner())
    assert [each.key for each in ran(watch, Indexing("extract", "extract"), "1", "2", "3")] == [
        "1",
        "2",
        "3",
    ]
    found = watch.taken["extract"]
    assert (found.tasks, found.pictures, found.before) == (3, 15, False)
    assert found.seconds > 0
    assert watch.memory_per_worker() > 0


def test_the_steps_of_a_training_are_of_its_vocabulary() -> None:
    watch = Stopwatch(SerialRunner())
    for name in ("sample b11", "round 3 b11", "fit"):
        ran(watch, Indexing(name, "vocabulary b11"), "1")
    assert {name: found.tasks for name, found in watch.taken.items()} == {"vocabulary b11": 3}


def test_the_measuring_of_reaches_is_timed_by_its_progress() -> None:
    told: list[Progress] = []
    watch = Stopwatch(SerialRunner(), told.append)
    for label, done, total in (("answer sample", 0, 64), ("answer sample", 64, 64)):
        watch.progress(Progress(label, done, total, done, total, "tune"))
    assert watch.taken["tune"].tasks == 1
    answered = watch.taken["tune"].seconds
    for done, total in ((0, 50), (20, 50), (30, 30)):
        watch.progress(Progress("tune", done, total, done, total, "tune"))
    taken = watch.taken["tune"]
    assert (taken.tasks, taken.before) == (2, False)
    assert taken.seconds > answered > 0
    assert len(told) == 5
    (row,) = compare(plan(stages=(stage("tune", 5),)), watch.taken, {}, 100)[:1]
    assert (row.seconds, row.note) == (taken.seconds, "")


def test_what_was_done_before_is_no_part_of_this_run() -> None:
    heard: list[Progress] = []
    watch = Stopwatch(SerialRunner(), heard.append)
    watch.progress(Progress("extract", 1, 3, 5, 15, "extract"))
    ran(watch, Indexing("extract", "extract"), "2", "3")
    watch.progress(Progress("extract", 3, 3, 15, 15, "extract"))
    watch.progress(Progress("encode", 0, 3, 0, 15, "encode"))
    ran(watch, Indexing("encode", "encode"), "1", "2", "3")
    watch.progress(Progress("encode", 3, 3, 15, 15, "encode"))
    assert len(heard) == 4
    rows = {row.stage: row.note for row in compare(plan(), watch.taken, {}, 15)}
    assert rows == {
        "extract": "partly done before",
        "vocabulary b11": "done before",
        "encode": "",
    }


class Noisy:
    """A runner that fails after its first task, as one that is stopped does."""

    def run(self, stage: Any, tasks: Sequence[Any]) -> Iterator[Outcome]:
        yield from SerialRunner().run(stage, tasks[:1])
        raise OSError("stopped")

    @property
    def threads(self) -> int:
        return 1

    def memory_per_worker(self) -> int:
        return 0


def test_a_stopwatch_hides_no_failure() -> None:
    watch = Stopwatch(Noisy())
    try:
        ran(watch, Indexing("extract", "extract"), "1", "2")
    except OSError:
        assert watch.taken["extract"].tasks == 1
    else:
        raise AssertionError("the failure was lost")


def test_the_last_plan_of_a_subject_is_kept_and_is_no_orphan(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), create=True)
    assert last_plan(store, "pictures", "a" * 64) is None
    first, second = keep_plan(store, plan()), keep_plan(store, plan(entries=101))
    keep_plan(store, plan(subject="b" * 64, entries=7))
    assert (first, second) == (
        "plans/pictures-aaaaaaaaaaaa/000001.json",
        "plans/pictures-aaaaaaaaaaaa/000002.json",
    )
    found = last_plan(store, "pictures", "a" * 64)
    assert found == plan(entries=101)
    assert collect_garbage(store, older_than_s=-1.0, forced=True).removed == ()
    verified = verify_store(store)
    assert (verified.records, verified.damage, verified.orphans) == (3, (), ())


def test_a_damaged_or_misplaced_plan_is_named_and_repair_removes_it(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), create=True)
    first, second = keep_plan(store, plan()), keep_plan(store, plan(subject="b" * 64))
    (tmp_path / first).write_bytes((tmp_path / second).read_bytes())
    (tmp_path / second).write_bytes(b"{}")
    assert [each.path for each in verify_store(store).damage] == [first, second]
    repaired = repair_store(store, SerialRunner(), threads=1)
    assert repaired.after == ()
    assert any("nothing but the end of a run looks at it" in note for note in repaired.notes)
