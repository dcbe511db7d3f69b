"""The status of a store: how many pictures are in each state, and the done tasks of each stage."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lamella.pipeline.corpus.image_table import read_images
from lamella.pipeline.corpus.joined import parts_of, shown
from lamella.pipeline.corpus.kept_columns import read_stored_columns
from lamella.pipeline.extract.tables import read_refusals
from lamella.pipeline.index.promotions import current_snapshot
from lamella.pipeline.index.stage import segment_tasks
from lamella.pipeline.index.words_fit import snapshot_fits
from lamella.pipeline.jobs.recorded import read_jobs
from lamella.pipeline.journey import Journey
from lamella.pipeline.run.drive import read_all_done
from lamella.pipeline.stages import Seen
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import done_keys, read_committed, step_folders
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import read_record
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.files import DoneRecord
from lamella.schemas.job_record import JobRecord

SHOWN_REFUSALS = 20

SHOWN_STEPS = (tree.LOOK, tree.EXTRACT, tree.ENCODE, tree.INDEX, tree.PROPOSE)
"""Steps whose done tasks are shown, folder by folder."""


def store_status(store: Store) -> dict[str, Any]:
    """Return the status of a store as plain values.

    `repeated` says how many contents stand under more than one name, and how many pictures these
    are; `duplicates` are those beyond the first of each. `columns` are those kept beside the
    pictures, with their types, and how many pictures have a value, by source where there are
    several. `remarks` say what is wrong with pictures
    that are read all the same.

    Every image of a manifest is in one state: pending, extracted, indexed, or refused for a
    reason. State `unaccounted` appears only if a done record is wrong. Of the jobs of a corpus and
    a network, those of every night, the one that made the current snapshot is shown, and the last
    one if it has not ended.
    """
    current = current_snapshot(store)
    written = {file.path: file.modified for file in store.walk("jobs")}
    nights: dict[tuple[str, str], list[tuple[str, JobRecord]]] = {}
    for path, job in sorted(read_jobs(store).items(), key=lambda each: written.get(each[0], 0.0)):
        nights.setdefault((job.name, job.extraction.of_network.digest()), []).append((path, job))
    shown: list[JobRecord] = []
    for jobs in nights.values():
        ended = [job for path, job in jobs if current is not None and path == current.job]
        last = jobs[-1][1]
        shown += ended
        if not ended or (last is not ended[0] and not Journey(store, last).look().whole):
            shown.append(last)
    return {
        "store": store.url,
        "corpora": [_account(store, job) for job in shown],
        "stages": [
            {"folder": folder, "done": count}
            for step in SHOWN_STEPS
            for folder in step_folders(store, step)
            if (count := len(done_keys(store, folder)))
        ],
        "current": current
        and {
            "number": current.number,
            "root_digest": current.root_digest,
            "indexed": current.indexed,
            "published_at": current.published_at,
            "machine": current.machine,
            "words_fit": [fit.plain() for fit in snapshot_fits(store, current).values()],
        },
    }


def _new_looks(store: Store) -> int:
    """Return how many shards were looked at that are in no manifest yet: by a job that goes on."""
    done = {key for folder in step_folders(store, tree.LOOK) for key in done_keys(store, folder)}
    for keyed in store.folders(tree.MANIFEST.form.text.partition("/")[0]):
        path = tree.MANIFEST.at(keyed=keyed)
        if tree.record_of(path) is not None and store.exists(path):
            shards = read_record(store, path, CorpusManifest).shards
            found = (tree.read(shard.file.path) for shard in shards)
            done -= {look.key for look in found if look is not None}
    return len(done)


def _account(store: Store, job: JobRecord) -> dict[str, Any]:
    seen = Journey(store, job).look()
    if len(seen.stages) == 1:  # no manifest yet
        looked_at = _new_looks(store) * job.shard_images
        return {
            "name": job.name,
            "root": shown(job.source),
            "sources": {},
            "columns": [],
            "images": job.entries,
            "ignored": 0,
            "passed_over": {},
            "states": {"listed": job.entries},
            "looked_at": min(looked_at, job.entries),
            "refused": [],
            "remarks": {},
            "duplicates": 0,
            "repeated": {"contents": 0, "pictures": 0},
        }
    manifest = seen.made.manifest
    states, refused = _states(store, manifest, seen)
    remarks, repeated = _remarks_and_repeated(store, manifest)
    return {
        "name": manifest.name,
        "root": shown(manifest.root),
        "sources": _sources(store, manifest),
        "columns": _columns(store, manifest),
        "images": manifest.images,
        "ignored": manifest.ignored,
        "passed_over": manifest.passed_over,
        "states": {state: count for state, count in states.items() if count},
        "refused": [
            each | {"image_id": str(each["image_id"])} for each in refused[:SHOWN_REFUSALS]
        ],
        "remarks": remarks,
        "duplicates": repeated["pictures"] - repeated["contents"],
        "repeated": repeated,
    }


def _sources(store: Store, manifest: CorpusManifest) -> dict[str, int]:
    """Return how many pictures each of several sources has; empty where there is one source."""
    counts = dict.fromkeys(parts_of(manifest.root), 0)
    if counts:
        for table in _image_tables(store, manifest, ["name"]):
            for name in table["name"].to_pylist():
                counts[name.partition("/")[0]] += 1
    return counts


def _columns(store: Store, manifest: CorpusManifest) -> list[dict[str, Any]]:
    """Return the kept columns: name, type, how many pictures have a value, and of which source."""
    several = bool(parts_of(manifest.root))
    found: dict[str, dict[str, Any]] = {}
    for shard in manifest.shards:
        if shard.columns is None:
            continue
        table = read_committed(store, shard.columns, read_stored_columns)
        names = read_committed(store, shard.file, lambda path: read_images(path, ["name"]))["name"]
        for field in table.schema:
            empty = {"name": field.name, "type": str(field.type), "known": 0, "sources": {}}
            column = found.setdefault(field.name, empty)
            known = names.filter(pc.is_valid(table[field.name])).to_pylist()
            column["known"] += len(known)
            if several:
                of = Counter(name.partition("/")[0] for name in known)
                column["sources"] = dict(sorted((of + Counter(column["sources"])).items()))
    return list(found.values())


def _states(
    store: Store, manifest: CorpusManifest, seen: Seen
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Return how many images are in each state, and the refused ones."""
    refused: list[dict[str, Any]] = []
    extracted = pending = 0
    for shard, record in zip(manifest.shards, _extracted(store, manifest, seen), strict=True):
        if record is not None:
            extracted += record.counts["indexed"]
            refused += read_committed(store, record.files["refusals"], read_refusals).to_pylist()
            continue
        rows = read_committed(store, shard.file, read_images).to_pylist()
        unread = [
            {"image_id": row["image_id"], "reason": row["refusal"]}
            | {"name": row["name"], "detail": row["detail"]}
            for row in rows
            if row["refusal"] is not None
        ]
        pending += shard.images - len(unread)
        refused += unread
    indexed = sum(record.counts["images"] for record in _segments(store, seen))
    reasons = Counter(f"refused: {each['reason']}" for each in refused)
    states = {"indexed": indexed, "extracted": extracted - indexed, **dict(sorted(reasons.items()))}
    states["pending"] = pending
    states["unaccounted"] = manifest.images - sum(states.values())
    return states, refused


