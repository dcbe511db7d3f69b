"""The extract stage: from a shard of images to one file a layer, and a table of refusals."""

import threading
from collections.abc import Callable, Sequence, Set
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.image_table import read_images
from lamella.pipeline.corpus.verdicts import Verdicts
from lamella.pipeline.errors import InputError
from lamella.pipeline.extract.tables import read_refusals
from lamella.pipeline.run.drive import OnProgress, complete, quiet, read_all_done
from lamella.pipeline.run.step import Counts, Do, Runner, StoreStep
from lamella.pipeline.signs import signed
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import Attempt, read_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.tables import write_parquet
from lamella.schemas.activations import REFUSALS
from lamella.schemas.base import digest_of
from lamella.schemas.corpus import CorpusManifest, ShardRef, SourceKind
from lamella.schemas.extraction import ExtractionSpec
from lamella.schemas.files import DoneRecord, FileRef
from lamella.schemas.refusals import RefusalReason

if TYPE_CHECKING:
    from lamella.pipeline.extract.backbone import Backbone
    from lamella.pipeline.extract.sink import MakeSink
    from lamella.pipeline.extract.work import Refusal


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
class ExtractWork:
    """Runs the pictures of a shard through the network, which each worker opens once.

    A worker has two shards at a time: while the pictures of one are in the network, the files of
    the last are written, hashed and put into the store. A lock lets one shard at a time into the
    network.

    Attributes:
        root: the folder or S3 prefix of the pictures.
        weights: path of the network's weights.
        threads: threads that read and decode pictures.
        encoder: turns local descriptors into words; without it descriptors are stored.
    """

    root: str
    kind: SourceKind
    limits: DecodeLimits
    spec: ExtractionSpec
    weights: Path
    threads: int
    encoder: Encoder | None = None

    def open(self, store: Store) -> Do[ShardRef]:
        import torch

        from lamella.pipeline.extract.backbone import Backbone
        from lamella.pipeline.extract.determinism import kind_of_machine
        from lamella.pipeline.extract.sink import LayerSink

        device = "cuda" if torch.cuda.is_available() else "cpu"
        backbone = Backbone(self.spec, self.weights, device)
        machine = kind_of_machine(torch.device(device))
        sink_of: MakeSink = LayerSink
        if self.encoder is not None:
            sink_of = self.encoder.open(store, LayerSink)
        turn = threading.Lock()

        def extract(shard: ShardRef, work: Attempt) -> Counts:
            rows = read_committed(store, shard.file, read_images).to_pylist()
            verdicts = Verdicts(store, work.folder, shard.key)
            work.machine = machine
            return self._extract(backbone, sink_of, shard, rows, work, turn, verdicts)

        return extract

    def _extract(
        self,
        backbone: "Backbone",
        sink_of: "MakeSink",
        shard: ShardRef,
        rows: list[dict[str, object]],
        work: Attempt,
        turn: threading.Lock,
        verdicts: Verdicts,
    ) -> Counts:
        from lamella.pipeline.extract.background_writer import Beside
        from lamella.pipeline.extract.work import (
            PictureSource,
            forward_pictures,
            threads_for,
        )

        refusals = _refused_before(shard, rows)
        indexed: list[int] = []
        counts: dict[str, int] = {}
        source = PictureSource(self.root, self.limits, self.kind, verdicts)
        threads = threads_for(self.threads, backbone)
        beside = Beside()
        with ExitStack() as stack:
            sinks = [
                stack.enter_context(
                    closing(sink_of(layer, work.scratch / f"{slot}.parquet", beside.do))
                )
                for slot, layer in enumerate(self.spec.layers)
            ]
            batches = forward_pictures(
                backbone, source, rows, shard.first_image_id, threads=threads, turn=turn
            )
            with beside, closing(batches):
                for batch in signed(batches):
                    indexed += batch.image_ids.tolist()
                    refusals += batch.refusals
                    for sink in sinks:
                        sink.add(batch)
            image_ids = np.array(sorted(indexed), np.int64)
            for sink in sinks:
                counts |= sink.commit(work, work.folder, image_ids)
        ids = partial(write_parquet, pa.table({"image_id": pa.array(image_ids)}))
        work.write("images", f"{work.folder}/images", "parquet", ids)
        fill = partial(write_parquet, _refusal_table(refusals))
        work.write("refusals", f"{work.folder}/refusals", "parquet", fill)
        if len(indexed) + len(refusals) != shard.images:
            raise AssertionError(
                f"shard {shard.key}: {len(indexed)} extracted + {len(refusals)} refused "
                f"is not its {shard.images} images"
            )
        own = {"images": shard.images, "indexed": len(indexed), "refused": len(refusals)}
        return own | counts


def _refused_before(shard: ShardRef, rows: Sequence[dict[str, object]]) -> "list[Refusal]":
    """Return the pictures of a shard that the corpus stage refused."""
    from lamella.pipeline.extract.work import Refusal

    return [
        Refusal(
            shard.first_image_id + number,
            str(row["name"]),
            RefusalReason(str(row["refusal"])),
            str(row["detail"]),
        )
        for number, row in enumerate(rows)
        if row["refusal"] is not None
    ]


def _refusal_table(refusals: "Sequence[Refusal]") -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "image_id": refusal.image_id,
                "name": refusal.name,
                "reason": refusal.reason.value,
                "detail": refusal.detail,
            }
            for refusal in sorted(refusals, key=lambda refusal: refusal.image_id)
        ],
        schema=REFUSALS,
    )


