"""What a store holds: every picture of every corpus in one state, every stage's done tasks."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lamella.pipeline.corpus.image_table import read_images
from lamella.pipeline.extract.stage import extraction_folder, extraction_inputs, extraction_outcome
from lamella.pipeline.extract.tables import read_refusals
from lamella.pipeline.index.encode import encoding_folder, encoding_inputs
from lamella.pipeline.index.publish import current_snapshot
from lamella.pipeline.index.stage import index_inputs
from lamella.pipeline.jobs.recorded import job_corpus, read_jobs
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import read_committed, read_done
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import read_record
from lamella.pipeline.vocabulary.exchange import recipe_digest
from lamella.pipeline.vocabulary.import_words import import_inputs
from lamella.pipeline.vocabulary.stage import vocabulary_inputs
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.job import JobConfig
from lamella.schemas.job_record import JobRecord
from lamella.schemas.vocabulary import Vocabulary

SHOWN_REFUSALS = 20


def store_status(store: Store) -> dict[str, Any]:
    """Return the account of a store, as plain values.

    Every image of a manifest is in one state: pending, extracted, indexed, or refused for a
    reason; `unaccounted` is there only where a done record is wrong. Jobs that share their
    activations have one account, that of the job which is furthest.
    """
    current = current_snapshot(store)
    accounts: dict[tuple[str, str], dict[str, Any]] = {}
    for job in read_jobs(store).values():
        key = (job_corpus(job), job.extraction.digest())
        account = _account(store, job)
        known = accounts.get(key)
        if known is None or _indexed(account) > _indexed(known):
            accounts[key] = account
    return {
        "store": store.url,
        "corpora": list(accounts.values()),
        "stages": [
            {"folder": f"{kind}/{key}", "done": len(store.names(f"{kind}/{key}/done"))}
            for kind in ("corpora", "activations", "bags", "segments")
            for key in store.folders(kind)
        ],
        "current": current
        and {
            "number": current.number,
            "root_digest": current.root_digest,
            "indexed": current.indexed,
            "published_at": current.published_at,
        },
    }


@dataclass(frozen=True)
class Folders:
    """Where a job's stages work.

    The last two are None until all its vocabularies stand. These are known when all is extracted;
    but where words are given in the same pass, they come first, and the folder of the extraction
    and its `inputs` are None until then.
    """

    corpus: str
    extraction: str | None
    inputs: str | None
    vocabularies: dict[str, str]
    encoding: str | None
    index: str | None

    def hold(self, path: str) -> bool:
        """Say whether a file lies in one of them, or may lie in one that is not known yet."""
        if self.extraction is None and path.startswith("activations/"):
            return True
        later = ("bags/", "segments/", "vocabularies/")
        if self.index is None and path.startswith(later):
            return True
        known = [self.corpus, *self.vocabularies.values()]
        known += [folder for folder in (self.extraction, self.encoding, self.index) if folder]
        return any(path.startswith(f"{folder}/") for folder in known)


def encodes_at_once(job: JobConfig, imports: Mapping[str, str]) -> bool:
    """Say whether words are given in the pass in which pictures are extracted.

    Args:
        job: with its choice what is kept, as it is recorded.
        imports: the layers whose words the job brings.
    """
    return job.activations.keep == "none" and bool(imports)


def job_folders(store: Store, job: JobRecord, manifest: CorpusManifest) -> Folders:
    """Return the folders of a job whose manifest stands."""
    spec = job.extraction
    local = [layer.name for layer in spec.layers if layer.kind == "local"]
    decided = inputs = extraction_inputs(spec, manifest.content_digest)
    at_once = encodes_at_once(job.job, job.imports)
    words: dict[str, Vocabulary] = {}
    folders: dict[str, str] = {}
    if at_once:
        made = {
            layer: import_inputs(job.imports[layer], recipe_digest(spec, layer), layer)
            for layer in local
        }
        folders, words = _vocabularies(store, made)
        if len(words) < len(folders):
            return Folders(job_corpus(job), None, None, folders, None, None)
        inputs = encoding_inputs(decided, words)
    extraction = extraction_folder(spec, inputs)
    shards = [shard for shard in manifest.shards if shard.images]
    done = [read_done(store, extraction, shard.key) for shard in shards]
    records = [record for record in done if record is not None]
    if len(records) < len(shards):
        return Folders(job_corpus(job), extraction, inputs, folders, None, None)
    extracted = extraction_outcome(store, decided, shards, records)
    if not at_once:
        made = {
            layer: vocabulary_inputs(job.job.vocabulary, extracted, layer)
            if layer not in job.imports
            else import_inputs(job.imports[layer], extracted, layer)
            for layer in local
        }
        folders, words = _vocabularies(store, made)
        if len(words) < len(folders):
            return Folders(job_corpus(job), extraction, inputs, folders, None, None)
    encoded = encoding_inputs(extracted, words)
    encoding = extraction if at_once else encoding_folder(encoded, words)
    segments = index_inputs(encoded, extracted, job.job.index.segment_images)
    index = tree.INDEX.folder(keyed=tree.keyed(spec.network, segments))
    return Folders(job_corpus(job), extraction, inputs, folders, encoding, index)


def _vocabularies(
    store: Store, inputs: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, Vocabulary]]:
    """Return the folder of each layer's vocabulary, by its inputs, and those that stand."""
    keys = {layer: tree.keyed(layer, made) for layer, made in inputs.items()}
    paths = {
        layer: tree.VOCABULARY.at(keyed=key, layer=tree.slug(layer)) for layer, key in keys.items()
    }
    return (
        {layer: tree.SEED.folder(keyed=key, layer=layer) for layer, key in keys.items()},
        {
            layer: read_record(store, path, Vocabulary)
            for layer, path in paths.items()
            if store.exists(path)
        },
    )


