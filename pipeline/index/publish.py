"""The publish stage: totals over all segments, then one snapshot, created once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lamella.pipeline.errors import CorruptFile, SnapshotIncomplete
from lamella.pipeline.extract.tables import read_refusals
from lamella.pipeline.index.encode import Encoding
from lamella.pipeline.index.expired import expired_numbers
from lamella.pipeline.index.promotions import latest_number, now, read_snapshot
from lamella.pipeline.index.same_ids import check_ids
from lamella.pipeline.index.stage import Index
from lamella.pipeline.index.weighting import word_weights
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import attempt, create_once, read_committed, read_done
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import cure, parse_record
from lamella.pipeline.store.tables import column, map_arrow, of, write_arrow
from lamella.schemas.base import digest_of
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.files import DoneRecord, FileRef
from lamella.schemas.query import FusionSpec, Weighting
from lamella.schemas.snapshot import IndexSnapshot, LayerScale, Proposers, SegmentRef

TOTALS = "totals"
"""Key of the task that counts the pictures of each word."""


def publish(store: Store, draft: IndexSnapshot) -> IndexSnapshot:
    """Return a drafted snapshot with its number; it is created unless an equal one exists.

    A run that died may have created it without promoting it, and another run may create it
    meanwhile. So every number up to the created one is checked, and no root digest gets two. It is
    not promoted: `jobs.promoting` judges it first.

    Args:
        draft: see `draft_snapshot`.

    Raises:
        CommitUnknown: the outcome of a commit cannot be read back.
    """
    latest, gone = latest_number(store, tree.SNAPSHOT), expired_numbers(store)
    for number in range(latest, 0, -1):
        if number in gone:
            continue  # equal content that comes again gets a new number
        found = read_snapshot(store, number)
        if found.root_digest == draft.root_digest:
            return found
    number = latest + 1
    while True:
        mine = draft.model_copy(update={"number": number})
        path = tree.SNAPSHOT.at(number=number)
        won = create_once(store, path, mine.to_json())
        there = parse_record(store, path, IndexSnapshot, won)
        if there.root_digest == draft.root_digest and number not in expired_numbers(store):
            return there
        number += 1  # another writer took this number for its own snapshot


def draft_snapshot(
    store: Store,
    manifest: CorpusManifest,
    encoding: Encoding,
    index: Index,
    *,
    frequencies: Mapping[str, FileRef],
    weighting: Weighting,
    fusion: FusionSpec,
    calibration: tuple[LayerScale, ...] = (),
    job: str = "",
    proposers: Proposers | None = None,
    proposed: Mapping[str, DoneRecord] | None = None,
) -> IndexSnapshot:
    """Return what would be published, under number 1.

    Args:
        frequencies: the files that `make_totals` returned.
        proposers: what the segments have as `LAYER.proposer`, if anything.
        proposed: the records of these files, by key of the segment.

    Raises:
        SnapshotIncomplete: the images of the manifest are not all accounted for.
    """
    extraction = encoding.extraction
    if extraction.indexed + extraction.refused != manifest.images:
        raise SnapshotIncomplete(
            f"{extraction.indexed:,} indexed + {extraction.refused:,} refused images are not the "
            f"{manifest.images:,} of corpus {manifest.name}: {cure(store)}"
        )
    in_segments = sum(record.counts["images"] for record in index.records)
    if in_segments != extraction.indexed:
        raise SnapshotIncomplete(
            f"segments hold {in_segments:,} images, {extraction.indexed:,} of corpus "
            f"{manifest.name} were extracted: {cure(store)}"
        )
    reasons = refusals_by_reason(store, extraction.records)
    if sum(reasons.values()) != extraction.refused:
        raise SnapshotIncomplete(
            f"{sum(reasons.values()):,} refusals have a reason, {extraction.refused:,} images of "
            f"corpus {manifest.name} were refused: {cure(store)}"
        )
    return IndexSnapshot(
        number=1,
        published_at=now(),
        listed_at=manifest.listed_at,
        corpus=manifest.name,
        kind=manifest.kind,
        root=manifest.root,
        job=job,
        corpus_content=manifest.content_digest,
        keeps_descriptors=extraction.kept,
        extraction=extraction.spec,
        vocabularies=dict(encoding.vocabularies),
        segments=tuple(
            SegmentRef(
                key=task.key,
                manifest=tree.SEGMENT.at(**tree.parts_of(index.folder), key=task.key),
                images=record.counts["images"],
                files=record.files | (proposed[task.key].files if proposed else {}),
            )
            for task, record in zip(index.tasks, index.records, strict=True)
        ),
        document_frequencies=dict(frequencies),
        weighting=weighting,
        fusion=fusion,
        calibration=calibration,
        proposers=proposers,
        images=manifest.images,
        indexed=extraction.indexed,
        refused=extraction.refused,
        refused_by_reason=reasons,
        ignored=manifest.ignored,
        machine=" | ".join(extraction.machines),
    )


def refusals_by_reason(store: Store, records: Sequence[DoneRecord]) -> dict[str, int]:
    """Return how many images were refused for each reason."""
    reasons: Counter[str] = Counter()
    for record in records:
        table = read_committed(store, record.files["refusals"], read_refusals)
        reasons.update(table.column("reason").to_pylist())
    return dict(sorted(reasons.items()))


def find_totals(store: Store, index: Index) -> dict[str, FileRef] | None:
    """Return the files of document frequencies over all segments, None where they are missing."""
    found = read_done(store, totals_place(index)[0], TOTALS)
    return None if found is None else found.files


def totals_place(index: Index) -> tuple[str, str]:
    """Return the folder of document frequencies, and the digest of what decides them."""
    inputs = digest_of([index.inputs, [task.key for task in index.tasks]])
    return tree.TOTALS.folder(keyed=tree.keyed("all", inputs)), inputs


def make_totals(store: Store, encoding: Encoding, index: Index) -> dict[str, FileRef]:
    """Return the files of document frequencies over all segments, made once.

    Raises:
        InputError: two indexed images have one id.
    """
    if (found := find_totals(store, index)) is not None:
        return found
    check_ids(store, index)
    totals_folder, inputs = totals_place(index)
    with attempt(store, totals_folder, tree.TOTALS.name, TOTALS, inputs) as work:
        for layer, vocabulary in encoding.vocabularies.items():
            total = np.zeros(vocabulary.words, np.int64)
            for record in index.records:
                total += read_frequencies(store, record.files[f"{layer}.frequencies"])
            table = pa.table({"document_frequency": pa.array(total)})

            def fill(path: Path, table: pa.Table = table) -> int:
                return write_arrow(table, path)

            work.write(layer, tree.layer_folder(totals_folder, layer), "arrow", fill)
        return work.finish().files


def read_frequencies(store: Store, reference: FileRef) -> NDArray[np.int64]:
    """Return document frequencies (K,) int64 from their file."""
    form = {"document_frequency": of(pa.int64())}
    found = column(
        read_committed(store, reference, lambda path: map_arrow(path, form)), "document_frequency"
    )
    if len(found) and int(found.min()) < 0:
        raise CorruptFile(
            f"{reference.path} counts {found.min()} pictures of a word; {cure(store)}"
        )
    return found


def read_weights(
    store: Store, frequencies: Mapping[str, FileRef], images: int, weighting: Weighting
) -> dict[str, NDArray[np.float64]]:
    """Return the weight of every visual word of each local layer, (K,) float64.

    Args:
        frequencies: files of document frequencies, by layer.
        images: of the whole corpus.
    """
    return {
        layer: word_weights(weighting, read_frequencies(store, file), images)
        for layer, file in frequencies.items()
    }
