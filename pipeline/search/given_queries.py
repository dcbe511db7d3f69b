"""Queries by vectors that a user brings: of query pictures in given layers, or instead of any."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from lamella.pipeline.arrays import Float32s, Int64s
from lamella.pipeline.corpus.given_vectors import GivenVectors, fault_of
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.errors import InputError
from lamella.pipeline.names import known_names, shown
from lamella.pipeline.search.searcher import take_queries
from lamella.pipeline.search.segment import Features, QueryBatch
from lamella.schemas.extraction import ExtractionSpec
from lamella.schemas.rankings import query_refusals_schema


class VectorsOfQueries(Protocol):
    """The vectors of queries in one layer."""

    @property
    def dimensions(self) -> int:
        """How many numbers a vector has."""
        ...

    def of_queries(
        self, numbers: Sequence[int], names: Sequence[str]
    ) -> tuple[Float32s, list[Refused | None]]:
        """Return the vectors of queries, (n, D), and why there is none."""
        ...


@dataclass(frozen=True, eq=False)
class ByName:
    """Vectors of a file, by the names of the queries."""

    given: GivenVectors

    @property
    def dimensions(self) -> int:
        """See `VectorsOfQueries`."""
        return self.given.dimensions

    def of_queries(
        self, numbers: Sequence[int], names: Sequence[str]
    ) -> tuple[Float32s, list[Refused | None]]:
        """See `VectorsOfQueries`."""
        return self.given.of(names)


@dataclass(frozen=True, eq=False)
class ByNumber:
    """Vectors of an array (Q, D), by the numbers of the queries."""

    vectors: Float32s

    @property
    def dimensions(self) -> int:
        """See `VectorsOfQueries`."""
        return int(self.vectors.shape[1])

    def of_queries(
        self, numbers: Sequence[int], names: Sequence[str]
    ) -> tuple[Float32s, list[Refused | None]]:
        """See `VectorsOfQueries`."""
        found = self.vectors[np.asarray(numbers, np.int64)]
        return found, [fault_of(vector) for vector in found]


def check_from_elsewhere(
    spec: ExtractionSpec,
    fused: Sequence[str],
    given: Mapping[str, VectorsOfQueries],
    *,
    pictures: bool,
) -> None:
    """Check that queries that are no indexed pictures have something in every fused layer.

    Args:
        given: the vectors that come with them, by layer.
        pictures: whether there are pictures, which a network sees.

    Raises:
        InputError: a layer lacks vectors, or there are some of no such layer or of another length.
    """
    known = {layer.name: layer.vectors for layer in spec.given if layer.vectors is not None}
    for name, each in given.items():
        if name not in known:
            raise InputError(
                f"vectors are given of layers that were indexed by given vectors, which here are "
                f"{known_names(name, known) if known else 'none'}; got {shown(name)}: name such a "
                "layer, as in --vectors NAME=FILE"
            )
        if each.dimensions != known[name].dimensions:
            raise InputError(
                f"vectors of layer {name} have {known[name].dimensions:,} numbers; those given "
                f"have {each.dimensions:,}: give vectors of the same kind as were indexed"
            )
    if pictures and not spec.computed:
        raise InputError(
            "no network sees pictures in this index, whose vectors were all given: ask by indexed "
            "pictures (--names, --ids), or by vectors alone (--vectors)"
        )
    lacking = [name for name in fused if name in known and name not in given]
    seen = [name for name in fused if name not in known]
    if seen and not pictures:
        raise InputError(
            f"layer {seen[0]} is of the network, and no picture is asked by: give pictures too, or "
            f"fuse only layers of given vectors (--layers {','.join(known)})"
        )
    if lacking:
        cure = f"give some by name (--vectors {lacking[0]}=FILE)"
        if seen:
            cure += f", or leave the layer out (--layers {','.join(seen)})"
        raise InputError(
            f"layer {lacking[0]} has vectors that were given for indexed pictures, and queries "
            f"from elsewhere have none: {cure}"
        )


def with_vectors(
    numbers: Int64s,
    names: Sequence[str],
    features: QueryBatch | None,
    given: Mapping[str, VectorsOfQueries],
) -> tuple[Int64s, QueryBatch | None, Any]:
    """Join given vectors to queries.

    Args:
        numbers, names: (Q,) of the queries.
        features: what a network saw of them, if it did.
        given: the vectors of their other layers.

    Returns:
        The numbers of the queries that have a vector in every layer, (q,), their features in all
        layers, None if there are none; and the refusals of the others.
    """
    refused: dict[int, tuple[str, str]] = {}
    vectors: dict[str, Float32s] = {}
    for layer, each in given.items():
        vectors[layer], faults = each.of_queries(numbers.tolist(), names)
        for row, fault in enumerate(faults):
            if fault is not None:
                detail = f"{layer}: {fault.detail}" if fault.detail else layer
                refused.setdefault(row, (fault.reason.value, detail))
    rows = [row for row in range(len(names)) if row not in refused]
    table = pa.Table.from_pylist(
        [
            {"query": int(numbers[row]), "name": names[row], "reason": reason, "detail": detail}
            for row, (reason, detail) in sorted(refused.items())
        ],
        schema=query_refusals_schema(),
    )
    if not rows:
        return numbers[:0], None, table
    layers: dict[str, Features] = dict(take_queries(features, rows).layers) if features else {}
    layers |= {layer: np.ascontiguousarray(each[rows]) for layer, each in vectors.items()}
    return numbers[rows], QueryBatch(layers), table


def check_computed(spec: ExtractionSpec, fused: Collection[str], what: str) -> None:
    """Check that a fusion has no given layer, where a network sees parts or copies of pictures.

    Args:
        what: is seen, such as "a query that is cut out by a box".

    Raises:
        InputError: it has one.
    """
    given = [layer.name for layer in spec.given if layer.name in fused]
    if given:
        others = ",".join(name for name in fused if name not in given)
        cure = f"leave the layer out (--layers {others})" if others else "ask by whole pictures"
        raise InputError(
            f"layer {given[0]} has vectors that were given for whole indexed pictures, and {what} "
            f"has none: {cure}"
        )
