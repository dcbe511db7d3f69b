"""What a store holds and what must be there: every record read, every file that one names."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.errors import CorruptFile, MissingFile, NewerFormat
from pipeline.store.records import RecordT, is_sealed, parse_record
from pipeline.store.storage import CUT_SHORT, Store, StoredFile
from schemas.base import Record
from schemas.corpus import CorpusManifest
from schemas.files import DoneRecord, FileRef
from schemas.job_record import JobRecord
from schemas.plan import Plan
from schemas.rankings import QueryRun
from schemas.report import RetrievalReport
from schemas.snapshot import IndexSnapshot, Promotion
from schemas.vocabulary import Vocabulary

PROBE, PROBE_BYTES = "probe/create-only", b"lamella\n"

KINDS: tuple[tuple[re.Pattern[str], type[Record]], ...] = (
    (re.compile(r"jobs/[^/]+\.json"), JobRecord),
    (re.compile(r"plans/[^/]+/\d{6}\.json"), Plan),
    (re.compile(r"corpora/[^/]+/manifest\.json"), CorpusManifest),
    (re.compile(r"vocabularies/[^/]+/[^/]+/vocabulary\.json"), Vocabulary),
    (re.compile(r"snapshots/\d{6}\.json"), IndexSnapshot),
    (re.compile(r"promotions/\d{6}\.json"), Promotion),
    (re.compile(r"runs/[^/]+/report\.json"), RetrievalReport),
    (re.compile(r"runs/[^/]+/run\.json"), QueryRun),
    (re.compile(r".+/done/[^/]+\.json"), DoneRecord),
)
NEWER = "is newer: "
"""How the problem of a record begins that a newer version wrote: nothing here can mend it."""

PAGE = re.compile(r"runs/[^/]+/report\.html")


@dataclass(frozen=True)
class Fault:
    """A file that is not what it must be: damaged, gone, or contrary to its neighbours."""

    path: str
    problem: str


@dataclass
class Inventory:
    """The files of a store by path, its readable records, and the faults of the others."""

    files: dict[str, StoredFile] = field(default_factory=dict)
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
    """
    found = Inventory({file.path: file for file in store.walk(prefix)})
    for path in sorted(found.files):
        if record_kind(path) is None:
            continue
        try:
            data = store.read(path)
        except MissingFile:
            del found.files[path]
            continue
        record, problem = read_bytes(store, path, data)
        if problem is not None:
            found.faults.append(Fault(path, problem))
        elif record is not None:
            found.records[path] = record
    return found


def record_kind(path: str) -> type[Record] | None:
    """Return what kind of record lies under a path, None for any other file."""
    return next((kind for pattern, kind in KINDS if pattern.fullmatch(path)), None)


def read_bytes(store: Store, path: str, data: bytes) -> tuple[Record | None, str | None]:
    """Return the record in a file, or what is wrong with it."""
    kind = record_kind(path)
    if kind is None:
        raise ValueError(f"{path} is no record")
    try:
        record = parse_record(store, path, kind, data)
    except NewerFormat as error:
        return None, f"{NEWER}{str(error).partition(': ')[2]}"
    except CorruptFile as error:
        return None, str(error).removeprefix(f"{path} ").removeprefix(f"{path}: ").split(";")[0]
    return record, None


def plain_problem(path: str, data: bytes) -> str | None:
    """Return what is wrong with a file that no record names but that is no orphan."""
    if path == PROBE and data != PROBE_BYTES:
        return "holds other bytes than were written"
    if PAGE.fullmatch(path) and not is_sealed(data):
        return "was changed since it was written: its seal does not fit"
    return None


def stands_alone(path: str) -> bool:
    """Say whether a file needs no record that names it: a record, the probe, a sealed page."""
    return record_kind(path) is not None or path == PROBE or PAGE.fullmatch(path) is not None


def is_cut_short(path: str) -> bool:
    """Say whether a file is a write that never ended."""
    return CUT_SHORT.fullmatch(path.rpartition("/")[2]) is not None


def named_files(record: Record) -> Iterator[FileRef]:
    """Yield the files that a record names."""
    if isinstance(record, DoneRecord):
        yield from record.files.values()
    elif isinstance(record, CorpusManifest):
        yield from (shard.file for shard in record.shards)
    elif isinstance(record, Vocabulary):
        yield from record.files()
    elif isinstance(record, IndexSnapshot):
        yield from (shard.file for shard in record.shards)
        for vocabulary in record.vocabularies.values():
            yield from named_files(vocabulary)
        for segment in record.segments:
            yield from segment.files.values()
        yield from record.document_frequencies.values()
    elif isinstance(record, QueryRun):
        yield from (*record.rankings, *record.refusals)
