"""The corpus stage: cut a listing into shards, look at what has changed, and describe every image.

A shard that was looked at before, with the same entries of the same sizes and versions, is found by
them; of any other one only the entries that are new or changed are read.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow.compute as pc

from lamella.pipeline.arrays import Float32s
from lamella.pipeline.corpus.cut import Nearby, cut_shards, mark_of
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.entries import Entry
from lamella.pipeline.corpus.entries import digest_of as digest_of_entries
from lamella.pipeline.corpus.forgotten import is_forgotten, named_entries
from lamella.pipeline.corpus.image_table import (
    Known,
    kinds_of_others,
    known_entries,
    probe_entries,
    read_images,
)
from lamella.pipeline.corpus.kept_columns import read_kept
from lamella.pipeline.corpus.listing import Listing, columns_said, is_unsure, settled
from lamella.pipeline.corpus.passed_over import FORGOTTEN, advice, few_kinds, in_words
from lamella.pipeline.corpus.vector_listing import vectors_by_name
from lamella.pipeline.corpus.verdicts import Verdicts
from lamella.pipeline.errors import InputError, StoreError
from lamella.pipeline.run.drive import OnProgress, complete, quiet, read_all_done
from lamella.pipeline.run.later import Later
from lamella.pipeline.run.step import Counts, Do, Runner, StoreStep
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import Attempt, create_once, read_committed, read_done
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import parse_record, read_record
from lamella.pipeline.store.tables import read_parquet, write_parquet
from lamella.pipeline.text import counted
from lamella.schemas.base import digest_of
from lamella.schemas.corpus import SEEN, CorpusManifest, ShardRef, SourceKind
from lamella.schemas.files import PASSED_OVER, DoneRecord, FileRef
from lamella.schemas.job import JobConfig

QUICKLY_SEEN = 10_000
"""A source of more entries is not looked through before the corpus stage."""


@dataclass(frozen=True)
class LookTask:
    """Consecutive entries of the listing, which become one shard.

    Attributes:
        key: made from the entries, with their sizes and versions.
        entries: read from the listing when the task runs, so that only their numbers wait.
        known: image tables of earlier shards that may hold the same entries.
        versions: those of the Parquet files that columns are kept of.
        vectors: by name, where the entries are of a corpus of vectors.
    """

    key: str
    entries: Sequence[Entry]
    known: tuple[FileRef, ...] = ()
    versions: tuple[int | None, ...] = ()
    vectors: Later[dict[str, Float32s]] | None = None


@dataclass(frozen=True)
class LookWork:
    """Reads each new or changed entry once for its SHA-256, format and size; ignores files that are
    no pictures, and refuses pictures that cannot be read. Kept columns are read anew in any case.

    Attributes:
        forgotten: keys of what must not be indexed; pictures with such bytes leave no row.
        listed_ns: when the source was listed, in ns since 1970; see `listing.settled`.
        columns: the schema of the kept columns, if there are any.
    """

    root: str
    kind: SourceKind
    limits: DecodeLimits
    forgotten: frozenset[str] = frozenset()
    listed_ns: int = sys.maxsize
    columns: Any = None

    def open(self, store: Store) -> Do[LookTask]:
        def look(task: LookTask, work: Attempt) -> Counts:
            verdicts = Verdicts(store, work.folder, task.key)
            entries = settled(task.entries, self.listed_ns)
            known: Known = {}
            for file in task.known:
                known = {**known, **_known(store, file)}
            table, seen, ignored = probe_entries(
                self.root,
                self.kind,
                entries,
                self.limits,
                verdicts,
                known,
                lambda row: is_forgotten(row, self.forgotten),
                None if task.vectors is None else task.vectors(),
            )
            tables = {"images": table, "seen": seen}
            if self.columns is not None:
                pictures = named_entries(seen.filter(pc.is_valid(seen["row"])).to_pylist())
                tables["columns"] = read_kept(self.root, self.kind, pictures, self.columns)
            write_look(work, tables)
            unsure = [each.version is None for each in entries]
            unsure += [v is None or is_unsure(v, self.listed_ns) for v in task.versions]
            kinds = {f"{PASSED_OVER}{kind}": count for kind, count in ignored.items()}
            return kinds | {
                "images": table.num_rows,
                "refused": table.num_rows - table.column("refusal").null_count,
                "ignored": ignored.total(),
                "unsure": sum(unsure),
            }

        return look


def write_look(work: Attempt, tables: Mapping[str, Any]) -> None:
    """Write the tables of a look at a shard: `images`, `seen`, and `columns` if any are kept."""
    for name, value in tables.items():
        work.write(name, f"{work.folder}/{name}", "parquet", partial(write_parquet, value))


def _known(store: Store, images: FileRef) -> Known:
    """Return what a shard's tables say of its entries; nothing where they are not at hand."""
    there = tree.read(images.path)
    try:
        record = read_done(store, there.folder, there.key) if there is not None else None
        if record is None or record.files["images"] != images:
            return {}
        seen = read_committed(
            store, record.files["seen"], lambda path: read_parquet(path, schema=SEEN)
        )
        return known_entries(seen, read_committed(store, images, read_images))
    except StoreError:  # damaged or gone: `verify` says so, and the pictures are read again
        return {}


