"""Proposers of a job: checked before any work, and their frames kept while the corpus grows."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lamella.pipeline.errors import CorruptFile, InputError, MissingFile
from lamella.pipeline.proposers.library import check_proposer, faiss_version
from lamella.pipeline.proposers.stage import frames_of
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import read_record
from lamella.schemas.extraction import ExtractionSpec
from lamella.schemas.files import DoneRecord
from lamella.schemas.job import JobConfig
from lamella.schemas.job_record import JobRecord
from lamella.schemas.snapshot import IndexSnapshot

if TYPE_CHECKING:
    from lamella.pipeline.jobs.indexing import Prepared

OUTGROWN = 2
"""A frame is made anew for a corpus so many times as large as the one that it was fitted to: cells
then hold as many images again, and a query reads as many more."""


def check_proposing(job: JobConfig, spec: ExtractionSpec) -> None:
    """Check that the proposers that a job asks for can be built.

    Raises:
        InputError: the job has no global layer; or as `check_proposer`.
    """
    asked = job.index.proposer
    if asked != "none" and not any(layer.kind == "global" for layer in spec.layers):
        raise InputError(
            f'index.proposer = "{asked}" is for the vectors of global layers, and this job has '
            'none (--layers): add one, or ask for "none"'
        )
    check_proposer(asked)


def building(job: JobConfig) -> str:
    """Return the version of FAISS that builds a job's proposers, "" where it has none."""
    return "" if job.index.proposer == "none" else faiss_version()


def keep_frames(
    store: Store, prepared: "Prepared", before: IndexSnapshot | None
) -> Mapping[str, str]:
    """Return the paths of the frames that a job keeps of the snapshot before, by layer.

    With an equal frame, segments that are there keep their proposers, and only new ones get some.
    All frames are kept or none: where that snapshot is of the same corpus, recipe and kind of
    proposer, and was fitted to more than half as many pictures.
    """
    if before is None or before.proposers is None or not before.job:
        return {}
    if before.proposers.kind != prepared.job.index.proposer or before.corpus != prepared.name:
        return {}
    if not before.extraction.is_like(prepared.spec):
        return {}
    try:
        last = read_record(store, before.job, JobRecord)
        if (before.extraction, last.corpus_inputs) == (prepared.spec, prepared.corpus_inputs):
            return last.frames  # the same job, given again
        kept = frames_of(before.proposers)
        fitted = [read_record(store, path, DoneRecord).counts["indexed"] for path in kept.values()]
    except (MissingFile, CorruptFile):  # `verify` says so
        return {}
    entries = len(prepared.listing.entries)
    return kept if entries < OUTGROWN * min(fitted, default=0) else {}
