"""`repair`: remove what is damaged, run its tasks again, and put the bytes where they were.

A task gives the same bytes whenever it runs, so a rebuilt file has the SHA-256 on record. `repair`
removes a damaged file together with the done record that names it, and runs the jobs that made
them, which find everything else done. If a snapshot or a vocabulary names the old file, the same
bytes are put under the old name.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lamella.pipeline.errors import (
    AccountMismatch,
    InputError,
    LamellaError,
    NewerFormat,
    NotAFile,
    SnapshotIncomplete,
    StageFailed,
)
from lamella.pipeline.jobs.recorded import read_jobs
from lamella.pipeline.journey import Journey
from lamella.pipeline.run.step import Runner
from lamella.pipeline.stages import Hands, Watch
from lamella.pipeline.store import tree
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.tree import MARKER, MARKER_BYTES, record_of
from lamella.pipeline.upkeep.inventory import IN_THE_WAY, OTHER_FORMAT, take_inventory
from lamella.pipeline.upkeep.rebuild import (
    job_listing,
    rebuild_job,
    rebuild_keeping,
    rebuild_promotion,
    rebuild_snapshot,
    rebuild_words,
)
from lamella.pipeline.upkeep.traces import fetched
from lamella.pipeline.upkeep.verify import Damage, Verified, verify_store
from lamella.schemas.files import DoneRecord, FileRef
from lamella.schemas.job_record import JobRecord
from lamella.schemas.keeping import Expired, Forgotten, Tag
from lamella.schemas.plan import Plan
from lamella.schemas.snapshot import IndexSnapshot, Promotion


@dataclass(frozen=True)
class Repaired:
    """The outcome of a repair.

    Attributes:
        before: what was damaged.
        tasks: the done records of the tasks that ran again.
        after: what is still damaged.
        notes: sentences for a person.
    """

    before: tuple[Damage, ...]
    tasks: tuple[str, ...]
    after: tuple[Damage, ...]
    notes: tuple[str, ...]


def repair_store(
    store: Store,
    runner: Runner,
    *,
    threads: int,
    watch: Watch | None = None,
    pictures: str | None = None,
) -> Repaired:
    """Rebuild what is damaged in a store, and only that. No job may run on the store meanwhile.

    Args:
        threads: threads of a worker in the extract stage.
        pictures: where the pictures are now; by default where they were when they were indexed.

    Raises:
        NewerFormat: another version wrote a record; nothing was changed.
        NotAFile: a link, a pipe or a folder is in the way; nothing was changed.
        InputError: pictures or weights are needed, and missing or changed.
        StageFailed: a task failed.
    """
    watch = watch or Watch()
    hands = Hands(runner, threads, watch, mend=True)
    found = verify_store(store, watch.progress)
    before = found.damage
    if not before:
        return Repaired((), (), (), ())
    for each in before:
        if each.problem.startswith(OTHER_FORMAT):
            raise NewerFormat(f"{each.path} {each.problem}; nothing was changed")
        if each.problem.endswith(IN_THE_WAY):
            raise NotAFile(f"{each.path} {each.problem}; nothing was changed")
    notes: list[str] = []
    there = take_inventory(store)
    commits = {path: record.commit_id for path, record in there.of(DoneRecord)}
    if renewed := set(rebuild_words(store, there, [each.path for each in before])):
        left = tuple(each for each in before if each.path not in renewed)
        found = replace(found, damage=left)
    damaged = [each.path for each in found.damage]
    jobs = _jobs_to_run(store, [path for path in damaged if _mend_of(path) == "rebuild"])
    from_pictures = {tree.LOOK, tree.EXTRACT}
    if any(record.freed for _, record in there.of(DoneRecord)):
        # Bags and words are made of descriptors, and these of pictures.
        from_pictures |= {step for step in tree.STEPS if step.summary is tree.VOCABULARY}
        from_pictures.add(tree.ENCODE)
    if any(from_pictures.intersection(tree.steps_of(path)) for path in damaged):
        for job in jobs.values():
            # Pictures are needed, so check them before anything is removed.
            job_listing(store, job, pictures)
    withdrawn = _withdraw(store, found)
    try:
        # Words and frames that a job keeps of an earlier one are made by that.
        for job in sorted(jobs.values(), key=lambda job: bool(job.kept or job.frames)):
            rebuild_job(store, job, hands, pictures)
    except (AccountMismatch, SnapshotIncomplete, StageFailed):
        # If rebuilt files differ from their records, that is the cause to report.
        notes += _refuse_others(store, withdrawn)
        if not notes:
            raise
    else:
        notes += _refuse_others(store, withdrawn)
    notes += _restore(store)
    for path in damaged:
        if record_of(path) is IndexSnapshot:
            rebuild_snapshot(store, path, hands, pictures)
    for path in sorted(damaged, reverse=True):
        if record_of(path) is Promotion:
            notes.append(rebuild_promotion(store, path))
        elif record_of(path) is JobRecord:
            notes.append(f"{path}: give the same `lamella index` again, which records its job")
        elif record_of(path) in (Expired, Forgotten):
            notes.append(rebuild_keeping(store, path))
        elif record_of(path) is Tag:
            notes.append(f"{path} was removed: give the tag again, or its snapshot may expire")
        elif record_of(path) is Plan:
            notes.append(f"{path} was removed: nothing but the end of a run looks at it")
        elif _mend_of(path) == "drop":
            notes.append(f"{path} was removed: the same command makes it again")
    if MARKER in damaged:
        store.replace(MARKER, MARKER_BYTES)
    after = {path: record.commit_id for path, record in take_inventory(store).of(DoneRecord)}
    tasks = tuple(path for path in sorted(after) if after[path] != commits.get(path))
    return Repaired(before, tasks, verify_store(store, watch.progress).damage, tuple(notes))


def _mend_of(path: str) -> str:
    """Return how a damaged file is mended, from its row in the tree."""
    found = tree.read(path)
    return "" if found is None else found.mend


def _jobs_to_run(store: Store, damaged: Sequence[str]) -> dict[str, JobRecord]:
    """Return finished jobs that made the damaged files; call it before anything is removed.

    Of several that share a file the last is taken, for its pictures are most likely still there. A
    job without a snapshot is left alone: the same `lamella index` continues it, and makes again
    what was removed.
    """
    snapshots = [snapshot for _, snapshot in take_inventory(store).of(IndexSnapshot)]
    last = {snapshot.job: snapshot.number for snapshot in snapshots}
    jobs = sorted(read_jobs(store).items(), key=lambda item: -last.get(item[0], 0))
    left, chosen = set(damaged), dict[str, JobRecord]()
    for path, job in jobs:
        try:
            seen = Journey(store, job).look()
        except LamellaError:
            # A damaged record hides its folders, so take the job if it has a snapshot.
            if damaged and path in last:
                chosen[path] = job
            continue
        index = seen.made.index.tasks if seen.whole else ()
        mine = [task.key for task in index]
        finished = path in last or any(
            mine == [segment.key for segment in snapshot.segments] for snapshot in snapshots
        )
        held = {each for each in left if seen.may_hold(each)}
        if finished and held:
            chosen[path] = job
            left -= held
    return chosen


def _withdraw(store: Store, found: Verified) -> dict[str, DoneRecord]:
    """Remove damaged files and the records that name them, records first.

    Returns:
        The removed done records that were intact, by path.
    """
    records: set[str] = set()
    files: set[str] = set()
    for damage in found.damage:
        path = damage.path
        file = tree.read(path)
        if file is None or file.mend == "replace":
            continue  # overwritten later
        (files if file.record is None else records).add(path)
        records |= {each for each in damage.named_by if record_of(each) is DoneRecord}
        # While this record is there, a job does not look at the tasks below it.
        if (summary := file.summary()) is not None:
            records.add(summary)
        if file.row in (tree.REPORT, tree.PAGE):
            records.add(tree.REPORT.at(**file.parts))
            files.add(tree.PAGE.at(**file.parts))
    known = dict(take_inventory(store).of(DoneRecord))
    own = {damage.path for damage in found.damage}
    for path in [*sorted(records), *sorted(files)]:
        store.discard(path)
    return {path: known[path] for path in sorted(records) if path in known and path not in own}


def _refuse_others(store: Store, withdrawn: dict[str, DoneRecord]) -> list[str]:
    """Remove done records whose rebuilt contents differ from before; return notes on them."""
    made = dict(take_inventory(store).of(DoneRecord))
    notes: list[str] = []
    for path, record in withdrawn.items():
        if path in made and made[path].content() != record.content():
            store.discard(path)
            notes.append(
                f"{path}: what was rebuilt is not what was on record, so weights, pictures or "
                "package versions are others than they were: put them back and repair again, or "
                "index anew"
            )
    return notes


def _restore(store: Store) -> list[str]:
    """Copy rebuilt bytes to every path that a record names and that is missing; return notes."""
    inventory = take_inventory(store)
    references = inventory.references()
    at_hand: dict[tuple[str, int], str] = {}
    for path, named_by in references.items():
        if path in inventory.files:
            reference = next(iter(named_by.values()))
            at_hand[reference.sha256, reference.size_bytes] = path
    notes: list[str] = []
    for path, named_by in references.items():
        if path in inventory.files:
            continue
        reference = next(iter(named_by.values()))
        same = at_hand.get((reference.sha256, reference.size_bytes))
        if same is None:
            notes.append(
                f"{path}: nothing that was rebuilt has its SHA-256 {reference.sha256[:12]}, so "
                "weights, pictures or package versions are others than they were: restore the "
                "file from a copy, or index anew"
            )
        else:
            _copy(store, same, path, reference)
    return notes


def _copy(store: Store, source: str, target: str, reference: FileRef) -> None:
    with fetched(store, source) as local:
        if local.stat().st_size != reference.size_bytes:
            raise InputError(f"{source} changed while it was read: run the same command again")
        store.put(target, local)
