"""`forget`: a picture is never indexed again, and nothing in the store names it or shows it.

The order is such that the same command goes on after it was stopped:

1. a record in `forgotten/` bars the picture from every listing to come;
2. manifests and looks that hold it go, so that no job finds them; runs, encodings of queries and
   the rows that words were trained on go;
3. the current snapshot is made again without it, and promoted;
4. every snapshot that holds it expires, with its tags;
5. runs of snapshots that are not there, and segments, words, activations and at last the image
   tables that hold it go, with everything that no record names.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from lamella.pipeline.corpus.forgotten import forgotten_digest, forgotten_path
from lamella.pipeline.errors import CorruptFile, InputError, LamellaError, one_line
from lamella.pipeline.extract.extraction import late_key
from lamella.pipeline.index.promotions import current_snapshot, now
from lamella.pipeline.index.tags import read_tags, remove_tag
from lamella.pipeline.jobs.reindexing import reindex
from lamella.pipeline.run.step import Runner
from lamella.pipeline.stages import Watch, top_of
from lamella.pipeline.store import tree
from lamella.pipeline.store.address import is_s3
from lamella.pipeline.store.cache import Cache
from lamella.pipeline.store.commit import create_once
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import cure
from lamella.pipeline.upkeep.contents import Wanted
from lamella.pipeline.upkeep.expire import expire_snapshot, finish_expiring
from lamella.pipeline.upkeep.forgotten_check import look_into
from lamella.pipeline.upkeep.inventory import Inventory, take_inventory
from lamella.pipeline.upkeep.traces import (
    Pictures,
    count_twins,
    discard_all,
    drop_training_rows,
    find_pictures,
    run_files,
    stale_run_files,
)
from lamella.schemas.corpus import CorpusManifest, ShardRef
from lamella.schemas.files import DoneRecord
from lamella.schemas.gate import Judgement
from lamella.schemas.job_record import JobRecord
from lamella.schemas.keeping import Expired, Forgotten
from lamella.schemas.snapshot import IndexSnapshot, Promotion, SegmentManifest
from lamella.schemas.verdict import Verdict

OUT_OF_REACH = (
    "earlier versions in a bucket that keeps them",
    "exported words, rankings and pages, and copies of the store elsewhere",
    "local copies of files of S3 on other machines",
    "kept columns of other pictures that name it, which are as in the source",
    "trained words, which are means over many pictures",
    "blocks of a disk that were freed and not overwritten",
)
"""What `forget` does not change, for a person."""


@dataclass(frozen=True)
class Forgot:
    """What was done.

    Attributes:
        pictures: how many pictures had the name or the bytes.
        expired: the numbers of the snapshots that held them.
        tags: those that went with these.
        current: the number of the current snapshot now, None without one.
        removed: how many files were removed.
        twins: how many other pictures have the bytes of one that was forgotten by name.
        sha256: one of their hashes, to forget them by; "" without any.
    """

    pictures: int
    expired: tuple[int, ...] = ()
    tags: tuple[str, ...] = ()
    current: int | None = None
    removed: int = 0
    twins: int = 0
    sha256: str = ""

    def plain(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {**vars(self), "expired": list(self.expired), "tags": list(self.tags)}


def forget_picture(
    store: Store,
    runner: Runner,
    *,
    by: Literal["name", "sha256"],
    value: str,
    reason: str,
    threads: int,
    watch: Watch | None = None,
    anyway: bool = False,
    pictures: str | None = None,
) -> Forgot:
    """Forget the pictures with a name, or with bytes of a SHA-256. No job may run meanwhile.

    Args:
        reason: for the record; it must not hold the value.
        threads: threads of a worker in the extract stage.
        anyway: bar what is not there, too.
        pictures: where the pictures are now; by default where they were when they were indexed.

    Raises:
        InputError: there is no such picture; or the current snapshot cannot be made again, because
            the source is gone or nothing would be left: then the record stands, and the rest is
            done when the same command is given again.
        CorruptFile: a record or an image table is damaged, so what holds it is not known.
    """
    value = checked_value(by, value)
    if value.lower() in reason.lower():
        raise InputError("the reason is kept as it is, and must not hold the name or the hash")
    found = take_inventory(store)
    if found.faults:
        first = found.faults[0]
        raise CorruptFile(f"{first.path} {first.problem}; nothing was changed: {cure(store)}")
    known, path = find_pictures(store, by, value), forgotten_path(by, value)
    before = store.exists(path)
    if not (known.ids or before or anyway):
        what = "this name" if by == "name" else "these bytes"
        raise InputError(
            f"no picture in {store.url} has {what}: give the name as answers give it, or --anyway "
            "to bar it from ever being indexed"
        )
    twins = count_twins(store, known) if by == "name" else 0
    digest = forgotten_digest(by, value)
    record = Forgotten(by=by, stands_for=digest, forgotten_at=now(), reason=reason)
    create_once(store, path, record.to_json())
    if not (known.ids or before):
        current = current_snapshot(store)
        return Forgot(0, current=current.number if current else None)
    known.names |= {value} if by == "name" else set()
    known.hashes |= {value} if by == "sha256" else set()
    removed = _withdraw(store, known)
    current = current_snapshot(store)
    if current is not None and current.number in _holders(store, known):
        current = _made_again(store, runner, current, threads, watch or Watch(), pictures)
    removed += _reword(store, known)
    expired, tags = _expire(store, known)
    removed += _sweep(store, known)
    if is_s3(store.url):
        # A copy does not say of which file it is, and files that are gone may have had some too.
        Cache.standard().clear()
    return Forgot(
        len(known.ids),
        expired,
        tags,
        current.number if current else None,
        removed,
        twins,
        min(known.hashes, default="") if twins else "",
    )


def checked_value(by: Literal["name", "sha256"], value: str) -> str:
    """Return a name, or a SHA-256 in small hex.

    Raises:
        InputError: it is empty, or no SHA-256.
    """
    if by == "sha256" and re.fullmatch("[0-9a-fA-F]{64}", value) is None:
        raise InputError(f"a SHA-256 is 64 hex digits; got {one_line(repr(value), 80)}")
    if not value:
        raise InputError("a name has at least one letter; got an empty one")
    return value.lower() if by == "sha256" else value


def _withdraw(store: Store, known: Pictures) -> int:
    """Remove manifests and looks that hold the pictures, runs that name them, and samples."""
    found = take_inventory(store)
    going = {path for path, manifest in found.of(CorpusManifest) if _holds(known, manifest.shards)}
    for folder, key in known.looks:
        path = tree.done(folder, key)
        look = found.records.get(path)
        if isinstance(look, DoneRecord) and look.files["images"].path in known.tables:
            going.add(path)
    wanted = Wanted(frozenset(known.names), frozenset(known.hashes), frozenset(known.ids))
    removed = discard_all(store, found, going)
    runs = run_files(found, lambda path: look_into(store, path, wanted) is not None)
    return removed + discard_all(store, found, runs) + drop_training_rows(store, found)


def _holds(known: Pictures, shards: tuple[ShardRef, ...]) -> bool:
    return any(shard.file.path in known.tables or shard.key in known.shards for shard in shards)


def _holders(store: Store, known: Pictures) -> list[int]:
    """Return the numbers of the snapshots that hold one of the pictures."""
    found = take_inventory(store)
    gone = {record.number for _, record in found.of(Expired)}
    held = {path for path, each in found.of(SegmentManifest) if _holds(known, each.shards)}
    return [
        snapshot.number
        for _, snapshot in found.of(IndexSnapshot)
        if snapshot.number not in gone
        and any(segment.manifest in held for segment in snapshot.segments)
    ]


def _made_again(
    store: Store,
    runner: Runner,
    before: IndexSnapshot,
    threads: int,
    watch: Watch,
    pictures: str | None,
) -> IndexSnapshot:
    """Return a snapshot of the same job and words, without what is forgotten, and promoted."""
    try:
        return reindex(store, runner, threads=threads, watch=watch, pictures=pictures, force=True)
    except LamellaError as error:
        raise type(error)(
            f"{error}. What is to be forgotten is on record, and no new index will hold it; "
            f"snapshot {before.number} still does: give the same command again when this is "
            "mended, or remove the store if nothing of it is to stay"
        ) from error


def _reword(store: Store, known: Pictures) -> int:
    """Remove judgements that name a picture, and what promotions say of one."""
    found = take_inventory(store)
    wanted = Wanted(frozenset(known.names), frozenset(known.hashes), frozenset(known.ids))
    for path, promotion in found.of(Promotion):
        if look_into(store, path, wanted) is not None:
            changed = promotion.model_copy(update={"reason": "its reason named what is forgotten"})
            store.replace(path, changed.to_json())
    gates = {p for p, _ in found.of(Judgement) if look_into(store, p, wanted) is not None}
    return discard_all(store, found, gates)


def _expire(store: Store, known: Pictures) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Let the snapshots expire that hold the pictures, whatever keeps them."""
    finish_expiring(store)
    numbers = _holders(store, known)
    for number in numbers:
        expire_snapshot(store, number, "it held a picture that was forgotten", forced=True)
    there = {s.number for _, s in take_inventory(store, "snapshots").of(IndexSnapshot)}
    tags = tuple(name for name, number in sorted(read_tags(store).items()) if number not in there)
    for name in tags:
        remove_tag(store, name)
    return tuple(numbers), tags


