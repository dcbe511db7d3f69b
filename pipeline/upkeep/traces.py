"""Find a picture in a store's files, and remove the files that name it or show it.

Image tables say which pictures have a name or a hash, and in which shards they stand. So `forget`
removes those tables last: if it is stopped, the same command finds them again.
"""

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from lamella.pipeline.corpus.image_table import read_images
from lamella.pipeline.corpus.stage import shard_key
from lamella.pipeline.errors import CorruptFile
from lamella.pipeline.scratch import scratch
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import WRONG_FORM, sha256_of
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.upkeep.contents import Says
from lamella.pipeline.upkeep.inventory import Inventory, named_files
from lamella.pipeline.vocabulary.sample import read_sample, write_sample
from lamella.schemas.files import DoneRecord, FileRef
from lamella.schemas.rankings import QueryRun
from lamella.schemas.report import RetrievalReport
from lamella.schemas.snapshot import IndexSnapshot
from lamella.schemas.vocabulary import Vocabulary


@dataclass
class Pictures:
    """What a store knows of the pictures to forget: their rows of image tables.

    Attributes:
        ids, names, hashes: of the pictures; hashes in hex.
        tables: the paths of the image tables that hold them.
        shards: the keys of the shards with such a table.
        looks: folder and key of the look that made each table.
    """

    ids: set[int] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    hashes: set[str] = field(default_factory=set)
    tables: set[str] = field(default_factory=set)
    shards: set[str] = field(default_factory=set)
    looks: set[tuple[str, str]] = field(default_factory=set)


@contextmanager
def fetched(store: Store, path: str) -> Iterator[Path]:
    """Give a copy of a stored file that is gone afterwards, and leaves none in any cache.

    Raises:
        MissingFile: the file is not there.
    """
    with scratch("copy") as files:
        local = files / "file"
        with local.open("wb") as file:
            for chunk in store.chunks(path):
                file.write(chunk)
        yield local


def tables_of(store: Store) -> Iterator[str]:
    """Yield the paths of all image tables, those of dead attempts too."""
    for file in store.walk("looks"):
        found = tree.read(file.path)
        if found is not None and found.kind == "data" and found.place == "images":
            yield file.path


def find_pictures(store: Store, by: Literal["name", "sha256"], value: str) -> Pictures:
    """Return the pictures with a name, or with bytes of this SHA-256 (small hex).

    Raises:
        CorruptFile: an image table is damaged, so what it holds is not known.
    """
    found = Pictures()
    wanted = pa.scalar(value) if by == "name" else pa.scalar(bytes.fromhex(value), pa.binary(32))
    for path in tables_of(store):
        with _table(store, path) as (local, table):
            rows = table.filter(pc.equal(table.column(by), wanted)).to_pylist()
            if not rows:
                continue
            file = _as_reference(path, local, table.num_rows)
        look = tree.read(path)
        assert look is not None
        found.tables.add(path)
        found.shards.add(shard_key(file))
        # An attempt gives all its tables one token, so the kept columns are known by their name.
        columns = path.replace(f"{look.folder}/images/", f"{look.folder}/columns/")
        if store.exists(columns):
            with fetched(store, columns) as local:
                beside = _as_reference(columns, local, table.num_rows)
            found.shards.add(shard_key(file, beside))
        found.looks.add((look.folder, look.key))
        found.ids |= {row["image_id"] for row in rows}
        found.names |= {row["name"] for row in rows}
        found.hashes |= {row["sha256"].hex() for row in rows if row["sha256"] is not None}
    return found


def _as_reference(path: str, local: Path, rows: int) -> FileRef:
    return FileRef(path=path, size_bytes=local.stat().st_size, sha256=sha256_of(local), rows=rows)


def count_twins(store: Store, pictures: Pictures) -> int:
    """Return how many other pictures have the bytes of these."""
    twins: set[int] = set()
    for path in tables_of(store) if pictures.hashes else ():
        with _table(store, path) as (_, table):
            twins |= {
                row["image_id"]
                for row in table.to_pylist()
                if row["sha256"] is not None and row["sha256"].hex() in pictures.hashes
            }
    return len(twins - pictures.ids)


