"""What a call to `Index.query` gives: arrays, and the same as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lamella.pipeline.errors import InputError
from lamella.pipeline.search.segment import Answer
from lamella.pipeline.text import counted
from lamella.schemas.query import FusionSpec
from lamella.schemas.refusals import RefusalReason


class Refusal(NamedTuple):
    """Why a picture could not be read: a reason of a closed set, and a line that says more.

    `reason` compares equal to its text, such as "truncated"; `reason.meaning` explains it.
    """

    name: str
    reason: RefusalReason
    detail: str


@dataclass(frozen=True, eq=False)
class Result:
    """The best images of Q queries, by score, falling, then by id, rising.

    Row q belongs to query q of the call. Every array is (Q, k), k as asked for. Where there are
    fewer images than k, and in the whole row of a query that is in `refused`, the end of the row
    is filled up: with id -1, name "", score -inf and similarity 0. `len(result)` is Q.

    Attributes:
        queries: Q names: paths as given, `bytes 3`, `array 3`, `image 3`, or names of images.
        ids: (Q, k) int64, ids of images of the index.
        names: (Q, k) object, their names, of type str.
        scores: (Q, k) float64, F = sum of f_i(S_i).
        similarities: by layer, high to low: (Q, k) float64, the cosine S_i in that layer before
            its map f_i.
        certified: (Q,) bool, that no image which was left out scores better; False if refused.
        refused: by the place q in the call, the pictures that could not be read.
        fusion: the layers, high to low, with the map and the weight of each.
        expand: with how many of its best pictures each query was averaged; if any, scores,
            similarities and `certified` are those of the expanded query.
    """

    queries: tuple[str, ...]
    ids: NDArray[np.int64]
    names: NDArray[np.object_]
    scores: NDArray[np.float64]
    similarities: dict[str, NDArray[np.float64]]
    certified: NDArray[np.bool_]
    refused: dict[int, Refusal]
    fusion: FusionSpec
    expand: int
    _table: Any

    def __len__(self) -> int:
        """Q, the number of queries."""
        return len(self.queries)

    def __repr__(self) -> str:
        queries, k = self.ids.shape
        layers = ", ".join(self.similarities)
        more = f", expanded by {self.expand}" if self.expand else ""
        more += f", {len(self.refused)} refused" if self.refused else ""
        return f"<lamella.Result of {counted(queries, 'query')}, k = {k:,}, layers {layers}{more}>"

    def to_arrow(self) -> pa.Table:
        """Return a row a query and rank, as `lamella query` stores them; nothing is filled up.

        Columns: query (the place in the call, or the image id where images were asked for),
        query_name, rank from 1, image_id, name, score, S.LAYER of each layer, certified, and
        `meta.NAME` of each kept column.
        """
        return self._table

    def to_pandas(self) -> Any:
        """Return `to_arrow` as a pandas.DataFrame. Raises InputError where pandas is absent."""
        _needed("pandas", "to_pandas")
        return self._table.to_pandas()

    def to_polars(self) -> Any:
        """Return `to_arrow` as a polars.DataFrame. Raises InputError where polars is absent."""
        return _needed("polars", "to_polars").from_arrow(self._table)


def _needed(package: str, method: str) -> Any:
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError:
        raise InputError(
            f"{method}() needs {package}, which is not installed here: pip install {package}, or "
            "take to_arrow()"
        ) from None


def result_of(
    queries: Sequence[str],
    k: int,
    fusion: FusionSpec,
    answers: Sequence[tuple[NDArray[np.int64], Answer, Any]],
    refused: Mapping[int, Refusal],
    expand: int,
    like: Any,
) -> Result:
    """Return the result of a call.

    Args:
        queries: Q names.
        answers: for some queries each: their places in the call (n,), the answer, and its table.
        refused: the other queries, by place.
        expand: by how many pictures queries were expanded.
        like: a table without rows, with the columns of those of the answers.
    """
    shape = len(queries), k
    layers = [entry.layer for entry in fusion.layers]
    ids, scores = np.full(shape, -1, np.int64), np.full(shape, -np.inf)
    names = np.full(shape, "", object)
    similarities = {layer: np.zeros(shape) for layer in layers}
    certified = np.zeros(len(queries), np.bool_)
    tables = [like]
    for places, answer, table in answers:
        width = answer.image_ids.shape[1]  # below k where there are fewer images
        ids[places, :width], scores[places, :width] = answer.image_ids, answer.scores
        certified[places] = answer.certified
        for number, layer in enumerate(layers):
            similarities[layer][places, :width] = answer.similarities[:, :, number]
        query_of, ranks = np.nonzero(answer.image_ids >= 0)  # the order of the table's rows
        names[places[query_of], ranks] = table.column("name").to_pylist()
        tables.append(table)
    return Result(
        tuple(queries),
        ids,
        names,
        scores,
        similarities,
        certified,
        dict(sorted(refused.items())),
        fusion,
        expand,
        pa.concat_tables(tables),
    )