def _sweep(store: Store, known: Pictures) -> int:
    """Remove the files that hold the pictures, tables last, and all that no record names."""
    found = take_inventory(store)
    segments = {e.key for _, e in found.of(SegmentManifest) if _holds(known, e.shards)}
    segments |= set(_unlisted_segments(store, found, known))
    bags = known.shards | set(_outcomes(store, found, known))
    totals = {
        file.path
        for _, snapshot in found.of(IndexSnapshot)
        for file in snapshot.document_frequencies.values()
    }

    def of(top: str, keys: set[str]) -> set[str]:
        return {path for path in found.files if top_of(path) == top and _key(path) in keys}

    spent = {
        path
        for path, record in found.of(DoneRecord)
        if top_of(path) == "totals" and not totals & {file.path for file in record.files.values()}
    }
    jobs = {snapshot.job for _, snapshot in found.of(IndexSnapshot)}
    ended = {  # they cannot go on: what is forgotten is in the name of a corpus's folder
        path
        for path, job in found.of(JobRecord)
        if path not in jobs
        and tree.MANIFEST.at(keyed=tree.keyed(job.name, job.corpus_inputs)) not in found.files
    }
    removed = 0
    for paths in (
        ended,
        stale_run_files(found),
        of("segments", segments),
        of("proposers", segments),
        spent,
        of("bags", bags),
        of("activations", known.shards),
        set(_verdicts(store, found, known)),
    ):
        removed += discard_all(store, found, paths)
    named = set(found.references())
    loose = {p for p in found.files if (f := tree.read(p)) and f.kind in ("data", "leftover")}
    loose -= named
    return (
        removed
        + discard_all(store, found, loose - known.tables)
        + discard_all(store, found, loose & known.tables)
    )