@contextmanager
def _table(store: Store, path: str) -> Iterator[tuple[Path, Any]]:
    with fetched(store, path) as local:
        try:
            table = read_images(local, ["image_id", "name", "sha256"])
        except WRONG_FORM:
            raise CorruptFile(
                f"{path} cannot be read, so which pictures it holds is not known: `lamella verify "
                f"{store.url}` names the command that rebuilds it, or `lamella gc` removes it"
            ) from None
        yield local, table


def discard_all(store: Store, found: Inventory, paths: Iterable[str]) -> int:
    """Remove files, records before the files that they name.

    Returns:
        How many there were.
    """
    going = sorted(set(paths) & found.files.keys(), key=lambda p: (p not in found.records, p))
    for path in going:
        store.discard(path)
        found.files.pop(path)
        found.records.pop(path, None)
    return len(going)


def run_files(found: Inventory, holds: Says) -> set[str]:
    """Return the files of all runs that name a picture, and of all encodings of queries."""
    runs: set[str] = set()
    for path in found.files:
        if not path.startswith("runs/"):
            continue
        run, file = run_of(path), tree.read(path)
        if file is not None and file.row is None and tree.QUERIES in file.steps:
            runs.add(run)
        if run not in runs and holds(path):
            runs.add(run)
    return {path for path in found.files if run_of(path) in runs}


def stale_run_files(found: Inventory) -> set[str]:
    """Return the files of runs that asked no snapshot that is there.

    A picture may have had another name when they were made, which nothing knows any more.
    """
    there = {snapshot.root_digest for _, snapshot in found.of(IndexSnapshot)}
    asked = {run_of(path): run.snapshot for path, run in found.of(QueryRun)}
    asked |= {run_of(path): report.snapshot for path, report in found.of(RetrievalReport)}
    return {p for p in found.files if p.startswith("runs/") and asked.get(run_of(p)) not in there}


def run_of(path: str) -> str:
    """Return the folder of the run that a file is of."""
    return "/".join(path.split("/")[:2])


def drop_training_rows(store: Store, found: Inventory) -> int:
    """Remove the descriptors that words were trained on, of all trainings; return the files gone.

    A row of a sample is known by the id that its picture had when the words were trained, and this
    may have had another name then: so all rows go. The words stay as they are. What a training
    that has not ended has made goes as a whole.
    """
    gone = 0
    folders = {"/".join(p.split("/")[:3]) for p in found.files if p.startswith("vocabularies/")}
    for folder in sorted(folders):
        below = {path for path in found.files if path.startswith(f"{folder}/")}
        summary = f"{folder}/vocabulary.json"
        record = found.records.get(summary)
        if not isinstance(record, Vocabulary):
            gone += discard_all(store, found, below)
            continue
        if record.sample or record.held:
            kept = record.model_copy(update={"sample": (), "held": None})
            store.replace(summary, kept.to_json())
            found.records[summary] = kept
        _empty_held_rows(store, found, folder)
        rows = {path for path in below if _has_rows(path)}
        others = (record for path, record in found.records.items() if path not in rows)
        rows -= {file.path for record in others for file in named_files(record)}
        gone += discard_all(store, found, rows)
    return gone


def _has_rows(path: str) -> bool:
    """Say whether a file below a training holds rows of pictures, or is the record of such."""
    steps = tree.steps_of(path)
    file = tree.read(path)
    own = (tree.SAMPLE, tree.PROJECT, tree.LINK, tree.SUM, tree.MERGE)
    return file is not None and file.row is None and any(step in own for step in steps)


def _empty_held_rows(store: Store, found: Inventory, folder: str) -> None:
    """Put an empty file in place of the rows that the seeding of a training held out."""
    path = tree.done(folder, "seed")
    record = found.records.get(path)
    if not isinstance(record, DoneRecord):
        return
    if "held" in record.freed or record.files["held"].rows == 0:
        return
    old = record.files["held"].path
    with fetched(store, old) as local:
        sample = read_sample(local)
        empty = local.with_name("empty")
        write_sample(sample.rows(slice(0)), empty)
        token = secrets.token_hex(6)
        put = tree.data_file(old.rpartition("/")[0], "seed", token, "held.arrow")
        size, digest = empty.stat().st_size, sha256_of(empty)
        store.put(put, empty)
    files = record.files | {"held": FileRef(path=put, size_bytes=size, sha256=digest)}
    changed = record.model_copy(update={"files": files, "counts": record.counts | {"held": 0}})
    store.replace(path, changed.to_json())
    found.records[path] = changed
    discard_all(store, found, {old})
