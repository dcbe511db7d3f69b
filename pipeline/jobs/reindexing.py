"""Index the source of the current snapshot again, as it is now: what a scheduler calls."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from lamella.pipeline.corpus.roots import picture_source
from lamella.pipeline.corpus.sources import OnEntries, quietly
from lamella.pipeline.errors import InputError, MissingFile
from lamella.pipeline.index.promotions import current_snapshot
from lamella.pipeline.jobs.indexing import Prepared, index_prepared, prepare
from lamella.pipeline.jobs.kept_words import with_words, words_of
from lamella.pipeline.jobs.vectors import changed, check_believed
from lamella.pipeline.run.step import Runner
from lamella.pipeline.stages import Watch
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import read_record
from lamella.schemas.job import ActivationSettings
from lamella.schemas.job_record import JobRecord
from lamella.schemas.snapshot import IndexSnapshot


def prepare_again(
    store: Store,
    *,
    pictures: str | None = None,
    weights: Path | None = None,
    vectors: Sequence[Mapping[str, str]] = (),
    retrain: bool = False,
    keep: Literal["all", "none"] | None = None,
    on_entries: OnEntries = quietly,
) -> Prepared:
    """Resolve the job of the current snapshot and list its source as it is now.

    Words are those of the snapshot, wherever they came from, unless they are to be trained again.

    Args:
        pictures: where the source is now; by default where it was.
        weights: a file of the network's weights; by default those on record.
        vectors: settings of given layers whose vectors are in another file now, or are new; those
            of the others are read again from where they were.
        keep: what is kept of local layers, as `ActivationSettings`; by default words alone.
        on_entries: as of `list_source`.

    Raises:
        InputError: there is no snapshot, or its job, its source or its weights are not there.
    """
    current = current_snapshot(store)
    if current is None:
        raise InputError(f"{store.url} has no snapshot to renew: make one with `lamella index`")
    if not current.job:
        raise InputError(
            f"snapshot {current.number} of {store.url} names no job: give `lamella index` with its "
            "settings again"
        )
    try:
        record = read_record(store, current.job, JobRecord)
    except MissingFile:
        raise InputError(
            f"the record of the job of snapshot {current.number}, {current.job}, is not in "
            f"{store.url}: give `lamella index` with its settings again"
        ) from None
    update = {"name": record.name, "vocabulary_from": None}
    job = record.job.model_copy(update=update | {"activations": ActivationSettings(keep=keep)})
    if weights is not None:
        network = job.network.model_copy(update={"weights": str(weights)})
        job = job.model_copy(update={"network": network})
    check_believed(store.url, job.vectors, [each["name"] for each in vectors])
    if vectors:
        job = job.model_copy(update={"vectors": changed(job.vectors, vectors)})
    source: str | None = None
    if not record.extraction.is_corpus:
        source = picture_source(store, record.source, pictures)
    elif pictures is not None:
        raise InputError(
            f"{store.url} is an index of vectors alone, and --pictures {pictures} names a place of "
            "pictures: give the file of vectors with --vectors"
        )
    prepared = prepare(source, job, on_entries)
    if not prepared.spec.is_like(current.extraction):
        raise InputError(
            f"the weights or the network are not those of snapshot {current.number} "
            f"(SHA-256 {prepared.spec.weights.sha256[:12]}, "
            f"{current.extraction.weights.sha256[:12]} on record): put the right ones back, or "
            "name them with --weights"
        )
    return prepared if retrain else with_words(prepared, words_of(current))


def reindex(
    store: Store,
    runner: Runner,
    *,
    threads: int,
    watch: Watch,
    pictures: str | None = None,
    weights: Path | None = None,
    vectors: Sequence[Mapping[str, str]] = (),
    retrain: bool = False,
    rehash: bool = False,
    keep: Literal["all", "none"] | None = None,
    force: bool = False,
) -> IndexSnapshot:
    """Index the source of the current snapshot as it is now; return the snapshot.

    Args:
        threads: threads of a worker in the extract stage.
        pictures, weights, vectors, retrain, keep: as for `prepare_again`.
        rehash: read every picture again, whatever its size and time say.
        force: promote in spite of gate, order and hold.

    Raises:
        InputError: as `prepare_again`.
        StageFailed: tasks failed, or more pictures were refused than the job allows.
        NotPromoted: the snapshot is made, and the current one stays.
    """
    prepared = prepare_again(
        store, pictures=pictures, weights=weights, vectors=vectors, retrain=retrain, keep=keep
    )
    return index_prepared(
        store,
        runner,
        prepared,
        threads=threads,
        watch=watch,
        retrain=retrain,
        rehash=rehash,
        force=force,
    )
