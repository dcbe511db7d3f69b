"""The extract stage: from a shard of images to one file a layer, and a table of refusals."""

from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lamella.pipeline import events, meters
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.given_vectors import GivenVectors
from lamella.pipeline.corpus.image_table import read_images
from lamella.pipeline.corpus.verdicts import Verdicts
from lamella.pipeline.extract.activations import (
    Refusal,
    batch_without_network,
    batches_at_hand,
)
from lamella.pipeline.extract.extraction import (
    Encoder,
    Extraction,
    FindRecords,
    extracted_shards,
    extraction_of,
    extraction_place,
    find_extracted,
)
from lamella.pipeline.extract.joined_vectors import JoinedVectors, join_vectors, only_sound
from lamella.pipeline.extract.taken import Taken, TakenRows
from lamella.pipeline.run.drive import OnProgress, check_account, complete, quiet
from lamella.pipeline.run.later import Later
from lamella.pipeline.run.step import Counts, Do, Runner, StoreStep
from lamella.pipeline.signs import signed
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import Attempt, read_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.tables import write_parquet
from lamella.schemas.activations import REFUSALS
from lamella.schemas.corpus import CorpusManifest, ShardRef, SourceKind
from lamella.schemas.extraction import ExtractionSpec, Precision
from lamella.schemas.files import TAKEN
from lamella.schemas.refusals import RefusalReason

if TYPE_CHECKING:
    from lamella.pipeline.extract.backbone import Backbone
    from lamella.pipeline.extract.sink import MakeSink


@dataclass(frozen=True)
class ExtractTask:
    """A shard, those of its pictures whose activations are at hand, and the vectors given of it."""

    shard: ShardRef
    taken: tuple[Taken, ...] = ()
    given: Later[JoinedVectors] | None = None

    @property
    def key(self) -> str:
        """The shard's key."""
        return self.shard.key


