"""`retry`: try pictures again that were refused for a reason that may have passed.

Only these pictures are read. If the result of one has changed, the table or the activations of its
shard are made again, activations of other shards are kept, and later stages run again. The index is
then the same, bit for bit, as if the pictures had been readable from the start. Each record is
replaced atomically, so a retry that was stopped can be continued.
"""

from collections import Counter
from collections.abc import Iterator, Sequence, Set
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.forgotten import is_forgotten, read_forgotten
from lamella.pipeline.corpus.identity import image_id_of
from lamella.pipeline.corpus.image_table import probe_entry, read_images
from lamella.pipeline.corpus.listing import Entry
from lamella.pipeline.corpus.reader import EntryReader
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.roots import picture_root
from lamella.pipeline.corpus.stage import content_of, decode_limits, shard_key, write_look
from lamella.pipeline.corpus.verdicts import discard_verdicts
from lamella.pipeline.errors import InputError, MissingFile
from lamella.pipeline.extract.extraction import Extraction
from lamella.pipeline.extract.tables import read_refusals
from lamella.pipeline.index.promotions import current_snapshot
from lamella.pipeline.jobs.gate import open_gate
from lamella.pipeline.jobs.indexing import draft_of
from lamella.pipeline.jobs.promoting import publish_and_promote
from lamella.pipeline.jobs.recorded import read_jobs
from lamella.pipeline.journey import Journey
from lamella.pipeline.run.drive import OnProgress, Progress
from lamella.pipeline.run.step import Runner
from lamella.pipeline.stages import Hands, Made, Watch
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import attempt, read_committed, read_done
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import cure
from lamella.pipeline.store.tables import read_parquet
from lamella.pipeline.upkeep.rebuild import RecordedSources, rebuild_job
from lamella.schemas.corpus import IMAGES, SEEN, CorpusManifest, ShardRef
from lamella.schemas.job_record import JobRecord
from lamella.schemas.refusals import RefusalReason
from lamella.schemas.snapshot import IndexSnapshot

WORTH_RETRYING = (
    RefusalReason.UNREADABLE,
    RefusalReason.FETCH_FAILED,
    RefusalReason.MISSING,
    RefusalReason.CHANGED,
    RefusalReason.DECODER_CRASHED,
    RefusalReason.TOO_SLOW,
    RefusalReason.TOO_MUCH_MEMORY,
)
"""Reasons that may pass. A picture that was refused for its own bytes stays refused."""

READABLE = "readable"


@dataclass(frozen=True)
class Retried:
    """How many pictures were tried, how many have each result, and the current snapshot."""

    tried: int
    became: dict[str, int]
    snapshot: IndexSnapshot


@dataclass(frozen=True)
class Trial:
    """A refused picture to try again.

    Attributes:
        place: its number in the shard.
        row: its row of the image table.
        verdict: reason and detail, if extraction refused it; otherwise they are in the row.
    """

    shard: ShardRef
    place: int
    row: dict[str, Any]
    verdict: tuple[str, str] | None = None