def _key(path: str) -> str:
    """Return the key of the task, or of the segment, that a file is of."""
    found = tree.read(path)
    return "" if found is None else found.key or found.parts.get("key", "")


def _unlisted_segments(store: Store, found: Inventory, known: Pictures) -> Iterator[str]:
    """Yield the keys of segments without a manifest, left by a job that was stopped."""
    wanted = Wanted(ids=frozenset(known.ids))
    listed = {path for path, _ in found.of(SegmentManifest)}
    for path, record in found.of(DoneRecord):
        if top_of(path) != "segments":
            continue
        manifest = tree.SEGMENT.at(**tree.parts_of(tree.folder_of(path)), key=record.key)
        if manifest not in listed and look_into(store, record.files["images"].path, wanted):
            yield record.key


def _outcomes(store: Store, found: Inventory, known: Pictures) -> Iterator[str]:
    """Yield the keys of the words of the shards, where pixels failed."""
    for path, record in found.of(DoneRecord):
        if top_of(path) == "activations" and record.key in known.shards:
            yield late_key(store, record)


def _verdicts(store: Store, found: Inventory, known: Pictures) -> Iterator[str]:
    for path in found.files:
        if tree.kind_of(path) == "verdict":
            try:
                sha256 = Verdict.from_json(store.read(path)).sha256
            except ValueError:  # damaged: it is of no use
                yield path
                continue
            if sha256 in known.hashes:
                yield path
