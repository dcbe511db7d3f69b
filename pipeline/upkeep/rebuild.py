"""Doing parts of a recorded job again: its missing tasks, its snapshot, a promotion."""

import datetime
import secrets
from collections.abc import Set
from pathlib import Path

from lamella.pipeline.corpus.listing import Listing
from lamella.pipeline.corpus.roots import picture_root, picture_source
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.corpus.stage import build_corpus, corpus_inputs
from lamella.pipeline.errors import InputError
from lamella.pipeline.index.encode import Encoding
from lamella.pipeline.index.publish import draft_snapshot, make_totals
from lamella.pipeline.index.stage import Index
from lamella.pipeline.jobs.indexing import Watch, build_index, decode_limits
from lamella.pipeline.jobs.recorded import job_corpus, read_jobs
from lamella.pipeline.jobs.resolve import resolve_extraction, resolve_fusion
from lamella.pipeline.jobs.status import job_folders
from lamella.pipeline.run.step import Runner
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import read_done
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import read_record
from lamella.pipeline.upkeep.inventory import take_inventory
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.job import WEIGHTING_OF
from lamella.schemas.job_record import JobRecord
from lamella.schemas.snapshot import IndexSnapshot, Promotion


def rebuild_job(
    store: Store,
    runner: Runner,
    job: JobRecord,
    *,
    threads: int,
    watch: Watch,
    pictures: str | None = None,
    anew: Set[str] = frozenset(),
) -> tuple[CorpusManifest, Encoding, Index]:
    """Run what is missing of a job. Source and weights are needed only if their stages are.

    Args:
        pictures: where they lie now; by default where they were.
        anew: keys of shards that are extracted though they are done.

    Raises:
        InputError: source or weights are needed, and gone or changed.
        StageFailed: a task failed.
    """
    manifest = job_manifest(store, runner, job, watch, pictures)
    folder = job_folders(store, job, manifest).extraction
    missing = (
        bool(anew)
        or folder is None
        or any(
            read_done(store, folder, shard.key) is None for shard in manifest.shards if shard.images
        )
    )
    weights = _weights(job) if missing else Path()
    if missing:
        root = picture_root(store, manifest.root, pictures)
        manifest = manifest.model_copy(update={"root": root})
    encoding, index = build_index(
        store,
        runner,
        manifest,
        job.job,
        job.extraction,
        weights,
        imports=job.imports,
        threads=threads,
        watch=watch,
        anew=anew,
    )
    make_totals(store, encoding, index)
    return manifest, encoding, index


def job_manifest(
    store: Store, runner: Runner, job: JobRecord, watch: Watch, pictures: str | None = None
) -> CorpusManifest:
    """Return a job's manifest, made anew where it is lost; only then is the source needed.

    Raises:
        InputError: the source is needed, and gone or changed.
    """
    path = f"{job_corpus(job)}/manifest.json"
    if store.exists(path):
        return read_record(store, path, CorpusManifest)
    return build_corpus(
        store,
        runner,
        job_listing(store, job, pictures),
        job.name,
        shard_size=job.shard_images,
        limits=decode_limits(job.job),
        on_progress=watch.progress,
    )


def job_listing(store: Store, job: JobRecord, pictures: str | None = None) -> Listing:
    """Return the listing of a job's source, which must be the one it was made from.

    Args:
        pictures: the source as it is named now; by default as it was.

    Raises:
        InputError: it is not to be had, or has changed.
    """
    source = picture_source(store, job.source, pictures)
    listing = list_source(source)
    inputs = corpus_inputs(listing, job.shard_images, decode_limits(job.job))
    if inputs != job.corpus_inputs:
        raise InputError(
            f"{source} has changed since corpus {job.name} was made of it (names, sizes or "
            f"times: {inputs[:12]}, {job.corpus_inputs[:12]} on record): put it back as it was, "
            "or index it anew"
        )
    return listing


def _weights(job: JobRecord) -> Path:
    spec, weights = resolve_extraction(job.job)
    if spec != job.extraction:
        raise InputError(
            f"weights or network are not those that {job.name} was made with "
            f"(SHA-256 {spec.weights.sha256[:12]}, {job.extraction.weights.sha256[:12]} on "
            "record): put the right ones back"
        )
    return weights


def rebuild_snapshot(
    store: Store,
    runner: Runner,
    path: str,
    *,
    threads: int,
    watch: Watch,
    pictures: str | None = None,
) -> None:
    """Create a damaged or lost snapshot anew from the finished job that it was published by.

    Raises:
        InputError: no finished job gives it.
    """
    number = int(tree.SNAPSHOT.form.parts(path)["number"])
    found = take_inventory(store)
    wanted = {p.root_digest for _, p in found.of(Promotion) if p.snapshot == number} - {""}
    others = {s.root_digest for p, s in found.of(IndexSnapshot) if p != path}
    for job_path, job in read_jobs(store).items():
        manifest = f"{job_corpus(job)}/manifest.json"
        if manifest not in found.records:
            continue
        folders = job_folders(store, job, read_record(store, manifest, CorpusManifest))
        if folders.index is None or not store.exists(
            tree.done(f"{folders.index}/totals", "totals")
        ):
            continue  # a job in work
        corpus, encoding, index = rebuild_job(
            store, runner, job, threads=threads, watch=watch, pictures=pictures
        )
        spec = job.extraction
        draft = draft_snapshot(
            store,
            corpus,
            encoding,
            index,
            weighting=WEIGHTING_OF[job.job.profile],
            fusion=resolve_fusion(spec.network, spec.layers, job.job.fusion),
            job=job_path,
        )
        if draft.root_digest in wanted or (not wanted and draft.root_digest not in others):
            store.replace(path, draft.model_copy(update={"number": number}).to_json())
            return
    raise InputError(
        f"{path} cannot be rebuilt: no finished job in {store.url} gives it; index anew, or "
        "restore the file from a copy"
    )


def rebuild_promotion(store: Store, path: str) -> str:
    """Create a damaged or lost promotion anew; return what it names now, as a sentence.

    One that a later promotion follows has no effect any more. The last names the newest snapshot.
    """
    number = int(tree.PROMOTION.form.parts(path)["number"])
    found = take_inventory(store)
    later = [p for _, p in found.of(Promotion) if p.number > number]
    snapshots = {s.number: s for _, s in found.of(IndexSnapshot)}
    if not snapshots:
        raise InputError(f"{path} cannot be rebuilt: {store.url} has no snapshot; index anew")
    named = later[0].snapshot if later else max(snapshots)
    promotion = Promotion(
        number=number,
        snapshot=named,
        root_digest=snapshots[named].root_digest if named in snapshots else "",
        promoted_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        commit_id=secrets.token_hex(8),
    )
    store.replace(path, promotion.to_json())
    if later:
        return f"{path} was rebuilt; a later promotion holds, so nothing changes"
    return (
        f"{path} was rebuilt and names snapshot {named}, the newest: if another was promoted, "
        f"give `lamella snapshots {store.url} --promote NUMBER`"
    )
