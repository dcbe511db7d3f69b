"""Commits: data files first, the done record last and create-only; on doubt, read back."""

import hashlib
import secrets
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pyarrow import ArrowException

from lamella.pipeline.errors import (
    CommitConflict,
    CommitUnknown,
    CorruptFile,
    MissingFile,
    StoreError,
    StoreUnavailable,
    one_line,
)
from lamella.pipeline.signs import sign
from lamella.pipeline.store import tree
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import cure, parse_record, read_record
from lamella.schemas.files import DoneRecord, FileRef

T = TypeVar("T")


def sha256_of(path: Path) -> str:
    """Return the SHA-256, in hex, of a local file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def create_once(store: Store, path: str, data: bytes) -> bytes:
    """Create a small file, or find that it exists; return what the store then holds.

    A lost reply makes a winner see its own refusal, so after any error the file is read back:
    the bytes returned say who won.

    Raises:
        CommitUnknown: the create failed and the outcome cannot be read; nothing was deleted.
    """
    try:
        store.create(path, data)
        return data
    except (CommitConflict, StoreUnavailable, OSError) as error:
        try:
            return store.read(path)
        except (StoreError, OSError) as unreadable:
            raise CommitUnknown(
                f"creating {path} failed ({error}) and it cannot be read back ({unreadable}): "
                "nothing was deleted; run the same command again"
            ) from error


@dataclass
class Attempt:
    """One try at a task: files written here become real only through `finish`."""

    store: Store
    folder: str
    stage: str
    key: str
    inputs: str
    scratch: Path
    token: str = field(default_factory=lambda: secrets.token_hex(6))
    files: dict[str, FileRef] = field(default_factory=dict)
    machine: str = ""

    def write(self, name: str, folder: str, suffix: str, fill: Callable[[Path], int]) -> FileRef:
        """Make a file locally, hash it, and put it once under this attempt's own name.

        Args:
            name: what the done record calls it.
            folder: where it goes, from `tree`.
            suffix: the end of its name, such as `parquet`.
            fill: writes the local file and returns its number of rows.
        """
        local = self.scratch / f"written-{len(self.files)}.{suffix}"
        return self.add(name, folder, suffix, local, fill(local))

    def add(self, name: str, folder: str, suffix: str, local: Path, rows: int) -> FileRef:
        """Hash a finished local file and put it once under this attempt's own name."""
        path = tree.data_file(folder, self.key, self.token, suffix)
        reference = FileRef(
            path=path, size_bytes=local.stat().st_size, sha256=sha256_of(local), rows=rows
        )
        self.store.put(path, local)
        local.unlink()
        self.files[name] = reference
        sign()
        return reference

    def finish(self, **counts: int) -> DoneRecord:
        """Create the done record; the first attempt wins, and its record is returned.

        Raises:
            CommitConflict: a record made from other inputs is there.
            CommitUnknown: the outcome cannot be read back.
        """
        path, record = tree.done(self.folder, self.key), self._record(counts)
        won = parse_record(
            self.store, path, DoneRecord, create_once(self.store, path, record.to_json())
        )
        if won.inputs != self.inputs:
            raise CommitConflict(
                f"{path} was made from inputs {won.inputs[:12]}, this task from "
                f"{self.inputs[:12]}: the folder belongs to another job, use another store"
            )
        return won

    def finish_anew(self, **counts: int) -> DoneRecord:
        """Put the done record in the place of an earlier one, in one step: for upkeep alone."""
        record = self._record(counts)
        self.store.replace(tree.done(self.folder, self.key), record.to_json())
        return record

    def _record(self, counts: dict[str, int]) -> DoneRecord:
        return DoneRecord(
            stage=self.stage,
            key=self.key,
            inputs=self.inputs,
            files=self.files,
            counts=counts,
            commit_id=self.token,
            machine=self.machine,
        )


@contextmanager
def attempt(store: Store, folder: str, stage: str, key: str, inputs: str) -> Iterator[Attempt]:
    """Open a try at a task, with a scratch folder that vanishes with it."""
    with tempfile.TemporaryDirectory(prefix=f"lamella-{stage}-{key}-") as scratch:
        yield Attempt(store, folder, stage, key, inputs, Path(scratch))


def step_folders(store: Store, step: tree.StepKind) -> list[str]:
    """Return the folders of a step whose form has one part that varies, such as a corpus's."""
    top = step.form.text.partition("/")[0]
    found = (f"{top}/{name}" for name in store.folders(top))
    return [folder for folder in found if step.form.read(folder) is not None]


def done_keys(store: Store, folder: str) -> list[str]:
    """Return the keys of the tasks of a step's folder that are done, in order."""
    names = store.names(tree.done(folder, "").rpartition("/")[0])
    found = (tree.read(tree.done(folder, name.removesuffix(".json"))) for name in names)
    return [each.key for each in found if each is not None and each.kind == "record"]


def read_done(store: Store, folder: str, key: str) -> DoneRecord | None:
    """Return a task's done record, or None where the task is not done."""
    try:
        return read_record(store, tree.done(folder, key), DoneRecord)
    except MissingFile:
        return None


def open_committed(store: Store, reference: FileRef, *, verify: bool = True) -> Path:
    """Return a local path of a committed file after checking its size and its SHA-256.

    Raises:
        MissingFile: it is not there.
        CorruptFile: its size is another, or its SHA-256 unless `verify` is off.
    """
    try:
        size_bytes = store.size_bytes(reference.path)
    except MissingFile:
        raise MissingFile(
            f"{reference.path} is not in {store.url}, and a record names it: {cure(store)}"
        ) from None
    if size_bytes != reference.size_bytes:
        raise CorruptFile(
            f"{reference.path} has {size_bytes:,} bytes, {reference.size_bytes:,} in its "
            f"record: {cure(store)}"
        )
    local = store.local_path(reference.path, reference)
    if verify and sha256_of(local) != reference.sha256:
        # It may be a copy on local disk that is damaged, and not the file.
        local = store.local_path(reference.path, reference, afresh=True)
    if verify and (found := sha256_of(local)) != reference.sha256:
        raise CorruptFile(
            f"{reference.path} has SHA-256 {found[:12]}, {reference.sha256[:12]} in its "
            f"record: {cure(store)}"
        )
    sign()
    return local


def read_committed(store: Store, reference: FileRef, read: Callable[[Path], T]) -> T:
    """Return what `read` makes of a committed file, once its size and SHA-256 are checked.

    A SHA-256 says that the file is the one that a record names, and not that it is of any form.

    Raises:
        MissingFile, CorruptFile: as `open_committed`.
        CorruptFile: `read` finds that it is not of the form it must have.
    """
    path = open_committed(store, reference)
    try:
        return read(path)
    except WRONG_FORM as error:
        raise CorruptFile(
            f"{reference.path} has the SHA-256 on record and not the form that it must have: "
            f"{one_line(error)}; so it was written wrong, by whoever made {store.url}: index anew, "
            "or use a store that you trust"
        ) from error


WRONG_FORM = (ArrowException, ValueError, TypeError, LookupError, ArithmeticError, struct.error)
"""What reading raises where the bytes are not of the form that they should have."""