@dataclass(frozen=True)
class ExtractWork:
    """Runs the pictures of a shard through the network, which each worker opens once, and not
    before there is a picture for it.

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

    def open(self, store: Store) -> Do[ExtractTask]:
        from lamella.pipeline.extract.sink import LayerSink

        device, machine = (
            _device_and_machine(self.spec.precision) if self.spec.computed else ("", "")
        )
        turn, opening = Lock(), Lock()

        @cache
        def network() -> "Backbone":
            from lamella.pipeline.extract.backbone import Backbone

            return Backbone(self.spec.of_network, self.weights, device)

        def opened() -> "Backbone":
            with opening:
                return network()

        sink_of: MakeSink = LayerSink
        if self.encoder is not None:
            sink_of = self.encoder.open(store, LayerSink)

        def extract(task: ExtractTask, work: Attempt) -> Counts:
            rows = read_committed(store, task.shard.file, read_images).to_pylist()
            joined = None if task.given is None else task.given()
            if joined is not None:
                rows = joined.refuse(rows)
                task = replace(task, taken=only_sound(task.taken, rows))
            verdicts = Verdicts(store, work.folder, task.key)
            needed = self.spec.computed and _is_for_network(task, rows)
            backbone = opened() if needed else None
            makers = {part.extracted.machine for part in task.taken}
            makers |= {machine} if backbone is not None else set()
            work.machine = " | ".join(sorted(makers - {""}))
            return self._extract(backbone, sink_of, task, rows, joined, work, turn, verdicts, store)

        return extract

    def _extract(
        self,
        backbone: "Backbone | None",
        sink_of: "MakeSink",
        task: ExtractTask,
        rows: list[dict[str, Any]],
        joined: JoinedVectors | None,
        work: Attempt,
        turn: Lock,
        verdicts: Verdicts,
        store: Store,
    ) -> Counts:
        from lamella.pipeline.extract.background_writer import Beside

        shard = task.shard
        taken = None
        if task.taken:
            taken = TakenRows(store, task.taken, self.spec.computed, local=self.encoder is None)
        refusals = _refused_before(rows)
        indexed: list[int] = []
        counts: dict[str, int] = {}
        image_ids = np.array([row["image_id"] for row in rows], np.int64)
        if not self.spec.computed:
            batches = batch_without_network(rows, image_ids)
        elif backbone is None:
            batches = batches_at_hand(rows, image_ids, self.spec)
        else:
            from lamella.pipeline.extract.work import PictureSource, forward_pictures, threads_for

            batches = forward_pictures(
                backbone,
                PictureSource(self.root, self.limits, self.kind, verdicts),
                rows,
                image_ids,
                threads=threads_for(self.threads, backbone),
                at_hand=frozenset(taken.image_ids.tolist()) if taken else frozenset(),
                turn=turn,
            )
        beside = Beside()
        with ExitStack() as stack:
            sinks = [
                stack.enter_context(
                    closing(sink_of(layer, work.scratch / f"{slot}.parquet", beside.do))
                )
                for slot, layer in enumerate(self.spec.layers)
            ]
            for sink in sinks:
                sink.take(store, task.taken)
            with beside, closing(batches):
                for batch in signed(batches):
                    if taken is not None:
                        batch = taken.into(batch)
                    if joined is not None:
                        batch = joined.into(batch)
                    indexed += batch.image_ids.tolist()
                    refusals += batch.refusals
                    for sink in sinks:
                        sink.add(batch)
            found = np.array(sorted(indexed), np.int64)
            for sink in sinks:
                counts |= sink.commit(work, work.folder, found)
        ids = partial(write_parquet, pa.table({"image_id": pa.array(found)}))
        work.write("images", f"{work.folder}/images", "parquet", ids)
        for refusal in refusals:
            meters.REFUSED.add(reason=refusal.reason.value)
            said = f"{refusal.reason.value} {refusal.detail}".rstrip()
            events.info("picture-refused", said, picture=refusal.name)
        fill = partial(write_parquet, _refusal_table(refusals))
        work.write("refusals", f"{work.folder}/refusals", "parquet", fill)
        if len(indexed) + len(refusals) != shard.images:
            raise AssertionError(
                f"shard {shard.key}: {len(indexed)} extracted + {len(refusals)} refused "
                f"is not its {shard.images} images"
            )
        own = {"images": shard.images, "indexed": len(indexed), "refused": len(refusals)}
        own[f"{TAKEN}images"] = sum(len(part.new_ids) for part in task.taken)
        return own | counts


def _device_and_machine(precision: Precision) -> tuple[str, str]:
    """Return the device of the network, and the name of this kind of machine in a precision."""
    import torch

    from lamella.pipeline.extract.determinism import kind_of_machine

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return device, kind_of_machine(torch.device(device), precision)


def _is_for_network(task: ExtractTask, rows: Sequence[dict[str, Any]]) -> bool:
    """Say whether a picture of a shard is sound and not at hand."""
    at_hand = {image_id for part in task.taken for image_id in part.new_ids}
    return any(row["refusal"] is None and row["image_id"] not in at_hand for row in rows)


def _refused_before(rows: Sequence[dict[str, Any]]) -> list[Refusal]:
    """Return the pictures of a shard that the corpus stage refused, or that have no vector."""
    return [
        Refusal(
            int(row["image_id"]),
            str(row["name"]),
            RefusalReason(str(row["refusal"])),
            str(row["detail"]),
        )
        for row in rows
        if row["refusal"] is not None
    ]


def _refusal_table(refusals: Sequence[Refusal]) -> pa.Table:
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


def extract_corpus(
    store: Store,
    runner: Runner,
    manifest: CorpusManifest,
    spec: ExtractionSpec,
    sources: Callable[[], tuple[str, Path]],
    *,
    find: FindRecords | None = None,
    encoder: Encoder | None = None,
    take: Callable[[Sequence[ShardRef]], Mapping[str, tuple[Taken, ...]]] = lambda shards: {},
    given: Callable[[], Mapping[str, GivenVectors]] = dict,
    anew: Set[str] = frozenset(),
    limits: DecodeLimits,
    threads: int,
    on_progress: OnProgress = quiet,
) -> Extraction:
    """Extract the shards that are missing; return the activations of all.

    Args:
        sources: returns the root of the pictures and the path of the weights; called only if
            something is missing.
        find: looks up what is done; by default where this extraction puts it.
        encoder: turns local descriptors into words, so that they are not kept.
        take: returns what is at hand of the pictures of shards, by key of shard.
        given: returns the vectors of the layers that the user brings, by layer; called only if
            something is missing.
        anew: keys of shards to extract again although they are done.
        threads: threads of a worker.

    Raises:
        StageFailed: shards failed; those that are done stay done.
    """
    shards = extracted_shards(manifest)
    folder, inputs = extraction_place(spec, encoder)
    found = (find or find_extracted(store, spec, encoder))(shards)
    pending = [s for s, r in zip(shards, found, strict=True) if r is None or s.key in anew]
    root, weights = manifest.root, Path()
    taken: Mapping[str, tuple[Taken, ...]] = {}
    vectors: Mapping[str, GivenVectors] = {}
    if pending:
        root, weights = sources()
        taken = take(pending)
        vectors = given() if spec.given else {}
    work = ExtractWork(root, manifest.kind, limits, spec, weights, threads, encoder)
    step = StoreStep(
        tree.EXTRACT,
        store.url,
        folder,
        inputs,
        work,
        uses_gpu=bool(spec.computed),
        threads=threads,
        at_once=2,
        anew=anew,
    )
    made = complete(
        store,
        runner,
        step,
        [
            ExtractTask(
                shard,
                taken.get(shard.key, ()),
                Later(partial(join_vectors, store, shard, vectors)) if vectors else None,
            )
            for shard in pending
        ],
        units=lambda task: task.shard.images,
        on_progress=on_progress,
    )
    new = {record.key: record for record in made}
    done = []
    for shard, records in zip(shards, found, strict=True):
        if shard.key in new:
            done.append((new[shard.key], new[shard.key]))
        elif records is not None:
            check_account(tree.EXTRACT.name, tree.EXTRACT, records[0], shard.images, store)
            done.append(records)
    return extraction_of(store, manifest, spec, done, kept=encoder is None)
