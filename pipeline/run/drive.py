"""Complete a step: read what is done, run what is missing, and account for every task."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lamella.pipeline import events, meters
from lamella.pipeline.errors import AccountMismatch, CommitConflict, StageFailed
from lamella.pipeline.run.step import Outcome, Runner, StoreStep, TaskT
from lamella.pipeline.store.commit import read_done
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.tree import StepKind
from lamella.schemas.files import DoneRecord

READERS = 16
"""Done records that are read at once."""

NAMED_FAILURES = 5
"""How many failed tasks an error message names; the rest are counted."""


@dataclass(frozen=True)
class Progress:
    """How far a step is, in tasks and in units of work (pictures, rows).

    `stage` is the label that a person sees; `of_stage` is the stage of the job that the step
    belongs to.
    """

    stage: str
    done: int
    total: int
    units_done: int
    units_total: int
    of_stage: str = ""


OnProgress = Callable[[Progress], None]


def quiet(progress: Progress) -> None:
    """Ignore progress."""


def complete(
    store: Store,
    runner: Runner,
    step: StoreStep[TaskT],
    tasks: Sequence[TaskT],
    *,
    units: Callable[[TaskT], int] = lambda task: 1,
    found: Sequence[DoneRecord | None] | None = None,
    on_progress: OnProgress = quiet,
) -> list[DoneRecord]:
    """Run the tasks of a step that are not done; return all done records, in the order of `tasks`.

    Call this to run a step. It reads the done records in the step's folder, gives the runner the
    tasks that have none, and checks that the counts of each record add up.

    Args:
        units: how many units of work (pictures, rows) a task has. Progress counts them, and if
            the step's kind has states, their counts must add up to them.
        found: the done records in the order of `tasks`, None for a task that is not done; give
            them if you have read them already.

    Raises:
        CommitConflict: a record in the folder was made from other inputs.
        StageFailed: tasks failed. Those that succeeded stay done and are not run again.
        AccountMismatch: the counts of a record do not add up, so pictures would be lost.
    """
    records: dict[str, DoneRecord] = {}
    if found is None:
        found = read_all_done(store, step.folder, [task.key for task in tasks])
    for task, record in zip(tasks, found, strict=True):
        if record is not None:
            if record.inputs != step.inputs:
                raise CommitConflict(
                    f"{step.folder} task {task.key} was made from inputs {record.inputs[:12]}, "
                    f"this job has {step.inputs[:12]}: the store belongs to another job, use "
                    "another store"
                )
            if task.key not in step.anew:
                records[task.key] = record
    pending = [task for task in tasks if task.key not in records]
    sizes = {task.key: units(task) for task in tasks}
    failures: dict[str, str] = {}
    kinds: set[str] = set()

    def report() -> None:
        on_progress(
            Progress(
                step.name,
                len(records),
                len(tasks),
                sum(sizes[key] for key in records),
                sum(sizes.values()),
                step.stage,
            )
        )

    report()
    for outcome in runner.run(step, pending):
        if outcome.record is not None:
            records[outcome.key] = outcome.record
        else:
            failures[outcome.key] = outcome.error or "unknown error"
            kinds.add(outcome.kind)
        _tell(step, outcome)
        report()
    if failures:
        raise StageFailed(_failure_message(step.name, failures, len(tasks)), kinds)
    if missing := [task.key for task in tasks if task.key not in records]:
        raise StageFailed(f"{step.name}: the runner returned nothing for {', '.join(missing)}")
    if step.kind.states:
        for task in tasks:
            check_account(step.name, step.kind, records[task.key], sizes[task.key], store)
    return [records[task.key] for task in tasks]


def _tell(step: StoreStep[TaskT], outcome: Outcome) -> None:
    """Count a task that has ended, and its pictures, and say so."""
    named = {"stage": step.stage, "shard": outcome.key}
    if outcome.record is None:
        meters.TASKS.add(stage=step.stage, outcome="failed")
        events.error("task-failed", outcome.error or "", **named, attempts=outcome.attempts)
        return
    meters.TASKS.add(stage=step.stage, outcome="done")
    for state in step.kind.states:
        meters.PICTURES.add(outcome.record.counts.get(state, 0), stage=step.stage, state=state)
    events.info("task-done", step=step.name, **named, **outcome.record.counts)


def read_all_done(store: Store, folder: str, keys: Sequence[str]) -> list[DoneRecord | None]:
    """Return the done record of each task, None if it has none.

    Several are read at once, because a request to S3 takes a while.
    """
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(lambda key: read_done(store, folder, key), keys))


def check_account(name: str, kind: StepKind, record: DoneRecord, units: int, store: Store) -> None:
    """Check that the counts of a record say of each unit of work how it ended.

    Raises:
        AccountMismatch: they do not add up, so pictures would be lost.
    """
    counts = {state: record.counts.get(state, 0) for state in kind.states}
    if sum(counts.values()) != units:
        listed = " + ".join(f"{count:,} {state}" for state, count in counts.items())
        raise AccountMismatch(
            f"{name} {record.key}: {listed} is not {units:,}: its record is wrong; "
            f"`lamella verify {store.url}` names the command that rebuilds it"
        )


def _failure_message(name: str, failures: dict[str, str], total: int) -> str:
    by_error: dict[str, list[str]] = {}
    for key in sorted(failures)[:NAMED_FAILURES]:
        by_error.setdefault(failures[key], []).append(key)
    named = "; ".join(f"{', '.join(keys)}: {error}" for error, keys in by_error.items())
    more = len(failures) - NAMED_FAILURES
    tail = f"; and {more} more" if more > 0 else ""
    return (
        f"{name}: {len(failures)} of {total} tasks failed ({named}{tail}); "
        "what is done stays done: mend the cause and run the same command again"
    )
