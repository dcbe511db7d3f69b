"""A corpus that consists of vectors alone: its entries are the names of a file of vectors.

An entry's bytes are the little-endian float32 numbers of its vector, so its SHA-256 says what the
vector is, wherever it stands in which file; and so does its version, so that only new and changed
vectors are looked at again.
"""

import hashlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lamella.pipeline.arrays import Float32s
from lamella.pipeline.corpus.entries import Entries, Entry, in_order
from lamella.pipeline.corpus.given_vectors import GivenVectors, fault_of
from lamella.pipeline.corpus.listing import Listing, storable
from lamella.schemas.corpus import IMAGES

VECTORS = "vectors"
"""The kind of such a source, and the format of its entries is "vector"."""

if sys.byteorder != "little":  # pragma: no cover
    raise ImportError("vectors are stored as little-endian numbers, and this machine is big-endian")


def list_vectors(vectors: GivenVectors) -> Listing:
    """Return the listing of a corpus of vectors, in byte order of their names."""
    began, size = time.time_ns(), 4 * vectors.dimensions

    def entries() -> Iterator[Entry]:
        row = 0
        for chunk in vectors.names.chunks:
            for said in chunk.to_pylist():
                name, fault = storable(said)
                version = int.from_bytes(vectors.digest_of(row)[:7])
                yield Entry(name, "", 0, size, version, fault)
                row += 1

    return Listing(
        VECTORS, vectors.place, Entries(in_order(entries())), listed_ns=began, vectors=vectors
    )


def vectors_by_name(vectors: GivenVectors, entries: Sequence[Entry]) -> dict[str, Float32s]:
    """Return the vectors of some entries of a corpus of vectors."""
    names = [entry.name for entry in entries]
    return dict(zip(names, vectors.of(names)[0], strict=True))


def vector_rows(vectors: Mapping[str, Float32s], entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return the row of an image table for each entry of a corpus of vectors."""
    return [_row(entry, vectors[entry.name]) for entry in entries]


def _row(entry: Entry, vector: Float32s) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(IMAGES.names)
    row |= {"name": entry.name, "container": "", "offset": 0, "detail": ""}
    if entry.fault is not None:
        return row | {"refusal": entry.fault.value}
    row |= {"size_bytes": vector.nbytes, "sha256": hashlib.sha256(vector.data).digest()}
    row["format"] = "vector"
    if (fault := fault_of(vector)) is not None:
        return row | {"refusal": fault.reason.value, "detail": fault.detail}
    return row | {"width": len(vector), "height": 1}
