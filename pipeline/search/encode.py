"""Turn query pictures into queries with the network, recipe and vocabularies of the index."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.image_table import probe_rows
from lamella.pipeline.corpus.listing import Entry
from lamella.pipeline.errors import IncompatibleInputs, InputError
from lamella.pipeline.index.bags import BagsOfWords
from lamella.pipeline.index.describe import Described, Describes
from lamella.pipeline.index.encode import open_describer
from lamella.pipeline.index.files import read_bags, read_dense, write_bags, write_dense
from lamella.pipeline.index.residual_files import read_residuals, write_residuals
from lamella.pipeline.index.residuals import Residuals
from lamella.pipeline.networks.copies import held
from lamella.pipeline.networks.find import find_weights
from lamella.pipeline.run.step import Counts, Do
from lamella.pipeline.search.score import dense_norms
from lamella.pipeline.search.segment import Features, QueryBatch
from lamella.pipeline.signs import signed
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import Attempt, read_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.store.tables import read_parquet, write_parquet
from lamella.schemas.corpus import SourceKind
from lamella.schemas.files import DoneRecord
from lamella.schemas.rankings import query_refusals_schema
from lamella.schemas.snapshot import IndexSnapshot

Row = dict[str, Any]
NO_PICTURE: Row = {"refusal": "ignored"}
"""Stands in for a file that is no picture, so that later ones keep their numbers."""


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
        IncompatibleInputs: the snapshot was made with other weights.
        InputError: the weights were not found; give their file. Or there is no network.
    """
    spec = snapshot.extraction
    if not spec.computed:
        raise InputError(
            f"no network sees pictures in snapshot {snapshot.number}, whose vectors were all "
            "given: ask by indexed pictures, or by vectors"
        )
    if weights is None and (kept := held(spec.weights)) is not None:
        return kept
    reference, path = find_weights(spec.network, weights)
    if reference.sha256 != spec.weights.sha256:
        raise IncompatibleInputs(
            f"the snapshot was made with weights {spec.weights.name} "
            f"(SHA-256 {spec.weights.sha256[:12]}), these are {reference.name} "
            f"({reference.sha256[:12]}): give the snapshot's own with --weights"
        )
    return path


@dataclass(frozen=True)
class RowsTask:
    """Query pictures as rows of an image table, and the number of the first."""

    key: str
    first: int
    rows: tuple[Row, ...]

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.rows)


@dataclass(frozen=True)
class EntriesTask:
    """Entries of a source that the worker reads, and the number of the first."""

    key: str
    first: int
    kind: SourceKind
    entries: Sequence[Entry]

    def __len__(self) -> int:
        """The number of entries."""
        return len(self.entries)


QueryTask = RowsTask | EntriesTask

Encoded = tuple[NDArray[np.int64], dict[str, Features], Any]
"""The numbers of the queries that could be read, their layers, and the refusals."""


@dataclass(frozen=True)
class Encoder:
    """The network and the vocabularies of a snapshot, opened."""

    backbone: Any
    describers: dict[str, Describes[Any]]
    threads: int

    def encode(self, source: Any, rows: Sequence[Row | None], first: int) -> Encoded:
        """Return what `encode_pictures` does."""
        return encode_pictures(self.backbone, self.describers, source, rows, first, self.threads)


def open_encoder(store: Store, snapshot: IndexSnapshot, weights: Path, threads: int) -> Encoder:
    """Open what turns pictures into queries of a snapshot, on a graphics card if there is one."""
    import torch

    from lamella.pipeline.extract.backbone import Backbone

    device = "cuda" if torch.cuda.is_available() else "cpu"
    backbone = Backbone(snapshot.extraction.of_network, weights, device)
    vocabularies = snapshot.vocabularies.items()
    return Encoder(backbone, {name: open_describer(store, v) for name, v in vocabularies}, threads)


@dataclass(frozen=True)
class QueryWork:
    """Extracts and encodes query pictures; writes them in their order.

    `index_url` is the store of the snapshot, which need not be the one that is written to.
    """

    root: str
    limits: DecodeLimits
    index_url: str
    snapshot: IndexSnapshot
    weights: Path
    threads: int

    def open(self, store: Store) -> Do[QueryTask]:
        from lamella.pipeline.extract.work import PictureSource

        index = open_store(self.index_url)
        encoder = open_encoder(index, self.snapshot, self.weights, self.threads)

        def encode(task: QueryTask, work: Attempt) -> Counts:
            rows = rows_of(task, self.root, self.limits)
            kind = task.kind if isinstance(task, EntriesTask) else self.snapshot.kind
            source = PictureSource(self.root, self.limits, kind)
            ids, layers, refusals = encoder.encode(source, rows, task.first)
            for name, value in layers.items():
                _write(work, name, tree.layer_folder(work.folder, name), ids, value)
            fill = partial(write_parquet, refusals)
            work.write("refusals", f"{work.folder}/refusals", "parquet", fill)
            return {"queries": len(ids), "refused": refusals.num_rows}

        return encode


