"""`gc`: remove what nothing alive needs and is too old for a job to be writing it.

`alive` says what is needed: records that no snapshot and no recent job reaches go, and then the
files that no record names.

The files of an attempt are not named by a record until its done record is created, so their age, by
the store's own clock, protects a running job. An attempt writes its files at its end, each one is
a sign of progress, and a task without signs is ended after `engine.task_timeout_s`. In addition,
`gc` reads the done record that would name a file again right before it removes the file.
"""

from collections.abc import Set
from dataclasses import dataclass

from lamella.pipeline.errors import CorruptFile, InputError
from lamella.pipeline.run.drive import OnProgress, Progress, quiet
from lamella.pipeline.store import tree
from lamella.pipeline.store.clock import store_clock
from lamella.pipeline.store.commit import read_done
from lamella.pipeline.store.protocol import Store, StoredFile
from lamella.pipeline.store.records import cure
from lamella.pipeline.upkeep.alive import Alive, may_go_at, needed_files, spent
from lamella.pipeline.upkeep.intermediate import Intermediates, free, intermediates
from lamella.pipeline.upkeep.inventory import Inventory, take_inventory
from lamella.schemas.job import EngineSettings
from lamella.schemas.keeping import Expired
from lamella.schemas.snapshot import IndexSnapshot

DAY_S = 86_400.0
LEAST_S = EngineSettings().task_timeout_s
"""Younger files may belong to a task that is still running."""


@dataclass(frozen=True)
class Collected:
    """What was removed, or would be.

    Attributes:
        removed: files that nothing needs.
        young: those that are too young.
        freed: intermediate files, of finished indexes.
        pictures: how many pictures have descriptors among `freed`.
        young_bytes: what intermediate files have that are too young.
        kept: why intermediate files were kept, as sentences.
    """

    removed: tuple[StoredFile, ...]
    young: tuple[StoredFile, ...]
    freed: tuple[StoredFile, ...] = ()
    pictures: int = 0
    young_bytes: int = 0
    kept: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """The bytes of the files that nothing needs."""
        return sum(file.size_bytes for file in self.removed)

    @property
    def freed_bytes(self) -> int:
        """The bytes of the intermediate files."""
        return sum(file.size_bytes for file in self.freed)


def collect_garbage(
    store: Store,
    *,
    older_than_s: float = DAY_S,
    dry_run: bool = False,
    forced: bool = False,
    intermediate: bool = False,
    on_progress: OnProgress = quiet,
) -> Collected:
    """Remove what no snapshot and no recent job needs.

    These are records that none of them reaches, with their files; data files that no record names,
    writes that were cut short, verdicts on pictures of shards that are done, and sums of rounds
    whose checkpoint is there. Runs stay. Files that Lamella did not write stay.

    Args:
        older_than_s: only remove files older than this.
        dry_run: remove nothing, only return what would be removed.
        forced: allow an age below `LEAST_S`; then no job may run on the store.
        intermediate: free what finished indexes do not need as well, as `intermediate` says.

    Raises:
        InputError: the age is below `LEAST_S`.
        CorruptFile: a record is damaged, so the files it names are not known; nothing was removed.
        StoreError: a folder cannot be listed, so its records are not known; nothing was removed.
    """
    if older_than_s < LEAST_S and not (forced or dry_run):
        raise InputError(
            f"gc leaves alone what is younger than {LEAST_S:,.0f} s, for a running job may be "
            f"writing it; got {older_than_s:,.0f} s: give more, or, if no job runs on this store, "
            "--force"
        )
    now = store_clock(store)
    found = take_inventory(store, on_progress=on_progress)
    if found.faults:
        first = found.faults[0]
        raise CorruptFile(
            f"{first.path} {first.problem}, so the files that it needs are not known and nothing "
            f"was removed: {cure(store)}"
        )
    roots = _roots(store)
    seen = survey(store, found, now, older_than_s)
    removed: list[StoredFile] = []
    for number, path in enumerate(seen.old):
        if path in seen.going and number % AT_ONCE == 0 and not _roots(store) <= roots:
            break  # a job has begun, or a tag was given: what it needs is not known yet
        if path in seen.going or not _named_meanwhile(store, path, seen.going):
            if not dry_run:
                store.discard(path)
            removed.append(found.files[path])
        on_progress(Progress("gc", number + 1, len(seen.old), number + 1, len(seen.old)))
    gone = {file.path for file in removed}
    young = tuple(found.files[path] for path in sorted(seen.every) if path not in gone)
    if not intermediate:
        return Collected(tuple(removed), young)
    freeing = seen.intermediates
    freed: list[StoredFile] = []
    for number, spare in enumerate(freeing.spare):
        if number % AT_ONCE == 0 and not _roots(store) <= roots:
            break
        if spare.path not in gone:
            freed += free(store, found, spare, dry_run=dry_run)
        count = len(freeing.spare)
        on_progress(Progress("gc --intermediate", number + 1, count, number + 1, count))
    return Collected(
        tuple(removed), young, tuple(freed), freeing.pictures, freeing.young_bytes, freeing.kept
    )


