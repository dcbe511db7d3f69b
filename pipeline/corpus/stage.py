"""The corpus stage: read every file of a source once, number its images, and cut shards."""

from collections import Counter
from dataclasses import dataclass
from functools import partial

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.image_table import probe_entries
from lamella.pipeline.corpus.listing import Entry, Listing
from lamella.pipeline.corpus.passed_over import advice, few_kinds, in_words
from lamella.pipeline.corpus.verdicts import Verdicts
from lamella.pipeline.errors import InputError
from lamella.pipeline.run.drive import OnProgress, complete, quiet
from lamella.pipeline.run.step import Counts, Do, Runner, StoreStep
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import Attempt, create_once
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import parse_record, read_record
from lamella.pipeline.store.tables import write_parquet
from lamella.schemas.base import digest_of
from lamella.schemas.corpus import CorpusManifest, ShardRef, SourceKind
from lamella.schemas.files import PASSED_OVER, DoneRecord


@dataclass(frozen=True)
class ProbeTask:
    """Consecutive entries of the listing, which become one shard."""

    key: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class ProbeWork:
    """Reads each entry once for its SHA-256, format and size; ignores files that are no pictures,
    and refuses pictures that cannot be read.
    """

    root: str
    kind: SourceKind
    limits: DecodeLimits

    def open(self, store: Store) -> Do[ProbeTask]:
        def probe(task: ProbeTask, work: Attempt) -> Counts:
            verdicts = Verdicts(store, work.folder, task.key)
            table, ignored = probe_entries(
                self.root, self.kind, task.entries, self.limits, verdicts
            )
            fill = partial(write_parquet, table)
            work.write("images", f"{work.folder}/images", "parquet", fill)
            kinds = {f"{PASSED_OVER}{kind}": count for kind, count in ignored.items()}
            return kinds | {
                "images": table.num_rows,
                "refused": table.num_rows - table.column("refusal").null_count,
                "ignored": ignored.total(),
            }

        return probe


def build_corpus(
    store: Store,
    runner: Runner,
    listing: Listing,
    name: str,
    *,
    shard_size: int,
    limits: DecodeLimits,
    on_progress: OnProgress = quiet,
) -> CorpusManifest:
    """Return the manifest of a source from the store, or make it.

    The folder is keyed by the listing (names, sizes, times), so a source that has changed is
    another corpus, and an unchanged one is not read again.

    Raises:
        InputError: the source has no pictures.
        StageFailed: tasks failed.
    """
    inputs = corpus_inputs(listing, shard_size, limits)
    corpus_key = tree.keyed(name, inputs)
    path = tree.MANIFEST.at(keyed=corpus_key)
    if store.exists(path):
        return _moved(read_record(store, path, CorpusManifest), listing.root)
    folder = tree.CORPUS.folder(keyed=corpus_key)
    tasks = [
        ProbeTask(tree.shard_key(number), listing.entries[start : start + shard_size])
        for number, start in enumerate(range(0, len(listing.entries), shard_size))
    ]
    work = ProbeWork(listing.root, listing.kind, limits)
    records = complete(
        store,
        runner,
        StoreStep(tree.CORPUS, store.url, folder, inputs, work),
        tasks,
        units=lambda task: len(task.entries),
        on_progress=on_progress,
    )
    manifest = _manifest(name, listing, records)
    found = create_once(store, path, manifest.to_json())
    return _moved(parse_record(store, path, CorpusManifest, found), listing.root)


def corpus_inputs(listing: Listing, shard_size: int, limits: DecodeLimits) -> str:
    """Return the digest of what decides a corpus."""
    return digest_of([listing.digest(), shard_size, limits.max_pixels, limits.max_bytes])


def _manifest(name: str, listing: Listing, records: list[DoneRecord]) -> CorpusManifest:
    shards: list[ShardRef] = []
    first = 0
    for record in records:
        counts = record.counts
        shards.append(
            ShardRef(
                key=record.key,
                first_image_id=first,
                images=counts["images"],
                refused=counts["refused"],
                ignored=counts["ignored"],
                file=record.files["images"],
            )
        )
        first += counts["images"]
    ignored = sum(shard.ignored for shard in shards)
    passed_over = _passed_over(listing, records)
    if first == 0:
        kinds, said = in_words(passed_over), advice(passed_over)
        raise InputError(
            f"{listing.root} holds no pictures: {ignored:,} files looked at, none of them is one"
            + (f" ({kinds})" if kinds else "")
            + (f". {said}" if said else "")
        )
    return CorpusManifest(
        name=name,
        root=listing.root,
        kind=listing.kind,
        shards=tuple(shards),
        images=first,
        refused=sum(shard.refused for shard in shards),
        ignored=ignored,
        passed_over=passed_over,
        content_digest=digest_of([shard.file.content() for shard in shards]),
    )


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
