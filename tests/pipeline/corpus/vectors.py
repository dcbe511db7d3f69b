"""Files of names and vectors, in every format that is read."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

NAMES = ("b.jpg", "a.jpg", "ü/c d.jpg", "d.jpg", "e.jpg")
VECTORS: NDArray[np.float32] = np.random.default_rng(7).standard_normal((5, 6)).astype(np.float32)

Numbers = NDArray[Any]


def table(names: Sequence[str | None], vectors: Numbers, kind: Any = None, **more: Any) -> pa.Table:
    """Return a table of names and vectors, lists of any length unless a kind is given."""
    numbers = pa.from_numpy_dtype(vectors.dtype)
    column = pa.array(list(vectors), kind or pa.list_(numbers))
    return pa.table({"name": pa.array(names, pa.string()), "embedding": column, **more})


def parquet(path: Path, names: Sequence[str], vectors: Numbers) -> Path:
    """Write Parquet with lists, in row groups of two."""
    pq.write_table(table(names, vectors), path / "x.parquet", row_group_size=2)
    return path / "x.parquet"


def fixed(path: Path, names: Sequence[str], vectors: Numbers) -> Path:
    """Write Parquet with lists of one length and large text."""
    kind = pa.list_(pa.from_numpy_dtype(vectors.dtype), vectors.shape[1])
    found = table(names, vectors, kind)
    found = found.set_column(0, "path", found.column(0).cast(pa.large_string()))
    pq.write_table(found, path / "x.parquet")
    return path / "x.parquet"


def parts(path: Path, names: Sequence[str], vectors: Numbers) -> Path:
    """Write a folder of Parquet in two parts, with notes beside them."""
    folder = path / "parts" / "train"
    folder.mkdir(parents=True)
    (folder / "_SUCCESS.parquet").write_bytes(b"")
    (folder / "dataset_info.json").write_text("{}")
    for number, (start, stop) in enumerate(((0, 2), (2, len(names)))):
        part = table(names[start:stop], vectors[start:stop])
        pq.write_table(part, folder / f"{number:04d}.parquet")
    return path / "parts"


def arrow_file(path: Path, names: Sequence[str], vectors: Numbers) -> Path:
    """Write an Arrow file of two batches, names in a dictionary."""
    found = table(names, vectors)
    found = found.set_column(0, "key", found.column(0).dictionary_encode())
    with pa.ipc.new_file(str(path / "x.arrow"), found.schema) as writer:
        writer.write_table(found, max_chunksize=3)
    return path / "x.arrow"


def arrow_stream(path: Path, names: Sequence[str], vectors: Numbers) -> Path:
    """Write an Arrow stream, as Hugging Face datasets keep it."""
    found = table(names, vectors)
    with pa.ipc.new_stream(str(path / "x.arrow"), found.schema) as writer:
        writer.write_table(found, max_chunksize=3)
    return path / "x.arrow"


def npy(path: Path, names: Sequence[str], vectors: Numbers) -> Path:
    """Write .npy with names in a text file beside it."""
    np.save(path / "x.npy", vectors)
    (path / "x.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return path / "x.npy"


def npy_of_columns(path: Path, names: Sequence[str], vectors: Numbers) -> Path:
    """Write .npy in Fortran's order with names in .npy."""
    np.save(path / "x.npy", np.asfortranarray(vectors))
    np.save(path / "x.names.npy", np.array(names))
    return path / "x.npy"


def npz(path: Path, names: Sequence[str], vectors: Numbers) -> Path:
    """Write .npz, names as bytes."""
    np.savez_compressed(
        path / "x.npz", names=np.array([n.encode() for n in names]), vectors=vectors
    )
    return path / "x.npz"


FORMATS: tuple[Callable[[Path, Sequence[str], Numbers], Path], ...] = (
    *(parquet, fixed, parts, arrow_file, arrow_stream),
    *(npy, npy_of_columns, npz),
)