def build_corpus(
    store: Store,
    runner: Runner,
    listing: Listing,
    name: str,
    *,
    shard_size: int,
    limits: DecodeLimits,
    before: Sequence[ShardRef] = (),
    rehash: bool = False,
    mend: bool = False,
    fresh: bool = False,
    on_progress: OnProgress = quiet,
) -> CorpusManifest:
    """Return the manifest of a source from the store, or make it.

    Its folder is keyed by the listing (names, sizes, versions), so a source that has changed is
    another corpus, and an unchanged one is not read again.

    Args:
        before: the shards of the same source when it was indexed last.
        rehash: read every entry again, whatever its size and version say.
        mend: make shards that are gone although the manifest is there.
        fresh: the source was listed just now, so read entries again that may have changed right
            after they were read.

    Raises:
        InputError: the source has no pictures.
        StageFailed: tasks failed.
    """
    inputs = corpus_inputs(listing, shard_size, limits)
    path = tree.MANIFEST.at(keyed=tree.keyed(name, inputs))
    there = read_record(store, path, CorpusManifest) if store.exists(path) else None
    if there is not None and not (rehash or mend or (fresh and there.unsure)):
        return _moved(there, listing.root)
    forgotten = frozenset(listing.forgotten)
    kind, columns = listing.kind, listing.kept.schema if listing.kept else None
    looked = look_inputs(kind, limits, columns)
    folder = tree.LOOK.folder(keyed=tree.keyed(kind, looked))
    work = LookWork(listing.root, kind, limits, forgotten, listing.listed_ns, columns)
    step = StoreStep(tree.LOOK, store.url, folder, looked, work)
    tasks = look_tasks(listing, shard_size, () if rehash else before)
    found = read_all_done(store, step.folder, [task.key for task in tasks])
    anew: set[str] = {task.key for task in tasks} if rehash else set()
    for number, record in enumerate(found):
        if fresh and record is not None and record.counts.get("unsure") and not rehash:
            own = (*tasks[number].known, record.files["images"])
            tasks[number] = replace(tasks[number], known=own)
            anew.add(record.key)
    records = complete(
        store,
        runner,
        replace(step, anew=anew),
        tasks,
        units=lambda task: len(task.entries),
        found=found,
        on_progress=on_progress,
    )
    manifest = _manifest(store, name, listing, tasks, records)
    if there is not None and anew:
        store.replace(path, manifest.to_json())
        return manifest
    won = create_once(store, path, manifest.to_json())
    return _moved(parse_record(store, path, CorpusManifest, won), listing.root)


def look_inputs(kind: SourceKind, limits: DecodeLimits, columns: Any = None) -> str:
    """Return the digest of what decides the tables of a look besides the entries; all corpora of a
    kind share the folder of their looks.

    Args:
        columns: the schema of the kept columns, if there are any.
    """
    facts = [kind, limits.max_pixels, limits.max_bytes]
    return digest_of([*facts, *([] if columns is None else [columns_said(columns)])])


def look_tasks(listing: Listing, shard_size: int, before: Sequence[ShardRef]) -> list[LookTask]:
    """Cut a listing; join to each part the earlier shards whose entries may be the same."""
    tasks, near, start = list[LookTask](), Nearby(before), 0
    for entries in cut_shards(listing.entries, shard_size):
        digest = digest_of_entries(entries).hex()
        versions: tuple[int | None, ...] = ()
        if listing.kept is not None:
            containers = dict.fromkeys(each.container for each in entries)
            of = [listing.kept.files[name] for name in containers if name in listing.kept.files]
            digest, versions = digest_of([digest, of]), tuple(version for _, version in of)
        key = tree.content_key(digest)
        files = (shard.file for shard in near.of(entries[0].place, entries[-1].place))
        stop = start + len(entries)
        part, vectors = listing.entries[start:stop], None
        if listing.vectors is not None:
            vectors = Later(partial(vectors_by_name, listing.vectors, part))
        tasks.append(LookTask(key, part, tuple(files), versions, vectors))
        start = stop
    return tasks


