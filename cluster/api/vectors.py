"""What a caller may give as the vectors of queries."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.corpus.given_vectors import open_vectors
from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.search.given_queries import ByName, ByNumber, VectorsOfQueries

Vectors: TypeAlias = str | os.PathLike[str] | NDArray[Any]
"""An array (Q, D) of floats, a row a query; or the path of a file of vectors by name."""


def given_vectors(vectors: Mapping[str, Vectors] | None) -> dict[str, VectorsOfQueries]:
    """Return the vectors of a call, by layer.

    Raises:
        InputError: something is no array of floats (Q, D) and no file of vectors.
    """
    if vectors is not None and not isinstance(vectors, Mapping):
        raise InputError(
            f"vectors are arrays or files by the name of their layer, as in {{'clip': x}}; got "
            f"{type(vectors).__name__}: name the layer"
        )
    return {layer: _given(layer, value) for layer, value in (vectors or {}).items()}


def _given(layer: str, value: Any) -> VectorsOfQueries:
    if isinstance(value, str | os.PathLike):
        return ByName(open_vectors(os.fspath(value)))
    if not isinstance(value, np.ndarray) or value.ndim != 2 or value.dtype.kind != "f":
        shape = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else repr(value)
        raise InputError(
            f"vectors of layer {layer} are an array (Q, D) of floats, or the path of a file; got "
            f"{one_line(shape, 80)}: give a row a query, x[None] for one"
        )
    with np.errstate(over="ignore"):  # becomes infinite, and its query is refused
        return ByNumber(np.ascontiguousarray(value, np.float32))


def names_of(given: Mapping[str, VectorsOfQueries], queries: Sequence[str] | None) -> list[str]:
    """Return the names of the queries of a call: of its pictures, or of vectors alone.

    Args:
        queries: the names of the pictures; None where vectors are asked alone.

    Raises:
        InputError: an array has another number of rows than there are queries.
    """
    files = [each.given.names.to_pylist() for each in given.values() if isinstance(each, ByName)]
    names = queries if queries is not None or not files else files[0]
    for layer, each in given.items():
        if not isinstance(each, ByNumber):
            continue
        if names is None:
            names = [f"vector {row}" for row in range(len(each.vectors))]
        if len(each.vectors) != len(names):
            raise InputError(
                f"an array of vectors has a row a query; layer {layer} has {len(each.vectors):,} "
                f"rows for {len(names):,} queries: give one for each"
            )
    return list(names or ())
