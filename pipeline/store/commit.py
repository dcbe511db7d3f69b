"""Commits: write data files first, create the done record last, and read it back if in doubt.

A task's files exist for others only once its done record names them, and a done record is created
at most once. So a task may be run twice, even at the same time, and the first to finish wins.
"""

import hashlib
import secrets
import struct
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
from lamella.pipeline.meters import STORED_BYTES
from lamella.pipeline.scratch import scratch
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
    """Create a small file if it does not exist; return the bytes that are in the store afterwards.

    If the reply to a create is lost, a retry finds its own file and fails. So after any error the
    file is read back, and the bytes say who won.

    Raises:
        CommitUnknown: the create failed and the file cannot be read back; nothing was deleted.
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
            ) from unreadable


@dataclass
class Attempt:
    """One try at a task. Its files count only after `finish` has created the done record.

    Attributes:
        folder: the folder of the step.
        stage: the name of the step's kind, for the done record.
        key: the key of the task.
        inputs: the digest that the done record is made from.
        scratch: a local folder for temporary files, removed with the attempt.
        token: in the names of its files, so that attempts do not overwrite each other.
        files: the files put so far, by the name that the done record gives them.
        machine: the kind of machine, if results depend on it; the extract step sets it.
    """

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
        """Write a file locally, hash it, and put it into the store under this attempt's token.

        Args:
            name: its name in the done record.
            folder: its folder in the store: `self.folder`, or one right below it.
            suffix: what its name ends in, such as `parquet`.
            fill: writes the local file and returns its number of rows.
        """
        local = self.scratch / f"written-{len(self.files)}.{suffix}"
        return self.add(name, folder, suffix, local, fill(local))

    def add(self, name: str, folder: str, suffix: str, local: Path, rows: int) -> FileRef:
        """Hash a finished local file and put it into the store under this attempt's token."""
        path = tree.data_file(folder, self.key, self.token, suffix)
        reference = FileRef(
            path=path, size_bytes=local.stat().st_size, sha256=sha256_of(local), rows=rows
        )
        self.store.put(path, local)
        STORED_BYTES.add(reference.size_bytes)
        local.unlink()
        self.files[name] = reference
        sign()
        return reference

    def finish(self, **counts: int) -> DoneRecord:
        """Create the done record; if another attempt was first, return its record instead.

        Raises:
            CommitConflict: there is a record that was made from other inputs.
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
        """Replace an earlier done record atomically. Only upkeep calls this."""
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
    """Begin a try at a task; its scratch folder is removed at the end of the block."""
    with scratch(f"{stage}-{key}") as files:
        yield Attempt(store, folder, stage, key, inputs, files)


def step_folders(store: Store, step: tree.StepKind) -> list[str]:
    """Return all folders of a step, such as those of all corpora.

    Args:
        step: its form has two parts, of which only the second varies, such as `corpora/{keyed}`.
    """
    top = step.form.text.partition("/")[0]
    found = (f"{top}/{name}" for name in store.folders(top))
    return [folder for folder in found if step.form.read(folder) is not None]


def done_keys(store: Store, folder: str) -> list[str]:
    """Return the keys of the tasks that are done in a step's folder, in order."""
    names = store.names(tree.done(folder, "").rpartition("/")[0])
    found = (tree.read(tree.done(folder, name.removesuffix(".json"))) for name in names)
    return [each.key for each in found if each is not None and each.kind == "record"]


def read_done(store: Store, folder: str, key: str) -> DoneRecord | None:
    """Return a task's done record, None if the task is not done."""
    try:
        return read_record(store, tree.done(folder, key), DoneRecord)
    except MissingFile:
        return None


def open_committed(store: Store, reference: FileRef, *, verify: bool = True) -> Path:
    """Check the size and the SHA-256 of a committed file; return a local path of it.

    Args:
        verify: whether to check the SHA-256; the size is always checked.

    Raises:
        MissingFile: the file is not there.
        CorruptFile: its size or its SHA-256 differs from the record.
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
        # Only the local copy may be damaged: fetch it again.
        local = store.local_path(reference.path, reference, afresh=True)
    if verify and (found := sha256_of(local)) != reference.sha256:
        raise CorruptFile(
            f"{reference.path} has SHA-256 {found[:12]}, {reference.sha256[:12]} in its "
            f"record: {cure(store)}"
        )
    sign()
    return local


def read_committed(store: Store, reference: FileRef, read: Callable[[Path], T]) -> T:
    """Check a committed file and return what `read` returns for its local path.

    The SHA-256 shows that it is the file that the record names. It does not show that its contents
    make sense: a stranger's store may have sound records of nonsense. `read` must check that.

    Raises:
        MissingFile, CorruptFile: as `open_committed`.
        CorruptFile: `read` raised one of `WRONG_FORM`.
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
"""What readers raise if the bytes of a file do not have the form that they should have."""
