"""The inventory of a store: its files, its records, and the files that records name.

Files that Lamella did not write, such as a person's notes, are counted and otherwise left alone.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from lamella.pipeline.errors import CorruptFile, MissingFile, NewerFormat, OlderFormat, StoreError
from lamella.pipeline.run.drive import READERS, OnProgress, Progress, quiet
from lamella.pipeline.store.form import CUT_SHORT
from lamella.pipeline.store.protocol import Store, StoredFile
from lamella.pipeline.store.records import RecordT, is_sealed, parse_record
from lamella.pipeline.store.tree import MARKER, MARKER_BYTES, kind_of, record_of, tops
from lamella.schemas.base import Record
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.files import DoneRecord, FileRef
from lamella.schemas.rankings import QueryRun
from lamella.schemas.snapshot import IndexSnapshot, SegmentManifest
from lamella.schemas.vocabulary import Vocabulary

IN_THE_WAY = ", and a store holds regular files: move it away"
"""The end of the problem of a link, a pipe or a misplaced folder, which only a person can mend."""

OTHER_FORMAT = "is of another version: "
"""The beginning of the problem of a record that another version wrote; it cannot be mended here."""


SAID_EVERY = 100
"""Records between two reports of progress."""


@dataclass(frozen=True)
class Fault:
    """A file that is damaged, missing, or contradicts other records."""

    path: str
    problem: str


@dataclass
class Inventory:
    """What is in a store.

    Attributes:
        files: files that Lamella wrote, by path.
        strangers: files that Lamella did not write: no row of the tree has their paths.
        records: the readable records, by path.
        faults: what is wrong with the other records.
    """

    files: dict[str, StoredFile] = field(default_factory=dict)
    strangers: list[StoredFile] = field(default_factory=list)
    records: dict[str, Record] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def of(self, kind: type[RecordT]) -> list[tuple[str, RecordT]]:
        """Return the records of a type with their paths, in order of the paths."""
        return [
            (path, record)
            for path, record in sorted(self.records.items())
            if isinstance(record, kind)
        ]

    def references(self) -> dict[str, dict[str, FileRef]]:
        """Return by path each file that records name: its reference in each of these records."""
        found: dict[str, dict[str, FileRef]] = {}
        for path in sorted(self.records):
            for reference in named_files(self.records[path]):
                found.setdefault(reference.path, {})[path] = reference
        return found


def take_inventory(store: Store, prefix: str = "", *, on_progress: OnProgress = quiet) -> Inventory:
    """List every file of a store, or of a folder in it, and read every record.

    Records that a running job removes meanwhile, such as those of a round's sums, are left out.
    Several are read at once, because a request to S3 takes a while.

    Raises:
        StoreError: a folder cannot be listed.
    """
    found = Inventory()
    for file in _listed(store, prefix):
        if file.problem and _is_in_the_way(file.path):
            found.faults.append(Fault(file.path, f"{file.problem}{IN_THE_WAY}"))
        elif kind_of(file.path) is None or file.problem:
            found.strangers.append(file)
        else:
            found.files[file.path] = file
    paths = [path for path in sorted(found.files) if record_of(path) is not None]
    with ThreadPoolExecutor(READERS) as pool:
        read = pool.map(partial(_read, store), paths)
        for number, (path, outcome) in enumerate(zip(paths, read, strict=True)):
            if number % SAID_EVERY == 0:
                on_progress(Progress("records", number, len(paths), number, len(paths)))
            if outcome is None:
                del found.files[path]
            elif isinstance(outcome, Fault):
                found.faults.append(outcome)
            else:
                found.records[path] = outcome
    on_progress(Progress("records", len(paths), len(paths), len(paths), len(paths)))
    return found


def _read(store: Store, path: str) -> Record | Fault | None:
    """Return a record, or what is wrong with it; None where it is gone."""
    try:
        record, problem = read_bytes(store, path, store.read(path))
    except MissingFile:
        return None
    except (CorruptFile, OSError) as error:
        return Fault(path, _without_path(path, error))
    return record if problem is None and record is not None else Fault(path, problem or "")


def _listed(store: Store, prefix: str) -> Iterator[StoredFile]:
    try:
        yield from store.walk(prefix)
    except OSError as error:
        raise StoreError(
            f"{error.filename} cannot be listed ({error.strerror}), so what the store holds is not "
            "known and nothing was changed: give this user the right to read it, or mend the disk"
        ) from error


def _is_in_the_way(path: str) -> bool:
    """Say whether a link, pipe or the like is where the store's own files and folders belong.

    A linked folder is not followed, so it may hide files of the store.
    """
    top = path.partition("/")[0]
    return top in tops() or path == MARKER


def _without_path(path: str, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    return str(error).removeprefix(f"{path} ").removeprefix(f"{path}: ").split(";")[0]


def read_bytes(store: Store, path: str, data: bytes) -> tuple[Record | None, str | None]:
    """Return the record in these bytes of a file, or what is wrong with it."""
    kind = record_of(path)
    if kind is None:
        raise ValueError(f"{path} is no record")
    try:
        record = parse_record(store, path, kind, data)
    except (NewerFormat, OlderFormat) as error:
        return None, f"{OTHER_FORMAT}{str(error).partition(': ')[2]}"
    except CorruptFile as error:
        return None, _without_path(path, error)
    return record, None


def plain_problem(path: str, data: bytes) -> str | None:
    """Return what is wrong with the marker or a page, None if nothing is."""
    if path == MARKER and data != MARKER_BYTES:
        return "holds other bytes than were written"
    if kind_of(path) == "page" and not is_sealed(data):
        return "was changed since it was written: its seal does not fit"
    return None


def stands_alone(path: str) -> bool:
    """Say whether a file belongs in the store although no record names it, such as a record."""
    return kind_of(path) in ("record", "marker", "page", "verdict")


def is_cut_short(path: str) -> bool:
    """Say whether a file is a write that was cut short."""
    return CUT_SHORT.fullmatch(path.rpartition("/")[2]) is not None


def named_files(record: Record) -> Iterator[FileRef]:
    """Yield the files that a record names."""
    if isinstance(record, DoneRecord):
        yield from record.files.values()
    elif isinstance(record, CorpusManifest | SegmentManifest):
        yield from (file for shard in record.shards for file in shard.files)
    elif isinstance(record, Vocabulary | IndexSnapshot):
        yield from record.files()
    elif isinstance(record, QueryRun):
        yield from (*record.rankings, *record.refusals)
