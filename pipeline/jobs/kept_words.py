"""The words that a job keeps of the snapshot before, so that nothing is trained again."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from lamella.pipeline.errors import CorruptFile, MissingFile
from lamella.pipeline.store import tree
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import read_record
from lamella.schemas.job import ActivationSettings
from lamella.schemas.job_record import JobRecord
from lamella.schemas.snapshot import IndexSnapshot

if TYPE_CHECKING:
    from lamella.pipeline.jobs.indexing import Prepared


def keep_words(store: Store, prepared: "Prepared", before: IndexSnapshot | None) -> "Prepared":
    """Return the job with the words of the snapshot before, if that was made by the same settings.

    So what is known of its pictures stays as it is. Words are trained anew for another source
    (unless its corpus was given the same name), for other layers, words or encodings, and where the
    words before had come from elsewhere.
    """
    if before is None or prepared.imports or not before.job:
        return prepared
    if before.corpus != prepared.name or not before.extraction.is_like(prepared.spec):
        return prepared
    try:
        last = read_record(store, before.job, JobRecord)
    except (MissingFile, CorruptFile):  # `verify` says so
        return prepared
    if last.imports or any(
        last.job.vocabulary_of(layer) != prepared.job.vocabulary_of(layer)
        or last.job.encoding_of(layer) != prepared.job.encoding_of(layer)
        for layer in before.vocabularies
    ):
        return prepared
    same = (before.extraction, last.corpus_inputs) == (prepared.spec, prepared.corpus_inputs)
    if same:
        return with_words(prepared, last.kept)  # the same job, given again
    if before.root != prepared.listing.root and prepared.job.name is None:
        return prepared  # another folder, whose last name happens to be the same
    return with_words(prepared, words_of(before))


def words_of(snapshot: IndexSnapshot) -> dict[str, str]:
    """Return the paths of the records of a snapshot's words, by layer."""
    return {
        layer: tree.VOCABULARY.at(**tree.parts_of(vocabulary.centroids.path))
        for layer, vocabulary in snapshot.vocabularies.items()
        if vocabulary.centroids is not None
    }


def with_words(prepared: "Prepared", kept: Mapping[str, str]) -> "Prepared":
    """Return the job with these words, which are in the store."""
    if not kept:
        return prepared
    keep = ActivationSettings(keep=prepared.keep_said or "none")
    job = prepared.job.model_copy(update={"activations": keep})
    return replace(prepared, job=job, imports={}, kept=dict(kept))
