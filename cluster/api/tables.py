"""What an index holds, and what is computed of pictures, as Arrow tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lamella.pipeline.corpus.image_table import read_images
from lamella.pipeline.corpus.kept_columns import read_stored_columns
from lamella.pipeline.extract.tables import read_refusals
from lamella.pipeline.index.bags import BagsOfWords
from lamella.pipeline.index.files import as_lists
from lamella.pipeline.index.residuals import Residuals
from lamella.pipeline.index.shards import finder_of, shards_of
from lamella.pipeline.search.names import beside
from lamella.pipeline.search.segment import DenseLayer, Features, Layer, ResidualLayer, SegmentData
from lamella.pipeline.store.commit import read_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.tables import vectors_column
from lamella.result import Refusal
from lamella.schemas.corpus import IMAGES
from lamella.schemas.snapshot import IndexSnapshot


def layer_table(segments: Sequence[SegmentData], layer: str) -> pa.Table:
    """Return a layer of all images, segment by segment; mapped from the index, not copied."""
    return pa.concat_tables(
        pa.table({"image_id": pa.array(each.image_ids)} | _columns(_values(each.layers[layer])))
        for each in segments
    )


def _values(layer: Layer) -> BagsOfWords | NDArray[np.float32]:
    return layer.vectors if isinstance(layer, DenseLayer) else layer.bags


def _like(layer: Layer) -> Features:
    """Return no features, of the types that queries of a layer have."""
    return layer.of(np.empty(0, np.int64)) if isinstance(layer, ResidualLayer) else _values(layer)


def _columns(values: Features, prefix: str = "") -> dict[str, Any]:
    if isinstance(values, Residuals):
        lists = as_lists(values.bags.offsets, vectors_column(values.payload))
        return _columns(values.bags, prefix) | {f"{prefix}residuals": lists}
    if not isinstance(values, BagsOfWords):
        return {f"{prefix}vector": vectors_column(values)}
    return {
        f"{prefix}{name}": pa.LargeListArray.from_arrays(pa.array(values.offsets), pa.array(array))
        for name, array in (("words", values.words), ("counts", values.counts))
    }


def features_table(
    queries: Sequence[str],
    parts: Sequence[tuple[NDArray[np.int64], Mapping[str, Features]]],
    refused: Mapping[int, Refusal],
    like: SegmentData,
) -> pa.Table:
    """Return a row a query with its features, null where it was refused.

    Args:
        queries: Q names.
        parts: for some queries each: their places (n,), and their features by layer; a layer may
            be in none of them.
        like: whose layers have features of the same types, for when there are no parts.
    """
    where = np.full(len(queries), -1, np.int64)
    start = 0
    for places, _ in parts:
        where[places] = np.arange(start, start + len(places))
        start += len(places)
    rows = pa.array(where, mask=where < 0)
    columns: dict[str, Any] = {
        "query": pa.array(np.arange(len(queries))),
        "query_name": pa.array(queries, pa.string()),
    }
    for layer, stored in like.layers.items():
        values = [layers[layer] for _, layers in parts if layer in layers]
        found = [_columns(each, f"{layer}.") for each in values or [_like(stored)]]
        there = rows if len(values) == len(parts) else pa.nulls(len(queries), pa.int64())
        for name in found[0]:
            columns[name] = pa.concat_arrays([each[name] for each in found]).take(there)
    said = [refused.get(number) for number in range(len(queries))]
    columns["refusal"] = pa.array([each and each.reason.value for each in said], pa.string())
    columns["detail"] = pa.array([each and each.detail for each in said], pa.string())
    return pa.table(columns)


def images_table(store: Store, snapshot: IndexSnapshot, indexed: NDArray[np.int64]) -> pa.Table:
    """Return a row for every picture that the corpus has, refused ones with the reason.

    Args:
        indexed: the ids of the images that queries can find, rising.
    """
    tables: list[pa.Table] = []
    shards = shards_of(store, snapshot)
    for shard, records in zip(shards, finder_of(store, snapshot)(shards), strict=True):
        rows = read_committed(store, shard.file, read_images)
        refusal = rows.column("refusal").to_numpy(zero_copy_only=False).astype(object)
        detail = rows.column("detail").to_numpy(zero_copy_only=False).astype(object)
        if records is not None:  # has those too whose header was sound and whose pixels were not
            place_of = {each: n for n, each in enumerate(rows.column("image_id").to_pylist())}
            refusals = read_committed(store, records[0].files["refusals"], read_refusals)
            for each in refusals.to_pylist():
                place = place_of[each["image_id"]]
                refusal[place], detail[place] = each["reason"], each["detail"]
        columns = {name: rows.column(name) for name in IMAGES.names}
        columns["refusal"] = pa.array(refusal, pa.string())
        columns["detail"] = pa.array(detail, pa.string())
        table = pa.table(columns).cast(IMAGES)
        if shard.columns is not None:
            table = beside(table, read_committed(store, shard.columns, read_stored_columns))
        tables.append(table)
    table = pa.concat_tables(tables or [IMAGES.empty_table()])
    found = np.isin(table.column("image_id").to_numpy(), indexed, assume_unique=True)
    return table.append_column("indexed", pa.array(found))