def _indexed(account: dict[str, Any]) -> int:
    return int(account["states"].get("indexed", 0))


def _account(store: Store, job: JobRecord) -> dict[str, Any]:
    path = f"{job_corpus(job)}/manifest.json"
    if not store.exists(path):
        looked_at = len(store.names(f"{job_corpus(job)}/done")) * job.shard_images
        return {
            "name": job.name,
            "root": job.source,
            "images": job.entries,
            "ignored": 0,
            "passed_over": {},
            "states": {"listed": job.entries},
            "looked_at": min(looked_at, job.entries),
            "refused": [],
            "duplicates": 0,
        }
    manifest = read_record(store, path, CorpusManifest)
    states, refused = _states(store, manifest, job_folders(store, job, manifest))
    return {
        "name": manifest.name,
        "root": manifest.root,
        "images": manifest.images,
        "ignored": manifest.ignored,
        "passed_over": manifest.passed_over,
        "states": {state: count for state, count in states.items() if count},
        "refused": refused[:SHOWN_REFUSALS],
        "duplicates": _duplicates(store, manifest),
    }


def _states(
    store: Store, manifest: CorpusManifest, folders: Folders
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Return how many images are in each state, and the refused ones."""
    refused: list[dict[str, Any]] = []
    extracted = pending = 0
    for shard in manifest.shards:
        record = None
        if folders.extraction is not None:
            record = read_done(store, folders.extraction, shard.key)
        if record is not None:
            extracted += record.counts["indexed"]
            refused += read_committed(store, record.files["refusals"], read_refusals).to_pylist()
            continue
        rows = read_committed(store, shard.file, read_images).to_pylist()
        unread = [
            {"image_id": shard.first_image_id + number, "reason": row["refusal"]}
            | {"name": row["name"], "detail": row["detail"]}
            for number, row in enumerate(rows)
            if row["refusal"] is not None
        ]
        pending += shard.images - len(unread)
        refused += unread
    indexed = 0
    if folders.index is not None:
        for name in store.names(f"{folders.index}/done"):
            done = read_done(store, folders.index, name.removesuffix(".json"))
            indexed += done.counts["images"] if done is not None else 0
    reasons = Counter(f"refused: {each['reason']}" for each in refused)
    states = {"indexed": indexed, "extracted": extracted - indexed, **dict(sorted(reasons.items()))}
    states["pending"] = pending
    states["unaccounted"] = manifest.images - sum(states.values())
    return states, refused


def _duplicates(store: Store, manifest: CorpusManifest) -> int:
    """Return how many pictures have the same bytes as an earlier one."""
    seen: set[bytes] = set()
    duplicates = 0
    for shard in manifest.shards:
        table = read_committed(store, shard.file, lambda path: read_images(path, ["sha256"]))
        for digest in table.column("sha256").to_pylist():
            duplicates += digest is not None and digest in seen
            if digest is not None:
                seen.add(digest)
    return duplicates
