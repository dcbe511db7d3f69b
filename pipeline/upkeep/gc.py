"""`gc`: remove files that no record names and that are too old for a job to be writing them.

The files of an attempt are not named by a record until its done record is created, so their age, by
the store's own clock, protects a running job. An attempt writes its files at its end, each one is
a sign of progress, and a task without signs is ended after `engine.task_timeout_s`. In addition,
`gc` reads the done record that would name a file again right before it removes the file.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from lamella.pipeline.errors import CorruptFile, InputError, MissingFile
from lamella.pipeline.run.drive import OnProgress, Progress, quiet
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import read_done
from lamella.pipeline.store.protocol import Store, StoredFile
from lamella.pipeline.store.records import cure
from lamella.pipeline.upkeep.inventory import Inventory, take_inventory
from lamella.schemas.files import DoneRecord
from lamella.schemas.job import EngineSettings

DAY_S = 86_400.0
LEAST_S = EngineSettings().task_timeout_s
"""Younger files may belong to a task that is still running."""


@dataclass(frozen=True)
class Collected:
    """The files that were removed, or would be; and those that are unneeded but too young."""

    removed: tuple[StoredFile, ...]
    young: tuple[StoredFile, ...]

    @property
    def size_bytes(self) -> int:
        """The bytes that were removed."""
        return sum(file.size_bytes for file in self.removed)


def collect_garbage(
    store: Store,
    *,
    older_than_s: float = DAY_S,
    dry_run: bool = False,
    forced: bool = False,
    on_progress: OnProgress = quiet,
) -> Collected:
    """Remove files that no snapshot, vocabulary, done record or running job needs.

    These are data files that no record names, writes that were cut short, verdicts on pictures of
    shards that are done, and sums of rounds whose checkpoint is there. Files that Lamella did not
    write stay.

    Args:
        older_than_s: only remove files older than this.
        dry_run: remove nothing, only return what would be removed.
        forced: allow an age below `LEAST_S`; then no job may run on the store.

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
    found = take_inventory(store)
    if found.faults:
        first = found.faults[0]
        raise CorruptFile(
            f"{first.path} {first.problem}, so the files that it needs are not known and nothing "
            f"was removed: {cure(store)}"
        )
    spent = {path: record for path, record in found.of(DoneRecord) if _is_spent(found, path)}
    needed = {
        path
        for path, named_by in found.references().items()
        if any(record not in spent for record in named_by)
    }
    loose = [
        file
        for path, file in sorted(found.files.items())
        if path in spent or (path not in needed and _is_garbage(found, path))
    ]
    old = [file for file in loose if now - file.modified > older_than_s]
    # Remove a record before the files it names, so that no record names a missing file.
    old.sort(key=lambda file: file.path not in spent)
    removed: list[StoredFile] = []
    for number, file in enumerate(old):
        if file.path in spent or not _named_meanwhile(store, file.path, set(spent)):
            if not dry_run:
                store.discard(file.path)
            removed.append(file)
        on_progress(Progress("gc", number + 1, len(old), number + 1, len(old)))
    kept = {file.path for file in removed}
    return Collected(tuple(removed), tuple(file for file in loose if file.path not in kept))


def _is_garbage(found: Inventory, path: str) -> bool:
    """Say whether a file that no record names is unneeded; a verdict is once its task is done."""
    file = tree.read(path)
    if file is not None and file.kind == "verdict":
        return tree.done(file.folder, file.key) in found.records
    return file is not None and file.kind in ("data", "leftover")


def _is_spent(found: Inventory, path: str) -> bool:
    """Say whether a done record is one of a round's sums, and the round's checkpoint is there."""
    file = tree.read(path)
    return file is not None and file.until() in found.records


def _named_meanwhile(store: Store, path: str, spent: set[str]) -> bool:
    """Say whether the done record of a file's task has been created since and names the file."""
    file = tree.read(path)
    if file is None or not file.key or tree.done(file.folder, file.key) in spent:
        return False
    record = read_done(store, file.folder, file.key)
    return record is not None and any(each.path == path for each in record.files.values())


def store_clock(store: Store) -> float:
    """Write a file to the store and return its time: the time by the store's own clock.

    Raises:
        MissingFile: the file is not listed after it was written.
    """
    path = tree.CLOCK.at(token=token_hex(6))
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch, "clock")
        local.write_bytes(b"")
        store.put(path, local)
    try:
        for file in store.walk("probe"):
            if file.path == path:
                return file.modified
        raise MissingFile(f"{path} was written and is not listed in {store.url}")
    finally:
        store.discard(path)
