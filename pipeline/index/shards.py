"""The shards of a snapshot, and what was made of each of them."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from lamella.pipeline.extract.extraction import (
    FindRecords,
    extraction_place,
    find_extracted,
    outcome_key,
)
from lamella.pipeline.index.encode import encoding_place, from_high_to_low
from lamella.pipeline.index.one_pass import WordEncoder
from lamella.pipeline.run.drive import READERS, read_all_done
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import read_record
from lamella.schemas.corpus import ShardRef
from lamella.schemas.extraction import ExtractionSpec
from lamella.schemas.files import DoneRecord
from lamella.schemas.snapshot import IndexSnapshot, SegmentManifest
from lamella.schemas.vocabulary import Vocabulary

Records = tuple[DoneRecord, DoneRecord]
"""What was made of a shard: the record of extraction and that of its words, perhaps one."""


def segment_shards(store: Store, snapshot: IndexSnapshot) -> list[tuple[ShardRef, ...]]:
    """Return the shards of each segment of a snapshot.

    Raises:
        MissingFile, CorruptFile: a manifest of a segment is gone or damaged.
    """

    def read(path: str) -> tuple[ShardRef, ...]:
        return read_record(store, path, SegmentManifest).shards

    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(read, (segment.manifest for segment in snapshot.segments)))


def shards_of(store: Store, snapshot: IndexSnapshot) -> list[ShardRef]:
    """Return the shards of a snapshot that have pictures, in order. Raises as `segment_shards`."""
    return [shard for shards in segment_shards(store, snapshot) for shard in shards]


def find_at_once(
    store: Store, spec: ExtractionSpec, vocabularies: Mapping[str, Vocabulary]
) -> FindRecords:
    """Return what looks up shards that have vectors and words, made in one pass or in two."""
    encoder = WordEncoder(vocabularies)
    apart, _ = extraction_place(spec, None)
    words, _ = encoding_place(spec.digest(), from_high_to_low(spec, vocabularies))

    def find(shards: Sequence[ShardRef]) -> list[Records | None]:
        keys = [shard.key for shard in shards]
        found = find_extracted(store, spec, encoder)(shards)
        missing = [n for n, records in enumerate(found) if records is None]
        extracted = read_all_done(store, apart, [keys[n] for n in missing])
        there = [(n, r) for n, r in zip(missing, extracted, strict=True) if r is not None]
        wanted = [outcome_key(store, shards[n], record) for n, record in there]
        for (n, record), encoded in zip(there, read_all_done(store, words, wanted), strict=True):
            if encoded is not None:
                found[n] = (record, encoded)
        return found

    return find


def finder_of(store: Store, snapshot: IndexSnapshot) -> FindRecords:
    """Return what looks up the records that a snapshot was made from."""
    return find_at_once(store, snapshot.extraction, snapshot.vocabularies)
