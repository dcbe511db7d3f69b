"""Making an index from Python."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lamella.opened import Index, open
from lamella.pipeline.errors import InputError
from lamella.pipeline.jobs.settings import load_job
from lamella.schemas.job import JobConfig


def index(
    source: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]] | None = None,
    *,
    into: str | os.PathLike[str],
    vectors: Mapping[str, str | os.PathLike[str]] | None = None,
    words: int | None = None,
    settings: Mapping[str, Any] | None = None,
    job: str | os.PathLike[str] | None = None,
    progress: bool = False,
    force: bool = False,
    retrain: bool = False,
    rehash: bool = False,
) -> Index:
    """Index pictures and return the index, opened at the snapshot that was made.

    A run that was stopped continues when it is given again, and pictures that were indexed with
    the same settings are not indexed anew.

    Args:
        source: a folder, a list file (.txt), Parquet with paths or bytes, or WebDataset tars;
            on this machine or in S3. Several by name, `{"oxford": "~/oxford", "web": "s3://b/w"}`:
            the names of their pictures begin with that of their source. None indexes vectors alone.
        into: the store: a folder, made if it is absent, or s3://bucket/prefix.
        vectors: files of vectors that you have of every picture, by the name of their layer:
            `{"clip": "clip.parquet"}`. Parquet, Arrow, a folder of such parts, .npz with `names`
            and `vectors`, or .npy with names in a text file beside it; names are relative to the
            source. The layers are high unless `network.layers` says where they stand.
        words: visual words of each local layer; by the corpus's size by default.
        settings: any others by their key in `deploy/job.example.toml`:
            `{"network.name": "vgg16", "network.layers": ["fc1", "c5_1"]}`, or
            `{"corpus.columns": ["year"]}` to keep columns of Parquet. The work is done in
            this process unless they name an engine: `{"engine.workers": 4}` or
            `{"engine.address": "HEAD:6379"}` is Ray. The engine changes no byte.
        job: a TOML file of settings; those of the call win.
        progress: show the stages on standard error.
        force: promote the snapshot in spite of its gate, an order or a hold.
        retrain: train words, although the current snapshot of the same corpus has some.
        rehash: read every picture again, also where size and time are those of the last look.

    Raises:
        NotPromoted: the snapshot is made, and the current one stays: the message says which rule
            forbids more. `lamella.open(into, at=error.snapshot)` opens it all the same.
        InputError: the source, the store or a setting cannot be used.
        StageFailed: tasks failed; the message names them. What is done stays done.
        StoreError, DoesNotFit: the store, the disk or the memory does not do.
    """
    from lamella.cluster.commands.index import Wishes, index_store, prepare_index
    from lamella.cluster.ray.engine import engine
    from lamella.pipeline.corpus.joined import source_of

    try:
        given = []
        if isinstance(source, Mapping):
            given = [f"{name}={os.fspath(place)}" for name, place in source.items()]
        elif source is not None:
            given = [os.path.expanduser(os.fspath(source))]
        pictures, store = None if source is None else source_of(given), os.fspath(into)
        files = [{"name": name, "file": os.fspath(file)} for name, file in (vectors or {}).items()]
    except TypeError as error:
        raise InputError(f"source, into and vectors are paths or addresses: {error}") from None
    said = _overrides(words, settings) | ({"vectors": files} if files else {})
    asked = load_job(Path(job) if job is not None else None, said)
    if not asked.engine.model_fields_set & {"kind", "address", "workers"}:
        asked = _in_this_process(asked)
    prepared = prepare_index(pictures, store, asked, quiet=not progress)
    with engine(asked.engine) as opened:
        wishes = Wishes(force, retrain, rehash)
        made = index_store(opened, store, prepared, quiet=not progress, wishes=wishes)
    if made.withheld is not None:
        raise made.withheld
    return open(store, at=made.snapshot.number, weights=asked.network.weights)


def _overrides(words: int | None, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    said = {"vocabulary.words": words} if words is not None else {}
    if twice := said.keys() & (settings or {}).keys():
        raise InputError(f"{', '.join(twice)} is given twice, by words and in settings: give one")
    return {**said, **(settings or {})}


def _in_this_process(job: JobConfig) -> JobConfig:
    return job.model_copy(update={"engine": job.engine.model_copy(update={"kind": "serial"})})
