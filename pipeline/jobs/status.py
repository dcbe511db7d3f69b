"""What a store holds: every picture of every corpus in one state, every stage's done tasks."""

from collections import Counter
from typing import Any

from pipeline.index.publish import current_snapshot
from pipeline.store import layout
from pipeline.store.commit import open_committed, read_done
from pipeline.store.records import read_record
from pipeline.store.storage import Store
from pipeline.store.tables import read_parquet
from schemas.corpus import CorpusManifest
from schemas.snapshot import IndexSnapshot

SHOWN_REFUSALS = 20


def store_status(store: Store) -> dict[str, Any]:
    """Return the account of a store, as plain values.

    Every image of a manifest is in one state: indexed, refused for a reason, or pending; the
    states of the current snapshot's corpus come from its done records.
    """
    current = current_snapshot(store)
    manifests = [
        read_record(store, layout.manifest(key), CorpusManifest)
        for key in store.folders("corpora")
        if store.exists(layout.manifest(key))
    ]
    return {
        "store": store.url,
        "corpora": [_corpus(store, manifest, current) for manifest in manifests],
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


def _corpus(
    store: Store, manifest: CorpusManifest, current: IndexSnapshot | None
) -> dict[str, Any]:
    refused: list[dict[str, Any]] = []
    states: Counter[str] = Counter()
    if current is not None and current.corpus_content == manifest.content_digest:
        states["indexed"] = current.indexed
        for shard in manifest.shards:
            record = read_done(store, current.extraction_folder, shard.key)
            if record is not None:
                table = read_parquet(open_committed(store, record.files["refusals"]))
                refused += table.to_pylist()
    else:
        for shard in manifest.shards:
            rows = read_parquet(open_committed(store, shard.file)).to_pylist()
            refused += [
                {"image_id": shard.first_image_id + number, "reason": row["refusal"]}
                | {"name": row["name"], "detail": row["detail"]}
                for number, row in enumerate(rows)
                if row["refusal"] is not None
            ]
    states.update(f"refused: {each['reason']}" for each in refused)
    pending = manifest.images - sum(states.values())
    if pending:
        states["pending"] = pending
    return {
        "name": manifest.name,
        "root": manifest.root,
        "images": manifest.images,
        "ignored": manifest.ignored,
        "states": dict(states),
        "refused": refused[:SHOWN_REFUSALS],
        "duplicates": _duplicates(store, manifest),
    }


def _duplicates(store: Store, manifest: CorpusManifest) -> int:
    """Return how many pictures have the same bytes as an earlier one."""
    seen: set[bytes] = set()
    duplicates = 0
    for shard in manifest.shards:
        table = read_parquet(open_committed(store, shard.file), ["sha256"])
        for digest in table.column("sha256").to_pylist():
            duplicates += digest is not None and digest in seen
            if digest is not None:
                seen.add(digest)
    return duplicates