def corpus_inputs(listing: Listing, shard_size: int, limits: DecodeLimits) -> str:
    """Return the digest of what decides a corpus; what is forgotten, and which columns are kept,
    is in it, if anything is.
    """
    facts = [listing.digest(), shard_size, limits.max_pixels, limits.max_bytes]
    facts += [listing.forgotten] if listing.forgotten else []
    return digest_of(facts if listing.kept is None else [*facts, {"kept": listing.kept.facts()}])


def shard_of(entries: Sequence[Entry], record: DoneRecord) -> ShardRef:
    """Return a shard from its entries and the record of the look at them.

    Args:
        entries: without those that were forgotten; there may be none left.
    """
    images, counts = record.files["images"], record.counts
    columns = record.files.get("columns")
    return ShardRef(
        key=shard_key(images, columns),
        images=counts["images"],
        refused=counts["refused"],
        ignored=counts["ignored"],
        file=images,
        columns=columns,
        first=entries[0].place if entries else "",
        last=entries[-1].place if entries else "",
        mark=mark_of(entries[-1]) if entries else 0,
    )


def shard_key(images: FileRef, columns: FileRef | None = None) -> str:
    """Return the key of a shard with this image table, and these kept columns if there are any."""
    if columns is None:
        return tree.content_key(digest_of(images.content()))
    return tree.content_key(digest_of([images.content(), columns.content()]))


def _remembered(store: Store, task: LookTask, record: DoneRecord) -> Sequence[Entry]:
    """Return the entries of a shard without those whose bytes are forgotten: these go unnamed."""
    if not record.counts.get(f"{PASSED_OVER}{FORGOTTEN}"):
        return task.entries
    seen = read_committed(store, record.files["seen"], lambda path: read_parquet(path, schema=SEEN))
    return named_entries(seen.to_pylist())


def _manifest(
    store: Store,
    name: str,
    listing: Listing,
    tasks: Sequence[LookTask],
    records: list[DoneRecord],
) -> CorpusManifest:
    shards = [
        shard_of(_remembered(store, task, record), record)
        for task, record in zip(tasks, records, strict=True)
    ]
    images = sum(shard.images for shard in shards)
    ignored = sum(shard.ignored for shard in shards)
    passed_over = _passed_over(listing, records)
    if images == 0:
        raise _no_pictures(listing, ignored, passed_over)
    return CorpusManifest(
        name=name,
        root=listing.root,
        kind=listing.kind,
        shards=tuple(shards),
        images=images,
        refused=sum(shard.refused for shard in shards),
        ignored=ignored,
        passed_over=passed_over,
        unsure=sum(record.counts["unsure"] for record in records),
        content_digest=content_of(shards),
        listed_at=in_utc(listing.listed_ns),
    )


def check_pictures(listing: Listing, limits: DecodeLimits) -> None:
    """Refuse a source without pictures before anything is stored, as far as that is quick to see.

    Raises:
        InputError: no entry is a picture; a source of very many is left to `build_corpus`.
    """
    if len(listing.entries) > QUICKLY_SEEN:
        return
    others = kinds_of_others(listing.root, listing.kind, listing.entries, limits)
    if others is not None:
        total = few_kinds(Counter(listing.passed_over) + others)
        raise _no_pictures(listing, others.total(), total)


def _no_pictures(listing: Listing, ignored: int, passed_over: Mapping[str, int]) -> InputError:
    kinds, said = in_words(passed_over), advice(passed_over)
    return InputError(
        f"{listing.root} holds no pictures: {counted(ignored, 'file')} looked at, none of them is "
        f"one{f' ({kinds})' if kinds else ''}{f'. {said}' if said else ''}"
    )


def decode_limits(job: JobConfig) -> DecodeLimits:
    """Return the limits for decoding one picture of a job."""
    corpus = job.corpus
    return DecodeLimits(corpus.max_pixels, corpus.max_bytes, corpus.max_seconds, corpus.max_memory)


def in_utc(at_ns: int) -> str:
    """Return a time, in ns since 1970, as text in UTC."""
    return datetime.fromtimestamp(at_ns / 1e9, UTC).isoformat(timespec="milliseconds")


def content_of(shards: Sequence[ShardRef]) -> str:
    """Return the digest of the pictures of a corpus and of their columns, from its shards."""
    return digest_of([file.content() for shard in shards if shard.images for file in shard.files])


def _passed_over(listing: Listing, records: list[DoneRecord]) -> dict[str, int]:
    """Return by kind how many files are no pictures: those not listed, and those that were read."""
    total = Counter(listing.passed_over)
    for record in records:
        for name, count in record.counts.items():
            if name.startswith(PASSED_OVER):
                total[name.removeprefix(PASSED_OVER)] += count
    return dict(few_kinds(total))


def _moved(manifest: CorpusManifest, root: str) -> CorpusManifest:
    """Return the manifest with this root: the same pictures may have moved."""
    return manifest.model_copy(update={"root": root})
