"""Changing a store by hand and sealing it anew, so that every SHA-256 and every seal fits."""

import hashlib
import json
from pathlib import Path
from typing import Any

from lamella.pipeline.errors import LamellaError
from lamella.schemas.base import canonical_json, digest_of
from lamella.schemas.snapshot import IndexSnapshot


class Forger:
    """The records of a store as plain values, which may be changed and written back, sealed."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.records: dict[str, Any] = {
            path.relative_to(store).as_posix(): json.loads(path.read_bytes())
            for path in sorted(store.rglob("*.json"))
            if b'"seal"' in path.read_bytes()
        }

    def data_files(self) -> list[str]:
        """Return the paths of all files that records name."""
        found = {value["path"] for record in self.records.values() for value in _references(record)}
        return sorted(path for path in found if (self.store / path).is_file())

    def put(self, path: str, data: bytes) -> None:
        """Give a data file other bytes, and every record that names it their size and SHA-256."""
        (self.store / path).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        for record in self.records.values():
            for value in _references(record):
                if value["path"] == path:
                    value |= {"size_bytes": len(data), "sha256": digest}

    def seal(self) -> None:
        """Write all records back with digests and seals that fit, as far as there are any."""
        for record in self.records.values():
            if isinstance(record, dict) and "content_digest" in record:
                files = (shard["file"] for shard in _listed(record.get("shards")))
                kept = ("size_bytes", "sha256", "rows")
                record["content_digest"] = digest_of([{k: f[k] for k in kept} for f in files])
        roots: dict[Any, str] = {}
        for path, record in self.records.items():
            if path.startswith("snapshots/") and isinstance(record, dict):
                record["root_digest"] = roots[record.get("number")] = _root_digest(record)
        for path, record in self.records.items():
            if path.startswith("promotions/") and isinstance(record, dict):
                record["root_digest"] = roots.get(record.get("snapshot"), record["root_digest"])
            (self.store / path).write_bytes(_sealed(record))


def _listed(value: Any) -> list[Any]:
    return [each for each in value if isinstance(each, dict) and "file" in each] if value else []


def _references(value: Any) -> list[dict[str, Any]]:
    """Return all references to files inside a JSON value."""
    if isinstance(value, dict):
        if {"path", "size_bytes", "sha256", "rows"} <= value.keys():
            return [value]
        return [each for inner in value.values() for each in _references(inner)]
    if isinstance(value, list):
        return [each for inner in value for each in _references(inner)]
    return []


def _root_digest(record: dict[str, Any]) -> str:
    """Return the root digest that a snapshot's contents have; what it says where it has none."""
    fields = {k: v for k, v in record.items() if k not in ("seal", "root_digest")}
    try:
        return IndexSnapshot.model_validate_json(json.dumps(fields)).root_digest
    except (ValueError, LamellaError):
        return str(record.get("root_digest", ""))


def _sealed(record: Any) -> bytes:
    if not isinstance(record, dict):
        return canonical_json(record)
    value = {key: part for key, part in record.items() if key != "seal"}
    return canonical_json(value | {"seal": digest_of(value)})