@dataclass(frozen=True)
class Extraction:
    """The outcome of the extract stage: the activations of a whole corpus.

    Attributes:
        folder: the folder of the activations.
        inputs: the digest that later stages are keyed by, as `extraction_outcome` returns it.
        shards: the shards that have images.
        records: the done record of each shard.
        kept: whether local descriptors are stored; if not, their words are.
    """

    folder: str
    inputs: str
    spec: ExtractionSpec
    shards: tuple[ShardRef, ...]
    records: tuple[DoneRecord, ...]
    kept: bool = True

    @property
    def indexed(self) -> int:
        """The number of images that gave activations."""
        return sum(record.counts["indexed"] for record in self.records)

    @property
    def refused(self) -> int:
        """The number of images that were refused, in the corpus stage or here."""
        return sum(record.counts["refused"] for record in self.records)

    @property
    def machines(self) -> tuple[str, ...]:
        """The kinds of machine that the activations were made on, sorted."""
        return tuple(sorted({record.machine for record in self.records} - {""}))

    def descriptors(self, layer: str) -> dict[str, FileRef]:
        """Return the files of a layer's local descriptors, by key of shard.

        Raises:
            InputError: descriptors were not kept.
        """
        if not self.kept:
            raise not_kept(f"the descriptors of layer {layer} in {self.folder}")
        return {record.key: record.files[layer] for record in self.records if layer in record.files}


def not_kept(what: str) -> InputError:
    """Return the error for descriptors that are needed but were not kept."""
    return InputError(
        f"activations were not kept: {what} are gone, only their words are there; run with "
        f'activations.keep = "all" (--keep-activations all)'
    )


def extraction_inputs(spec: ExtractionSpec, corpus_content: str) -> str:
    """Return the digest of what decides a corpus's activations."""
    return digest_of([spec.digest(), corpus_content])


def extraction_folder(spec: ExtractionSpec, inputs: str) -> str:
    """Return the folder of the activations that are made from these inputs."""
    return tree.EXTRACT.folder(keyed=tree.keyed(spec.network, inputs))


def extraction_place(
    manifest: CorpusManifest, spec: ExtractionSpec, encoder: Encoder | None
) -> tuple[str, str]:
    """Return the folder of a corpus's activations and the digest of what decides its files."""
    decided = extraction_inputs(spec, manifest.content_digest)
    inputs = decided if encoder is None else encoder.inputs(decided)
    return extraction_folder(spec, inputs), inputs


def find_extraction(
    store: Store, manifest: CorpusManifest, spec: ExtractionSpec, encoder: Encoder | None
) -> Extraction | None:
    """Return the activations of a corpus, None if those of a shard are missing."""
    folder, _ = extraction_place(manifest, spec, encoder)
    records = read_all_done(store, folder, [shard.key for shard in _extracted(manifest)])
    done = [record for record in records if record is not None]
    return _outcome(store, manifest, spec, encoder, done) if len(done) == len(records) else None


def extract_corpus(
    store: Store,
    runner: Runner,
    manifest: CorpusManifest,
    spec: ExtractionSpec,
    sources: Callable[[], tuple[str, Path]],
    *,
    encoder: Encoder | None = None,
    anew: Set[str] = frozenset(),
    limits: DecodeLimits,
    threads: int,
    on_progress: OnProgress = quiet,
) -> Extraction:
    """Extract the shards that are missing; return the activations of all.

    Args:
        sources: returns the root of the pictures and the path of the weights; called only if
            something is missing.
        encoder: turns local descriptors into words, so that they are not kept.
        anew: keys of shards to extract again although they are done.
        threads: threads of a worker.

    Raises:
        StageFailed: shards failed; those that are done stay done.
    """
    shards = _extracted(manifest)
    folder, inputs = extraction_place(manifest, spec, encoder)
    found = read_all_done(store, folder, [shard.key for shard in shards])
    root, weights = manifest.root, Path()
    if anew or None in found:
        root, weights = sources()
    step = StoreStep(
        tree.EXTRACT,
        store.url,
        folder,
        inputs,
        ExtractWork(root, manifest.kind, limits, spec, weights, threads, encoder),
        uses_gpu=True,
        threads=threads,
        at_once=2,
        anew=anew,
    )
    records = complete(
        store,
        runner,
        step,
        shards,
        units=lambda shard: shard.images,
        found=found,
        on_progress=on_progress,
    )
    return _outcome(store, manifest, spec, encoder, records)


def _extracted(manifest: CorpusManifest) -> tuple[ShardRef, ...]:
    """Return the shards that have pictures."""
    return tuple(shard for shard in manifest.shards if shard.images)


def _outcome(
    store: Store,
    manifest: CorpusManifest,
    spec: ExtractionSpec,
    encoder: Encoder | None,
    records: Sequence[DoneRecord],
) -> Extraction:
    shards = _extracted(manifest)
    folder, _ = extraction_place(manifest, spec, encoder)
    decided = extraction_inputs(spec, manifest.content_digest)
    outcome = extraction_outcome(store, decided, shards, records)
    return Extraction(folder, outcome, spec, shards, tuple(records), encoder is None)


def extraction_outcome(
    store: Store, inputs: str, shards: Sequence[ShardRef], records: Sequence[DoneRecord]
) -> str:
    """Return the digest that later stages are keyed by: of the inputs and of late refusals.

    An image with a sound header may be refused when its pixels are decoded, and `retry` may read it
    later. Then vocabulary, bags and segments differ, so they need folders of their own.
    """
    late = [
        [
            shard.key,
            read_committed(store, record.files["refusals"], read_refusals)["image_id"].to_pylist(),
        ]
        for shard, record in zip(shards, records, strict=True)
        if record.counts["refused"] != shard.refused
    ]
    return digest_of([inputs, late]) if late else inputs
