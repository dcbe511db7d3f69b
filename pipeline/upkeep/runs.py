"""The runs of a store: what was asked of which snapshot, and their removal.

A run is a folder in `runs/`: rankings, the report of an evaluation, or the features of query
pictures, which further runs over the same pictures use again.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lamella.pipeline.errors import CorruptFile, InputError, MissingFile, one_line
from lamella.pipeline.index.expired import expired_numbers, snapshot_numbers
from lamella.pipeline.index.promotions import read_snapshot
from lamella.pipeline.store import tree
from lamella.pipeline.store.protocol import Store, StoredFile
from lamella.pipeline.store.records import read_record
from lamella.schemas.keeping import Expired
from lamella.schemas.rankings import QueryRun
from lamella.schemas.report import RetrievalReport

RunKind = Literal["queries", "evaluation", "features", "unfinished", "damaged"]


@dataclass(frozen=True)
class Run:
    """A run of a store.

    Attributes:
        kind: `features` are those of query pictures, of no snapshot; `unfinished` is a run without
            its last record, which the same command continues.
        asked: what was asked, in words.
        root_digest: of the snapshot that was asked; "" where the run does not say.
        snapshot: its number, None where that is not known any more.
        expired: whether it has expired.
        modified: when a file of the run was last written, in seconds since 1970.
    """

    name: str
    kind: RunKind
    asked: str
    root_digest: str
    snapshot: int | None
    expired: bool
    modified: float
    files: int
    size_bytes: int


def list_runs(store: Store) -> list[Run]:
    """Return the runs of a store, the oldest first.

    Raises:
        CorruptFile: the record of a snapshot is damaged.
    """
    numbers = {read_snapshot(store, n).root_digest: (n, False) for n in snapshot_numbers(store)}
    for number in sorted(expired_numbers(store)):
        gone = read_record(store, tree.EXPIRED.at(number=number), Expired)
        numbers.setdefault(gone.root_digest, (gone.number, True))
    found = [_run(store, name, files, numbers) for name, files in _files(store).items()]
    return sorted(found, key=lambda run: (run.modified, run.name))


def remove_run(store: Store, name: str) -> int:
    """Remove the files of a run; return how many bytes they had.

    What a command that dies here leaves is an unfinished run, and may be removed again.

    Raises:
        InputError: there is no run of this name.
    """
    files = _files(store).get(name)
    if files is None:
        raise InputError(
            f"there is no run {one_line(repr(name), 60)} in {store.url}: see `lamella runs "
            f"{store.url}`"
        )
    for file in sorted(files, key=lambda file: _turn(file.path)):
        store.discard(file.path)
    return sum(file.size_bytes for file in files)


def _turn(path: str) -> tuple[int, str]:
    """Return a key to sort by: what names other files goes before them."""
    found = tree.read(path)
    if found is None or found.kind != "record":
        return 2, path
    return 0 if found.row is not None else 1, path


def _files(store: Store) -> dict[str, list[StoredFile]]:
    """Return the files of each run by its name; those that are not Lamella's are left out."""
    found: defaultdict[str, list[StoredFile]] = defaultdict(list)
    for file in store.walk(tree.RUN.form.text.partition("/")[0]):
        if not file.problem and tree.read(file.path) is not None:
            found[file.path.split("/")[1]].append(file)
    return dict(found)


def _run(
    store: Store,
    name: str,
    files: Sequence[StoredFile],
    numbers: Mapping[str, tuple[int, bool]],
) -> Run:
    kind, asked, root = _said(store, name, {file.path for file in files})
    number, expired = numbers.get(root, (None, False))
    return Run(
        name,
        kind,
        asked,
        root,
        number,
        expired,
        max(file.modified for file in files),
        len(files),
        sum(file.size_bytes for file in files),
    )


def _said(store: Store, name: str, paths: set[str]) -> tuple[RunKind, str, str]:
    """Return the kind of a run, what was asked, and the root digest of the snapshot."""
    try:
        if (path := tree.RUN.at(run=name)) in paths:
            run = read_record(store, path, QueryRun)
            expanded = f", expanded by {run.expand}" if run.expand else ""
            what = run.asked[:-1] if run.queries == 1 else run.asked
            asked = f"{run.queries:,} {what}, k {run.k}, {run.mode}{expanded}"
            return "queries", asked, run.snapshot
        if (path := tree.REPORT.at(run=name)) in paths:
            report = read_record(store, path, RetrievalReport)
            asked = f"{report.protocol}, {report.metric}, {report.queries:,} queries"
            return "evaluation", asked, report.snapshot
    except (CorruptFile, MissingFile) as error:
        return "damaged", str(error), ""
    folder = tree.QUERIES.folder(run=name)
    if any(path.startswith(f"{folder}/") for path in paths):
        return "features", "features of query pictures, for further runs over them", ""
    return "unfinished", "give the same command again to continue it", ""