def retry_store(
    store: Store,
    runner: Runner,
    states: Set[RefusalReason],
    *,
    threads: int,
    watch: Watch,
    pictures: str | None = None,
    force: bool = False,
) -> Retried:
    """Try the pictures again that were refused for these reasons; publish if any result changed.

    This applies to the job of the current snapshot, or to the store's only job if there is no
    snapshot yet. No other job may run on the store meanwhile.

    Args:
        states: the reasons.
        threads: threads of a worker in the extract stage.
        pictures: where the pictures are now; by default where they were when they were indexed.
        force: promote in spite of gate, order and hold.

    Raises:
        InputError: there is no job to retry, or several and no snapshot; or a store in S3 names a
            folder of this machine.
        StageFailed: a task failed, or too many are still refused; the same command continues.
        NotPromoted: the new snapshot is made, and its gate or a hold forbids to promote it.
    """
    current = current_snapshot(store)
    path, job = _job(store, current)
    gate = open_gate(job.job.gate, shares=False)
    sources = RecordedSources(store, job, pictures)
    hands = Hands(runner, threads, watch, before=current)
    found = Journey(store, job, sources).make_corpus(hands)  # it may be lost with a disk
    manifest = found.model_copy(update={"root": picture_root(store, found.root, pictures)})
    limits = decode_limits(job.job)
    became: Counter[str] = Counter()
    refused, barred = _refused_rows(store, manifest, states), frozenset(read_forgotten(store))
    tried = _try_rows(manifest, refused, limits, barred, watch.progress)
    became.update(row["refusal"] or READABLE for _, row in tried)
    extraction = _extraction_of(store, job)
    late = list(_refused_late(store, extraction, states)) if extraction is not None else []
    changed = _try_pixels(job, manifest, late, limits, became, watch.progress)
    passed = {trial.shard.key for trial in changed}
    if extraction is not None:
        for shard, record in zip(extraction.shards, extraction.records, strict=True):
            if shard.key in passed:  # else extraction would use the old verdicts again
                folder = tree.folder_of(record.files["refusals"].path)
                discard_verdicts(store, folder, shard.key)
    _renew_tables(store, job, found, [(trial, row) for trial, row in tried if row != trial.row])
    made = rebuild_job(store, job, replace(hands, anew=passed), pictures)
    draft = draft_of(store, path, job, made, on_progress=watch.progress)
    published = publish_and_promote(store, draft, gate, instead_of=current, force=force)
    return Retried(sum(became.values()), dict(sorted(became.items())), published.snapshot)


def _extraction_of(store: Store, job: JobRecord) -> Extraction | None:
    """Return the outcome of a job's extract stage, None if it has not ended."""
    made = Made()
    for stage in Journey(store, job).walk(made):
        if stage.name == "extract":
            found: Extraction | None = stage.find()
            return found
    return None


def _job(store: Store, current: IndexSnapshot | None) -> tuple[str, JobRecord]:
    jobs = read_jobs(store)
    if current is not None and current.job in jobs:
        return current.job, jobs[current.job]
    if current is None and len(jobs) == 1:
        return next(iter(jobs.items()))
    raise InputError(
        f"{store.url} has {len(jobs)} jobs on record and no current snapshot that one of them "
        "made: give the same `lamella index` again first"
    )


def _refused_rows(
    store: Store, manifest: CorpusManifest, states: Set[RefusalReason]
) -> list[Trial]:
    """Return the pictures that the corpus stage refused for these reasons."""
    return [
        Trial(shard, place, row)
        for shard in manifest.shards
        if shard.refused
        for place, row in enumerate(read_committed(store, shard.file, read_images).to_pylist())
        if row["refusal"] in states
    ]


def _try_rows(
    manifest: CorpusManifest,
    trials: Sequence[Trial],
    limits: DecodeLimits,
    forgotten: Set[str],
    on_progress: OnProgress,
) -> list[tuple[Trial, dict[str, Any]]]:
    """Probe these pictures again; return the row of the image table that each has now."""
    found: list[tuple[Trial, dict[str, Any]]] = []
    with EntryReader(manifest.root, limits, manifest.kind) as reader:
        for number, trial in enumerate(trials):
            size = trial.row["size_bytes"]
            entry = Entry(
                trial.row["name"],
                trial.row["container"],
                trial.row["offset"],
                -1 if size is None else size,
            )
            # Each keeps its row, whatever it turns out to be; its id is made anew with its bytes.
            row = probe_entry(reader, entry, limits) | {"image_id": trial.row["image_id"]}
            # What is forgotten stays refused; the next `index` leaves it out.
            found.append((trial, trial.row if is_forgotten(row, forgotten) else row))
            done = number + 1
            on_progress(Progress("retry headers", done, len(trials), done, len(trials)))
    return found