def rows_of(task: QueryTask, root: str, limits: DecodeLimits) -> list[Row | None]:
    """Return the rows of a task's pictures in an image table, None for what is no picture."""
    if isinstance(task, RowsTask):
        return list(task.rows)
    return probe_rows(root, task.kind, task.entries, limits)


def encode_pictures(
    backbone: Any,
    describers: dict[str, Describes[Any]],
    source: Any,
    rows: Sequence[Row | None],
    first: int,
    threads: int,
) -> Encoded:
    """Return the numbers of the queries that could be read, their layers, and the refusals.

    Words are assigned after each batch of pictures, so memory holds the descriptors of one batch.

    Args:
        source: the `PictureSource` of the rows.
        rows: of an image table; None where there is no query, but a number is passed over.
        first: the number of the first.
    """
    from lamella.pipeline.extract.work import forward_pictures, threads_for

    ids: list[NDArray[np.int64]] = []
    vectors: dict[str, list[NDArray[np.float32]]] = {}
    described: dict[str, list[Described]] = {}
    refused = [
        (first + number, row["name"], row["refusal"], row["detail"])
        for number, row in enumerate(rows)
        if row is not None and row["refusal"] is not None
    ]
    seen = [row or NO_PICTURE for row in rows]
    threads = threads_for(threads, backbone)
    numbers = np.arange(first, first + len(seen))
    for batch in signed(forward_pictures(backbone, source, seen, numbers, threads=threads)):
        refused += [(r.image_id, r.name, r.reason.value, r.detail) for r in batch.refusals]
        if not len(batch.image_ids):
            continue
        ids.append(batch.image_ids)
        for layer in backbone.spec.layers:
            if layer.kind == "global":
                vectors.setdefault(layer.name, []).append(batch.vectors[layer.name])
            else:
                found = batch.descriptors[layer.name]
                words = describers[layer.name].describe(
                    found.image_ids, found.vectors.astype(np.float32)
                )
                described.setdefault(layer.name, []).append(words)
    schema = query_refusals_schema()
    refusals = [dict(zip(schema.names, each, strict=True)) for each in sorted(refused)]
    table = pa.Table.from_pylist(refusals, schema=schema)
    if not ids:
        return np.empty(0, np.int64), {}, table
    read = np.concatenate(ids)
    order = np.argsort(read)
    layers: dict[str, Features] = {}
    for layer in backbone.spec.layers:
        if layer.kind == "global":
            layers[layer.name] = np.ascontiguousarray(np.concatenate(vectors[layer.name])[order])
        else:
            layers[layer.name] = describers[layer.name].of_images(
                described[layer.name], read[order]
            )
    return read[order], layers, table


def _write(
    work: Any,
    name: str,
    folder: str,
    ids: NDArray[np.int64],
    value: Features,
) -> None:
    if isinstance(value, BagsOfWords):
        work.write(name, folder, "bags.arrow", lambda path: write_bags(ids, value, path))
    elif isinstance(value, Residuals):
        work.write(name, folder, "residuals.arrow", lambda path: write_residuals(ids, value, path))
    else:
        norms = dense_norms(value)
        work.write(name, folder, "dense.arrow", lambda path: write_dense(ids, value, norms, path))


def read_queries(
    store: Store, record: DoneRecord, snapshot: IndexSnapshot
) -> tuple[NDArray[np.int64], QueryBatch | None]:
    """Return the numbers (Q,) and the batch that a task of the stage wrote; None if all refused.

    Without the layers of given vectors.
    """
    ids = np.empty(0, np.int64)
    layers: dict[str, Features] = {}
    for layer in snapshot.extraction.computed:
        if layer.name not in record.files:
            return ids, None
        file = record.files[layer.name]
        vocabulary = snapshot.vocabularies.get(layer.name)
        if vocabulary is not None and vocabulary.encoding.kind == "asmk":
            ids, layers[layer.name] = read_committed(store, file, read_residuals)
        elif layer.kind == "local":
            ids, layers[layer.name] = read_committed(store, file, read_bags)
        else:
            ids, layers[layer.name], _ = read_committed(store, file, read_dense)
    return ids, QueryBatch(layers)


def read_refusals(store: Store, record: DoneRecord) -> Any:
    """Return the query pictures of a task that could not be read, in `query_refusals_schema`."""
    return read_committed(
        store,
        record.files["refusals"],
        lambda path: read_parquet(path, schema=query_refusals_schema()),
    )
