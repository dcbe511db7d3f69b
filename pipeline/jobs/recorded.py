"""Records of jobs: `index` writes them once, and whatever runs part of a job again reads them."""

import os
from collections.abc import Mapping
from pathlib import Path

from lamella.pipeline.corpus.joined import each_part
from lamella.pipeline.errors import CorruptFile, InputError, one_line
from lamella.pipeline.networks.providers import absolute_name
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import create_once
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import read_record
from lamella.pipeline.store.tree import record_of
from lamella.schemas.extraction import ExtractionSpec
from lamella.schemas.job import EngineSettings, JobConfig
from lamella.schemas.job_record import JobRecord


def record_job(
    store: Store,
    source: str,
    job: JobConfig,
    *,
    name: str,
    corpus_inputs: str,
    entries: int,
    shard_images: int,
    extraction: ExtractionSpec,
    imports: dict[str, str],
    kept: dict[str, str],
    faiss: str = "",
    frames: Mapping[str, str] | None = None,
) -> tuple[str, JobRecord]:
    """Record a job, before it writes anything else; return the path of its record and the record.

    Raises:
        InputError: a path cannot be stored because it is not UTF-8.
    """
    given = [job.network.weights, job.vocabulary_from, job.gate.golden]
    given += [each.file for each in job.vectors]
    for path in (source, *(each or "" for each in given)):
        if not path.isascii() and path != path.encode(errors="replace").decode():
            raise InputError(
                f"a job's record holds its paths in UTF-8; got {one_line(repr(path))}: rename it, "
                "or make a link with another name to it"
            )
    record = JobRecord(
        name=name,
        source=each_part(source, lambda each: each if "://" in each else os.path.abspath(each)),
        corpus_inputs=corpus_inputs,
        entries=entries,
        shard_images=shard_images,
        extraction=extraction,
        job=_settled(job),
        imports=imports,
        kept=kept,
        faiss=faiss,
        frames=dict(frames or {}),
    )
    path = tree.JOB.at(keyed=tree.keyed(name, record.digest()))
    data = record.to_json()
    if not store.exists(path):
        create_once(store, path, data)
    elif store.read(path) != data:
        # It is damaged. Its name is a digest of what it must hold, so write it again.
        store.replace(path, data)
    return path, record


def _settled(job: JobConfig) -> JobConfig:
    """Return the settings without those of the engine, and with absolute paths."""
    weights = job.network.weights
    if weights is not None:
        weights = str(Path(weights).expanduser().absolute())
    name = absolute_name(job.network.name)
    network = job.network.model_copy(update={"name": name, "weights": weights})
    words = job.vocabulary_from
    if words is not None:
        words = str(Path(words).expanduser().absolute())
    gate = job.gate
    if gate.golden is not None:
        golden = str(Path(gate.golden).expanduser().absolute())
        gate = gate.model_copy(update={"golden": golden})
    changes = {"engine": EngineSettings(), "network": network, "vocabulary_from": words}
    vectors = tuple(
        each.model_copy(update={"file": os.path.abspath(os.path.expanduser(each.file))})
        for each in job.vectors
    )
    return job.model_copy(update=changes | {"gate": gate, "vectors": vectors})


def read_jobs(store: Store) -> dict[str, JobRecord]:
    """Return the records of jobs by path; damaged ones are left to `verify`."""
    found: dict[str, JobRecord] = {}
    for path in (f"jobs/{name}" for name in store.names("jobs")):
        if record_of(path) is None:
            continue
        try:
            found[path] = read_record(store, path, JobRecord)
        except CorruptFile:
            continue
    return found


def job_corpus(record: JobRecord) -> str:
    """Return the folder of a job's corpus."""
    return tree.MANIFEST.folder(keyed=tree.keyed(record.name, record.corpus_inputs))