@dataclass(frozen=True)
class Survey:
    """What may go of a store.

    Attributes:
        going: the records among it that are old enough.
        every: the files that nothing needs, each with the age from which it may go, in seconds.
        old: those of them that are old enough, in the order in which they must go.
    """

    going: frozenset[str]
    every: dict[str, float]
    old: tuple[str, ...]
    intermediates: Intermediates


def survey(store: Store, found: Inventory, now: float, older_than_s: float) -> Survey:
    """Return what may go of a store whose records are all sound.

    Args:
        now: by the clock that dates the store's files.

    Raises:
        StoreError: a file that says what is alive is gone or damaged.
    """
    age = {path: now - file.modified for path, file in found.files.items()}
    alive = Alive(store, found, now, older_than_s)
    loose = _loose_records(found, alive, older_than_s)
    going = frozenset(path for path, least in loose.items() if age[path] > least)
    needed = needed_files(found, without=going)
    every = loose | {
        path: older_than_s
        for path in found.files
        if path not in found.records and path not in needed and _is_garbage(found, path)
    }
    old = sorted((path for path, least in every.items() if age[path] > least), key=_turn)
    spare = intermediates(found, alive, {path for path in age if age[path] > older_than_s})
    return Survey(going, every, tuple(old), spare)


AT_ONCE = 256
"""Records that are removed before it is seen again whether a job has begun."""

_ORDER = (tree.SNAPSHOT, tree.MANIFEST, tree.SEGMENT, tree.VOCABULARY, tree.JOB, tree.PLAN)


def _turn(path: str) -> tuple[int, str]:
    """Return a key to sort by: what names others goes before them, so that none is missed."""
    file = tree.read(path)
    if file is not None and file.row in _ORDER:
        return _ORDER.index(file.row), path
    is_record = file is not None and file.kind == "record"
    return len(_ORDER) + (0 if is_record else 1), path


def _loose_records(found: Inventory, alive: Alive, age_s: float) -> dict[str, float]:
    """Return the records that nothing needs, and from what age on each may go, in seconds."""
    loose = dict.fromkeys(spent(found), age_s)
    gone = {record.number for _, record in found.of(Expired)}
    for path, snapshot in found.of(IndexSnapshot):
        if snapshot.number in gone:
            loose[path] = float("-inf")  # whoever removed it died before the end
    for path in found.records:
        least = may_go_at(path, age_s)
        if least is not None and not alive.reaches(path):
            loose[path] = least
    return loose


def _roots(store: Store) -> set[str]:
    """Return what everything alive is reached from; a new one means that a job has begun."""
    return {f"{top}/{name}" for top in ("jobs", "snapshots", "tags") for name in store.names(top)}


def _is_garbage(found: Inventory, path: str) -> bool:
    """Say whether a file that no record names is unneeded; a verdict is once its task is done."""
    file = tree.read(path)
    if file is not None and file.kind == "verdict":
        return tree.done(file.folder, file.key) in found.records
    return file is not None and file.kind in ("data", "leftover")


def _named_meanwhile(store: Store, path: str, going: Set[str]) -> bool:
    """Say whether the done record of a file's task has been created since and names the file."""
    file = tree.read(path)
    if file is None or not file.key or tree.done(file.folder, file.key) in going:
        return False
    record = read_done(store, file.folder, file.key)
    return record is not None and any(each.path == path for each in record.files.values())