def _extracted(store: Store, manifest: CorpusManifest, seen: Seen) -> list[DoneRecord | None]:
    """Return the record of extraction of each shard, None where there is none yet."""
    found: dict[str, DoneRecord | None] = {}
    extract = seen.stage("extract")
    if seen.made.has("extract"):
        made = seen.made.extraction
        found = {s.key: r for s, r in zip(made.shards, made.records, strict=True)}
    elif extract is not None:
        keys = [shard.key for shard in manifest.shards]
        found = dict(zip(keys, read_all_done(store, extract.folder, keys), strict=True))
    return [found.get(shard.key) for shard in manifest.shards]


def _segments(store: Store, seen: Seen) -> list[DoneRecord]:
    """Return the records of the segments that are there."""
    index = seen.stage("index")
    if index is None:
        return []
    if seen.made.has("index"):
        return list(seen.made.index.records)
    keys = [task.key for task in segment_tasks(seen.made.encoding, seen.cuts)]
    return [each for each in read_all_done(store, index.folder, keys) if each is not None]


def _remarks_and_repeated(
    store: Store, manifest: CorpusManifest
) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
    """Return what is wrong with pictures that are read all the same, and what stands twice.

    Remarks have their number and the first picture. Of contents that stand under more than one
    name, it returns how many these are, and how many pictures.
    """
    remarks: dict[str, dict[str, Any]] = {}
    seen: set[bytes] = set()
    names: dict[bytes, set[tuple[str, str]]] = {}
    for table in _image_tables(store, manifest, ["sha256", "name", "refusal", "detail"]):
        read = pc.is_null(table["refusal"])
        for row in table.filter(pc.and_(read, pc.not_equal(table["detail"], ""))).to_pylist():
            remark = remarks.setdefault(row["detail"], {"count": 0, "first": row["name"]})
            remark["count"] += 1
        for sha256 in table["sha256"].drop_null().to_pylist():
            if sha256 in seen:
                names[sha256] = set()
            seen.add(sha256)
    if names:  # a second pass keeps names, and only of what the first has met twice
        for table in _image_tables(store, manifest, ["sha256", "container", "name"]):
            for row in table.to_pylist():
                if row["sha256"] in names:
                    names[row["sha256"]].add((row["container"], row["name"]))
    several = [len(each) for each in names.values() if len(each) > 1]
    return remarks, {"contents": len(several), "pictures": sum(several)}


def _image_tables(store: Store, manifest: CorpusManifest, columns: list[str]) -> Iterator[pa.Table]:
    for shard in manifest.shards:
        yield read_committed(store, shard.file, lambda path: read_images(path, columns))
