"""What was made of the shards of a corpus by the extract stage, and where it is looked up."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lamella.pipeline.errors import InputError, MissingFile
from lamella.pipeline.extract.tables import read_refusals
from lamella.pipeline.run.drive import read_all_done
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import read_committed
from lamella.pipeline.store.protocol import Store
from lamella.schemas.base import digest_of
from lamella.schemas.corpus import CorpusManifest, ShardRef
from lamella.schemas.extraction import ExtractionSpec
from lamella.schemas.files import DoneRecord, FileRef

if TYPE_CHECKING:
    from lamella.pipeline.extract.sink import MakeSink


class Encoder(Protocol):
    """Turns local descriptors into something else, which is stored instead: their words.

    A small picklable value, because it is sent to workers.
    """

    def inputs(self, extraction: str) -> str:
        """Return the digest of what decides the stored files.

        Args:
            extraction: the digest of what decides the activations.
        """
        ...

    def open(self, store: Store, otherwise: "MakeSink") -> "MakeSink":
        """Return a factory of sinks: its own for local layers, `otherwise` for others."""
        ...


@dataclass(frozen=True)
class Extraction:
    """The outcome of the extract stage: the activations of a whole corpus.

    Attributes:
        inputs: the digest that a training is keyed by: of the recipe and of all pictures.
        decided: the digest of what decides the activations of any picture: the recipe.
        shards: the shards that have images.
        records: the done record of each shard.
        encoded: the record of each shard's words, where these were made with the activations.
    """

    inputs: str
    decided: str
    spec: ExtractionSpec
    shards: tuple[ShardRef, ...]
    records: tuple[DoneRecord, ...]
    keys: tuple[str, ...]
    encoded: tuple[DoneRecord, ...] | None = None

    @property
    def kept(self) -> bool:
        """Whether local descriptors are stored; if not, their words are."""
        return self.encoded is None

    @property
    def indexed(self) -> int:
        """The number of images that gave activations."""
        return sum(record.counts["indexed"] for record in self.records)

    @property
    def refused(self) -> int:
        """The number of images that were refused, in the corpus stage or here."""
        return sum(record.counts["refused"] for record in self.records)

    @property
    def machines(self) -> dict[str, int]:
        """How many images were extracted on each kind of machine, by its name."""
        found: Counter[str] = Counter()
        for record in self.records:
            if record.machine:
                found[record.machine] += record.counts["indexed"]
        return dict(sorted(found.items()))

    def descriptors(self, layer: str) -> dict[str, FileRef]:
        """Return the files of a layer's local descriptors, by key of shard.

        Raises:
            InputError: descriptors were not kept.
            MissingFile: those of a shard were freed.
        """
        if not self.kept:
            raise not_kept(f"the descriptors of layer {layer}")
        for record in self.records:
            check_not_freed(record, layer)
        return {
            key: record.files[layer]
            for key, record in zip(self.keys, self.records, strict=True)
            if layer in record.files
        }


def not_kept(what: str) -> InputError:
    """Return the error for descriptors that are needed but were not kept."""
    return InputError(
        f"activations were not kept: {what} are gone, only their words are there; run with "
        f'activations.keep = "all" (--keep-activations all)'
    )


def check_not_freed(record: DoneRecord, layer: str) -> None:
    """Check that the descriptors of a shard were not freed; none at all is no fault.

    Raises:
        MissingFile: they were.
    """
    if layer in record.freed:
        raise MissingFile(
            f"the descriptors of layer {layer} of shard {record.key} were freed by `lamella gc "
            "--intermediate`: give the same `lamella index` or `lamella reindex` again, which "
            "makes them again"
        )


def extraction_place(spec: ExtractionSpec, encoder: Encoder | None) -> tuple[str, str]:
    """Return the folder of activations and the digest of what decides its files.

    All corpora share it: a shard's activations are keyed by its pictures.
    """
    decided = spec.digest()
    inputs = decided if encoder is None else encoder.inputs(decided)
    return tree.EXTRACT.folder(keyed=tree.keyed(spec.network, inputs)), inputs


FindRecords = Callable[[Sequence[ShardRef]], list[tuple[DoneRecord, DoneRecord] | None]]
"""Returns for each shard its records of extraction and of words, None where they are missing."""


def find_extracted(store: Store, spec: ExtractionSpec, encoder: Encoder | None) -> FindRecords:
    """Return what looks up shards where an extraction puts them."""
    folder, _ = extraction_place(spec, encoder)

    def find(shards: Sequence[ShardRef]) -> list[tuple[DoneRecord, DoneRecord] | None]:
        records = read_all_done(store, folder, [shard.key for shard in shards])
        return [None if record is None else (record, record) for record in records]

    return find


def find_extraction(
    store: Store, manifest: CorpusManifest, spec: ExtractionSpec, find: FindRecords, *, kept: bool
) -> Extraction | None:
    """Return the activations of a corpus, None if those of a shard are missing."""
    found = find(extracted_shards(manifest))
    done = [records for records in found if records is not None]
    if len(done) < len(found):
        return None
    return extraction_of(store, manifest, spec, done, kept=kept)


def extracted_shards(manifest: CorpusManifest) -> tuple[ShardRef, ...]:
    """Return the shards that have pictures."""
    return tuple(shard for shard in manifest.shards if shard.images)


def extraction_of(
    store: Store,
    manifest: CorpusManifest,
    spec: ExtractionSpec,
    done: Sequence[tuple[DoneRecord, DoneRecord]],
    *,
    kept: bool,
) -> Extraction:
    """Return the outcome of an extraction from the records of each shard, `done`."""
    shards = extracted_shards(manifest)
    records = tuple(extracted for extracted, _ in done)
    keys = tuple(outcome_key(store, s, r) for s, r in zip(shards, records, strict=True))
    return Extraction(
        digest_of([spec.digest(), keys]),
        spec.digest(),
        spec,
        shards,
        records,
        keys,
        None if kept else tuple(encoded for _, encoded in done),
    )


def outcome_key(store: Store, shard: ShardRef, record: DoneRecord) -> str:
    """Return the key of what was extracted of a shard: its own, or another if pixels failed.

    An image with a sound header may be refused when its pixels are decoded, and `retry` may read it
    later. Then its words and its segment differ, so they need keys of their own.
    """
    if record.counts["refused"] == shard.refused:
        return shard.key
    return late_key(store, record)


def late_key(store: Store, record: DoneRecord) -> str:
    """Return the key of what was extracted of a shard where pixels failed."""
    refusals = read_committed(store, record.files["refusals"], read_refusals)
    failed = sorted(refusals["image_id"].to_pylist())
    return tree.content_key(digest_of([record.key, failed]))
