"""`verify`: check each file against its record, and each record against its seal and others."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from lamella.pipeline.errors import MissingFile, NotAFile
from lamella.pipeline.run.drive import OnProgress, Progress, quiet
from lamella.pipeline.store import tree
from lamella.pipeline.store.protocol import Store, StoredFile
from lamella.pipeline.store.tree import kind_of, record_of
from lamella.pipeline.upkeep.checks import neighbour_faults
from lamella.pipeline.upkeep.inventory import (
    IN_THE_WAY,
    OTHER_FORMAT,
    Fault,
    Inventory,
    is_cut_short,
    plain_problem,
    read_bytes,
    stands_alone,
    take_inventory,
)
from lamella.schemas.files import DoneRecord, FileRef
from lamella.schemas.gate import Judgement
from lamella.schemas.keeping import Expired
from lamella.schemas.snapshot import IndexSnapshot, Promotion

READERS = 4
"""Files that are read at once, in pieces: enough to hide the delay of a store."""


@dataclass(frozen=True)
class Damage:
    """A damaged file.

    Attributes:
        problem: what is wrong with it.
        named_by: the records that name it.
        snapshots: the numbers of the snapshots that name it.
        command: the command that mends it.
    """

    path: str
    problem: str
    named_by: tuple[str, ...]
    snapshots: tuple[int, ...]
    command: str


@dataclass(frozen=True)
class Verified:
    """What `verify` found.

    Attributes:
        orphans: files that no record names: left by attempts that died or were second, or being
            written now. They are not damage.
        unfinished: what a job that was stopped left to do, as sentences.
        strangers: the number of files that Lamella did not write; nothing touches them.
    """

    files: int
    size_bytes: int
    records: int
    damage: tuple[Damage, ...]
    orphans: tuple[StoredFile, ...]
    unfinished: tuple[str, ...]
    strangers: int = 0

    def summary(self) -> dict[str, Any]:
        """Return the findings as plain values."""
        return {
            "files": self.files,
            "size_bytes": self.size_bytes,
            "records": self.records,
            "damaged": [
                {
                    "path": each.path,
                    "problem": each.problem,
                    "named_by": list(each.named_by),
                    "snapshots": list(each.snapshots),
                    "command": each.command,
                }
                for each in self.damage
            ],
            "orphans": [
                {"path": each.path, "size_bytes": each.size_bytes} for each in self.orphans
            ],
            "unfinished": list(self.unfinished),
            "not_ours": self.strangers,
        }


def verify_store(store: Store, on_progress: OnProgress = quiet) -> Verified:
    """Read every file of a store; return what is damaged and what is left over."""
    found = take_inventory(store, on_progress=on_progress)
    references = found.references()
    faults = [*found.faults, *_file_faults(store, found, references, on_progress)]
    seen = {fault.path for fault in faults}
    for fault in neighbour_faults(found):
        if fault.path not in seen:
            seen.add(fault.path)
            faults.append(fault)
    return Verified(
        files=len(found.files),
        size_bytes=sum(file.size_bytes for file in found.files.values()),
        records=len(found.records),
        damage=tuple(
            _damage(store, found, references, fault) for fault in sorted(faults, key=_path)
        ),
        orphans=tuple(
            file
            for path, file in sorted(found.files.items())
            if path not in references and not stands_alone(path)
        ),
        unfinished=tuple(_unfinished(store, found)),
        strangers=len(found.strangers),
    )


def problem_with(
    store: Store, path: str, data: bytes, references: Mapping[str, Mapping[str, FileRef]]
) -> str | None:
    """Return what is wrong with the bytes of one file, None if nothing is.

    Args:
        references: by path, the references to the file in the records that name it.
    """
    if record_of(path) is not None:
        return read_bytes(store, path, data)[1]
    if path not in references:
        return plain_problem(path, data)
    return _difference(len(data), hashlib.sha256(data).hexdigest(), references[path])


def _difference(size_bytes: int, digest: str, said: Mapping[str, FileRef]) -> str | None:
    """Return how a file differs from a reference to it, None if it differs from none."""
    for reference in said.values():
        if size_bytes != reference.size_bytes:
            return f"has {size_bytes:,} bytes, {reference.size_bytes:,} in its record"
        if digest != reference.sha256:
            return f"has SHA-256 {digest[:12]}, {reference.sha256[:12]} in its record"
    return None


def _streamed_problem(store: Store, path: str, said: Mapping[str, FileRef]) -> str | None:
    """Return what is wrong with a data file, read in pieces: it may not fit into memory."""
    digest, size_bytes = hashlib.sha256(), 0
    for chunk in store.chunks(path):
        digest.update(chunk)
        size_bytes += len(chunk)
    return _difference(size_bytes, digest.hexdigest(), said)


def _path(fault: Fault) -> str:
    return fault.path


def _file_faults(
    store: Store,
    found: Inventory,
    references: dict[str, dict[str, FileRef]],
    on_progress: OnProgress,
) -> list[Fault]:
    """Read every file that a record names, the marker and the pages once; return their faults."""
    alone = [path for path in found.files if kind_of(path) in ("marker", "page")]
    paths = sorted({*references, *alone})
    sizes = {path: found.files[path].size_bytes for path in paths if path in found.files}
    total, done = sum(sizes.values()), 0

    def look(path: str) -> Fault | None:
        try:
            if path in references:
                problem = _streamed_problem(store, path, references[path])
            else:
                problem = problem_with(store, path, store.read(path), references)
        except MissingFile:
            # A running job removes a round's sums with their record; then it is no fault.
            if not any(store.exists(record) for record in references.get(path, {})):
                return None
            problem = "is gone"
        except NotAFile:
            return None  # the inventory has reported it
        except OSError as error:
            problem = f"cannot be read: {error.strerror or error}"
        return Fault(path, problem) if problem else None

    faults: list[Fault] = []
    with ThreadPoolExecutor(READERS) as pool:
        for number, (path, fault) in enumerate(zip(paths, pool.map(look, paths), strict=True)):
            done += sizes.get(path, 0)
            faults += [fault] if fault else []
            on_progress(Progress("verify", number + 1, len(paths), done, total))
    return faults


def _damage(
    store: Store, found: Inventory, references: dict[str, dict[str, FileRef]], fault: Fault
) -> Damage:
    named_by = tuple(references.get(fault.path, {}))
    hurt = {
        snapshot.number
        for path, snapshot in found.of(IndexSnapshot)
        if path in named_by or path == fault.path
    }
    if (parts := tree.SNAPSHOT.form.read(fault.path)) is not None:
        hurt.add(int(parts["number"]))
    command = f"lamella repair {store.url}"
    if fault.problem.startswith(OTHER_FORMAT):
        command = "none of this version: use the Lamella that wrote it"
    if fault.problem.endswith(IN_THE_WAY):
        command = f"none: move {fault.path} away, then lamella repair {store.url}"
    return Damage(fault.path, fault.problem, named_by, tuple(sorted(hurt)), command)


def _unfinished(store: Store, found: Inventory) -> list[str]:
    """Return what a job that was stopped left to do, as sentences. None of it is damage."""
    lines: list[str] = []
    promoted = {promotion.snapshot for _, promotion in found.of(Promotion)}
    damaged = any(record_of(fault.path) is Promotion for fault in found.faults)
    gone = {record.number for _, record in found.of(Expired)}
    every = [snapshot.number for _, snapshot in found.of(IndexSnapshot)]
    if half := sorted(gone & set(every)):
        lines.append(f"snapshot {half[0]} expired and its file is there: `lamella gc` removes it")
    numbers = [number for number in every if number not in gone]
    if numbers and max(numbers) not in promoted and not damaged:
        lines.append(
            f"snapshot {max(numbers)} was created and never promoted"
            f"{_why_not(found, max(numbers))}: give the same `lamella index` again, or `lamella "
            f"snapshots {store.url} --promote {max(numbers)}`"
        )
    cut = sum(is_cut_short(path) for path in found.files)
    if cut:
        lines.append(f"{cut:,} writes were cut short: `lamella gc {store.url}` removes them")
    for path in sorted(found.files):
        page = tree.PAGE.form.read(path)
        if page is not None and tree.REPORT.at(**page) not in found.files:
            folder = tree.PAGE.folder(**page)
            lines.append(
                f"{folder} has a page and no report: give the same `lamella evaluate` again"
            )
    batches = Counter(tree.folder_of(path) for path, _ in _answered(found))
    for answers, count in sorted(batches.items()):
        run = tree.parts_of(answers)
        if tree.RUN.at(**run) not in found.files:
            lines.append(
                f"{tree.RUN.folder(**run)} has answers to {count:,} batches and no run.json: give "
                "the same `lamella query` again"
            )
    return lines


def _why_not(found: Inventory, snapshot: int) -> str:
    """Return which rules of its gate a snapshot failed, in brackets, or nothing."""
    judged = [record for _, record in found.of(Judgement) if record.snapshot == snapshot]
    failed = dict.fromkeys(rule.rule for record in judged for rule in record.failed)
    return f" (its gate failed: {', '.join(failed)})" if failed else ""


def _answered(found: Inventory) -> list[tuple[str, DoneRecord]]:
    return [(path, record) for path, record in found.of(DoneRecord) if record.stage == "query"]
