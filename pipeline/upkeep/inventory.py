"""What a store holds and what must be there: every record read, every file that one names.

Files that are not ours, such as a person's notes, are counted and otherwise left alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from lamella.pipeline.errors import CorruptFile, MissingFile, NewerFormat, StoreError
from lamella.pipeline.store.protocol import Store, StoredFile
from lamella.pipeline.store.records import RecordT, is_sealed, parse_record
from lamella.pipeline.store.tree import CUT_SHORT, MARKER, MARKER_BYTES, kind_of, record_of, tops
from lamella.schemas.base import Record
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.files import DoneRecord, FileRef
from lamella.schemas.rankings import QueryRun
from lamella.schemas.snapshot import IndexSnapshot
from lamella.schemas.vocabulary import Vocabulary

IN_THE_WAY = ", and a store holds regular files: move it away"
"""How the problem of a link, a pipe or a misplaced folder ends: nobody but a person can mend it."""

NEWER = "is newer: "
"""How the problem of a record begins that a newer version wrote: nothing here can mend it."""


@dataclass(frozen=True)
class Fault:
    """A file that is not what it must be: damaged, gone, or contrary to its neighbours."""

    path: str
    problem: str


@dataclass
class Inventory:
    """The files of a store by path, its readable records, and the faults of the others.

    `strangers` are files that are not ours: their names are none that a store gives.
    """

    files: dict[str, StoredFile] = field(default_factory=dict)
    strangers: list[StoredFile] = field(default_factory=list)
    records: dict[str, Record] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def of(self, kind: type[RecordT]) -> list[tuple[str, RecordT]]:
        """Return the records of a kind with their paths, in order of the paths."""
        return [
            (path, record)
            for path, record in sorted(self.records.items())
            if isinstance(record, kind)
        ]

    def references(self) -> dict[str, dict[str, FileRef]]:
        """Return for each file that must be there the records that name it, and what they say."""
        found: dict[str, dict[str, FileRef]] = {}
        for path in sorted(self.records):
            for reference in named_files(self.records[path]):
                found.setdefault(reference.path, {})[path] = reference
        return found


def take_inventory(store: Store, prefix: str = "") -> Inventory:
    """Read every record of a store, or of a folder of it, and note every file.

    What is removed while it is read, as a round's sums are, is left out.

    Raises:
        StoreError: a folder cannot be listed, so what is in it is not known.
    """
    found = Inventory()
    for file in _listed(store, prefix):
        if file.problem and _is_in_the_way(file.path):
            found.faults.append(Fault(file.path, f"{file.problem}{IN_THE_WAY}"))
        elif kind_of(file.path) is None or file.problem:
            found.strangers.append(file)
        else:
            found.files[file.path] = file
    for path in sorted(found.files):
        if record_of(path) is None:
            continue
        try:
            record, problem = read_bytes(store, path, store.read(path))
        except MissingFile:
            del found.files[path]
            continue
        except (CorruptFile, OSError) as error:
            record, problem = None, _without_path(path, error)
        if problem is not None:
            found.faults.append(Fault(path, problem))
        elif record is not None:
            found.records[path] = record
    return found


def _listed(store: Store, prefix: str) -> Iterator[StoredFile]:
    try:
        yield from store.walk(prefix)
    except OSError as error:
        raise StoreError(
            f"{error.filename} cannot be listed ({error.strerror}), so what the store holds is not "
            "known and nothing was changed: give this user the right to read it, or mend the disk"
        ) from error


def _is_in_the_way(path: str) -> bool:
    """Say whether a link, pipe or the like stands where a store has files or folders of its own.

    A linked folder hides what is in it, so nothing can be said of what it may hold.
    """
    top = path.partition("/")[0]
    return top in tops() or path == MARKER


def _without_path(path: str, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    return str(error).removeprefix(f"{path} ").removeprefix(f"{path}: ").split(";")[0]


def read_bytes(store: Store, path: str, data: bytes) -> tuple[Record | None, str | None]:
    """Return the record in a file, or what is wrong with it."""
    kind = record_of(path)
    if kind is None:
        raise ValueError(f"{path} is no record")
    try:
        record = parse_record(store, path, kind, data)
    except NewerFormat as error:
        return None, f"{NEWER}{str(error).partition(': ')[2]}"
    except CorruptFile as error:
        return None, _without_path(path, error)
    return record, None


def plain_problem(path: str, data: bytes) -> str | None:
    """Return what is wrong with a file that no record names but that is no orphan."""
    if path == MARKER and data != MARKER_BYTES:
        return "holds other bytes than were written"
    if kind_of(path) == "page" and not is_sealed(data):
        return "was changed since it was written: its seal does not fit"
    return None


def stands_alone(path: str) -> bool:
    """Say whether a file needs no record that names it: such as a record, or the marker."""
    return kind_of(path) in ("record", "marker", "page", "verdict")


def is_cut_short(path: str) -> bool:
    """Say whether a file is a write that never ended."""
    return CUT_SHORT.fullmatch(path.rpartition("/")[2]) is not None


def named_files(record: Record) -> Iterator[FileRef]:
    """Yield the files that a record names."""
    if isinstance(record, DoneRecord):
        yield from record.files.values()
    elif isinstance(record, CorpusManifest):
        yield from (shard.file for shard in record.shards)
    elif isinstance(record, Vocabulary | IndexSnapshot):
        yield from record.files()
    elif isinstance(record, QueryRun):
        yield from (*record.rankings, *record.refusals)
