"""`gc`: files that no record names, once they are so old that no job can still be writing them.

What protects a running job is age, by the store's own clock: an attempt's files become needed
when its done record is created. It writes them at its end, and each is a sign of progress, without
which it is ended after `engine.task_timeout_s`. Beside that, the record that would name a file is
read once more right before the file goes.
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
"""What is younger may be of a task that still runs."""


@dataclass(frozen=True)
class Collected:
    """What was removed, or would be; and what nothing names but is too young to go."""

    removed: tuple[StoredFile, ...]
    young: tuple[StoredFile, ...]

    @property
    def size_bytes(self) -> int:
        """How many bytes were removed."""
        return sum(file.size_bytes for file in self.removed)


def collect_garbage(
    store: Store,
    *,
    older_than_s: float = DAY_S,
    dry_run: bool = False,
    forced: bool = False,
    on_progress: OnProgress = quiet,
) -> Collected:
    """Remove what no snapshot, vocabulary, done record or running job needs.

    Those are data files that no record names, writes that were cut short, verdicts on pictures of
    shards that are done, and the sums of rounds whose checkpoint stands; each only if it is older
    than the age. What is not ours stays.

    Args:
        forced: take an age below `LEAST_S`; then no job may run on the store.

    Raises:
        InputError: the age is below `LEAST_S`.
        CorruptFile: a record is damaged, so what it names is not known; nothing was removed.
        StoreError: a folder cannot be listed, so what its records name is not known either.
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
    # A record goes before the files it names, so that none ever names a file that is gone.
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
    """Say whether a file goes if no record names it: a verdict does once its task is done."""
    file = tree.read(path)
    if file is not None and file.kind == "verdict":
        return tree.done(file.folder, file.key) in found.records
    return file is not None and file.kind in ("data", "leftover")


def _is_spent(found: Inventory, path: str) -> bool:
    """Say whether a done record is of a round's sums, and the round's checkpoint stands."""
    file = tree.read(path)
    return file is not None and file.until() in found.records


def _named_meanwhile(store: Store, path: str, spent: set[str]) -> bool:
    """Say whether the done record of a file's task names it after all."""
    file = tree.read(path)
    if file is None or not file.key or tree.done(file.folder, file.key) in spent:
        return False
    record = read_done(store, file.folder, file.key)
    return record is not None and any(each.path == path for each in record.files.values())


def store_clock(store: Store) -> float:
    """Return the time by the store's own clock, by writing a file there and looking at it.

    Raises:
        MissingFile: the file is not seen after it was written.
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
