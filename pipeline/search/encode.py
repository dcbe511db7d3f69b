"""Query pictures become queries: the same network, recipe and vocabularies as the index's."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.corpus.build import probe_entries
from pipeline.corpus.decode import DecodeLimits
from pipeline.corpus.listing import Listing
from pipeline.errors import IncompatibleInputs
from pipeline.extract.networks import find_weights
from pipeline.index.bags import BagsOfWords
from pipeline.index.encode import bags_of_images, open_assigner
from pipeline.index.files import read_bags, read_dense, write_bags, write_dense
from pipeline.run.stage import Task
from pipeline.search.score import dense_norms
from pipeline.search.segment import QueryBatch
from pipeline.store import layout
from pipeline.store.commit import attempt, open_committed
from pipeline.store.storage import Store, open_store
from pipeline.store.tables import read_parquet, write_parquet
from schemas.files import DoneRecord
from schemas.rankings import query_refusals_schema
from schemas.snapshot import IndexSnapshot

Row = dict[str, Any]


def probe_queries(listing: Listing, limits: DecodeLimits) -> list[Row]:
    """Return the rows of an image table for query pictures, refused ones among them."""
    table, _ = probe_entries(listing.root, listing.kind, listing.entries, limits)
    rows: list[Row] = table.to_pylist()
    return rows


def cropped(row: Row, box: tuple[float, float, float, float]) -> Row:
    """Return a picture's row that stands for a box of it: left, top, right, bottom in pixels.

    Corners are rounded to whole pixels and kept inside the picture.
    """
    left = min(max(round(box[0]), 0), row["width"] - 1)
    top = min(max(round(box[1]), 0), row["height"] - 1)
    right = min(max(round(box[2]), left + 1), row["width"])
    bottom = min(max(round(box[3]), top + 1), row["height"])
    return row | {
        "box": (left, top, right, bottom),
        "width": right - left,
        "height": bottom - top,
    }


def find_query_weights(snapshot: IndexSnapshot, weights: Path | None) -> Path:
    """Return where the snapshot's weights lie on this machine.

    Raises:
        IncompatibleInputs: these are other weights than the snapshot was made with.
        InputError: they are not to be had; give their file.
    """
    spec = snapshot.extraction
    reference, path = find_weights(spec.network, weights)
    if reference.sha256 != spec.weights.sha256:
        raise IncompatibleInputs(
            f"the snapshot was made with weights {spec.weights.name} "
            f"(SHA-256 {spec.weights.sha256[:12]}), these are {reference.name} "
            f"({reference.sha256[:12]}): give the snapshot's own with --weights"
        )
    return path


@dataclass(frozen=True)
class QueryTask:
    """Some query pictures: rows of an image table, and the number of the first."""

    key: str
    first: int
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class QueryStage:
    """Extracts and encodes query pictures; what is written stands in their order."""

    store_url: str
    folder: str
    inputs: str
    root: str
    limits: DecodeLimits
    snapshot: IndexSnapshot
    weights: Path
    threads: int
    name: str = "queries"
    uses_gpu: bool = True

    def open(self) -> Callable[[Task], DoneRecord]:
        import torch

        from pipeline.extract.backbone import Backbone

        store = open_store(self.store_url)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        backbone = Backbone(self.snapshot.extraction, self.weights, device)
        assigners = {
            layer: open_assigner(store, vocabulary)
            for layer, vocabulary in self.snapshot.vocabularies.items()
        }

        def encode(task: Any) -> DoneRecord:
            ids, layers, refusals = encode_pictures(
                backbone, assigners, self.root, self.limits, task, self.threads
            )
            with attempt(store, self.folder, self.name, task.key, self.inputs) as work:
                for name, value in layers.items():
                    folder = layout.layer_folder(self.folder, name)
                    _write(work, name, folder, ids, value)
                work.write(
                    "refusals",
                    f"{self.folder}/refusals",
                    "parquet",
                    lambda path: write_parquet(refusals, path),
                )
                return work.finish(queries=len(ids), refused=refusals.num_rows)

        return encode


def encode_pictures(
    backbone: Any,
    assigners: dict[str, Any],
    root: str,
    limits: DecodeLimits,
    task: QueryTask,
    threads: int,
) -> tuple[NDArray[np.int64], dict[str, BagsOfWords | NDArray[np.float32]], Any]:
    """Return the numbers of the queries that could be read, their layers, and the refusals."""
    from pipeline.extract.work import PictureSource, forward_pictures

    source = PictureSource(root, limits)
    batches = list(forward_pictures(backbone, source, task.rows, task.first, threads=threads))
    ids = np.concatenate([np.empty(0, np.int64), *(batch.image_ids for batch in batches)])
    order = np.argsort(ids)
    layers: dict[str, BagsOfWords | NDArray[np.float32]] = {}
    for layer in backbone.spec.layers if len(ids) else ():
        if layer.kind == "global":
            vectors = np.concatenate([b.vectors[layer.name] for b in batches if len(b.image_ids)])
            layers[layer.name] = np.ascontiguousarray(vectors[order])
        else:
            found = [b.descriptors[layer.name] for b in batches if len(b.image_ids)]
            words = [
                assigners[layer.name].assign(each.vectors.astype(np.float32)).words
                for each in found
            ]
            owners = np.concatenate([each.image_ids for each in found])
            layers[layer.name] = bags_of_images(owners, np.concatenate(words), ids[order])
    refused = [
        (task.first + number, row["name"], row["refusal"], row["detail"])
        for number, row in enumerate(task.rows)
        if row["refusal"] is not None
    ]
    refused += [
        (r.image_id, r.name, r.reason.value, r.detail) for batch in batches for r in batch.refusals
    ]
    schema = query_refusals_schema()
    rows = [dict(zip(schema.names, each, strict=True)) for each in sorted(refused)]
    table = pa.Table.from_pylist(rows, schema=schema)
    return ids[order], layers, table


def _write(
    work: Any,
    name: str,
    folder: str,
    ids: NDArray[np.int64],
    value: BagsOfWords | NDArray[np.float32],
) -> None:
    if isinstance(value, BagsOfWords):
        work.write(name, folder, "bags.arrow", lambda path: write_bags(ids, value, path))
    else:
        norms = dense_norms(value)
        work.write(name, folder, "dense.arrow", lambda path: write_dense(ids, value, norms, path))


def read_queries(
    store: Store, record: DoneRecord, snapshot: IndexSnapshot
) -> tuple[NDArray[np.int64], QueryBatch | None]:
    """Return the numbers (Q,) and the batch that a task of the stage wrote; None if all refused."""
    ids = np.empty(0, np.int64)
    layers: dict[str, BagsOfWords | NDArray[np.float32]] = {}
    for layer in snapshot.extraction.layers:
        if layer.name not in record.files:
            return ids, None
        path = open_committed(store, record.files[layer.name])
        if layer.kind == "local":
            ids, layers[layer.name] = read_bags(path)
        else:
            ids, layers[layer.name], _ = read_dense(path)
    return ids, QueryBatch(layers)


def read_refusals(store: Store, record: DoneRecord) -> list[Row]:
    """Return the query pictures of a task that could not be read."""
    table = read_parquet(open_committed(store, record.files["refusals"]))
    rows: list[Row] = table.to_pylist()
    return rows