def _renew_tables(
    store: Store,
    job: JobRecord,
    manifest: CorpusManifest,
    changed: Sequence[tuple[Trial, dict[str, Any]]],
) -> None:
    """Write the tables of shards with changed rows again, and the manifest that names them."""
    if not changed:
        return
    shards: list[ShardRef] = []
    for shard in manifest.shards:
        rows = {trial.place: row for trial, row in changed if trial.shard.key == shard.key}
        shards.append(_renew_table(store, shard, rows) if rows else shard)
    value = manifest.model_dump() | {
        "shards": shards,
        "refused": sum(shard.refused for shard in shards),
        "content_digest": content_of(shards),
    }
    renewed = CorpusManifest.model_validate(value)
    keyed = tree.keyed(job.name, job.corpus_inputs)
    store.replace(tree.MANIFEST.at(keyed=keyed), renewed.to_json())


def _renew_table(store: Store, shard: ShardRef, rows: dict[int, dict[str, Any]]) -> ShardRef:
    look = tree.read(shard.file.path)
    assert look is not None  # a manifest names image tables alone
    done = read_done(store, look.folder, look.key)
    if done is None:
        raise MissingFile(f"{tree.done(look.folder, look.key)} is not there: {cure(store)}")
    seen = read_committed(store, done.files["seen"], lambda path: read_parquet(path, schema=SEEN))
    occurrences = {each["row"]: each["occurrence"] for each in seen.to_pylist()}
    old = read_committed(store, shard.file, read_images).to_pylist()
    for place, row in rows.items():
        named = (row["container"], row["name"], row["sha256"])
        old[place] = row | {"image_id": image_id_of(*named, occurrences[place])}
    table = pa.Table.from_pylist(old, schema=IMAGES)
    refused = table.num_rows - table.column("refusal").null_count
    tables = {"images": table, "seen": seen}
    if shard.columns is not None:
        tables["columns"] = read_committed(store, shard.columns, read_parquet)
    with attempt(store, look.folder, tree.LOOK.name, look.key, done.inputs) as work:
        write_look(work, tables)
        record = work.finish_anew(**(done.counts | {"refused": refused}))
    images, columns = record.files["images"], record.files.get("columns")
    update = {"refused": refused, "file": images, "columns": columns}
    return shard.model_copy(update=update | {"key": shard_key(images, columns)})


def _refused_late(
    store: Store, extraction: Extraction, states: Set[RefusalReason]
) -> Iterator[Trial]:
    """Yield the pictures that the extract stage refused for these reasons."""
    for shard, record in zip(extraction.shards, extraction.records, strict=True):
        if record.counts["refused"] == shard.refused:
            continue
        rows = read_committed(store, shard.file, read_images).to_pylist()
        places = {row["image_id"]: place for place, row in enumerate(rows)}
        refusals = read_committed(store, record.files["refusals"], read_refusals).to_pylist()
        for refusal in refusals:
            place = places[refusal["image_id"]]
            if rows[place]["refusal"] is None and refusal["reason"] in states:
                yield Trial(shard, place, rows[place], (refusal["reason"], refusal["detail"]))


def _try_pixels(
    job: JobRecord,
    manifest: CorpusManifest,
    trials: Sequence[Trial],
    limits: DecodeLimits,
    became: Counter[str],
    on_progress: OnProgress,
) -> list[Trial]:
    """Decode pictures again; return those whose result has changed, and count all results.

    Each is decoded in all views of the network: a damaged picture may be readable in only one.
    """
    from lamella.pipeline.extract.jpegs import Jpeg
    from lamella.pipeline.extract.work import PictureSource

    source = PictureSource(manifest.root, limits, manifest.kind)
    spec = job.extraction
    views = dict.fromkeys(layer.view for layer in spec.computed)
    changed: list[Trial] = []
    with closing(source):
        for number, trial in enumerate(trials):
            verdict: tuple[str, str] | None = None
            try:
                seen = source.see(trial.row, views, spec.preprocess)
                if isinstance(seen, Jpeg):
                    source.see_in_sandbox(seen)
            except Refused as refused:
                verdict = (refused.reason.value, refused.detail)
            became[verdict[0] if verdict else READABLE] += 1
            if verdict != trial.verdict:
                changed.append(trial)
            on_progress(Progress("retry pixels", number + 1, len(trials), number + 1, len(trials)))
    return changed
