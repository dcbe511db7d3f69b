"""NumPy's own files, written without holding an array: .npy, and .npz as `scipy.sparse` has it."""

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Int64s

Parts = Iterable[NDArray[Any]]


def write_npy(file: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...], parts: Parts) -> None:
    """Write an array of parts, one after the other along its first axis."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for part in parts:
        file.write(np.ascontiguousarray(part, dtype).data)


def write_csr(
    path: Path, shape: tuple[int, int], sizes: Int64s, columns: Parts, values: Parts, dtype: Any
) -> None:
    """Write a sparse matrix by rows as `scipy.sparse.save_npz` does; `load_npz` reads it.

    The layout is that of SciPy 1.x: arrays `indices`, `indptr`, `format`, `shape` and `data` in a
    zip file, here without compression and without times, so that the same matrix has the same
    bytes.

    Args:
        sizes: (n,) how many entries each row has.
        columns: the column of each entry, row after row, rising in a row.
        values: the value of each entry, likewise.
        dtype: of the values.
    """
    pointers = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    entries = int(pointers[-1])
    most = np.iinfo(np.int32).max
    whole = np.dtype(np.int32 if max(entries, *shape) <= most else np.int64)
    members: list[tuple[str, Any, tuple[int, ...], Parts]] = [
        ("indices", whole, (entries,), columns),
        ("indptr", whole, pointers.shape, [pointers]),
        ("format", np.dtype("S3"), (), [np.array(b"csr")]),
        ("shape", np.dtype(np.int64), (2,), [np.array(shape, np.int64)]),
        ("data", np.dtype(dtype), (entries,), values),
    ]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, kind, extent, parts in members:
            member = zipfile.ZipInfo(f"{name}.npy")  # of 1980, as long as nobody says when
            with archive.open(member, "w", force_zip64=True) as file:
                write_npy(file, kind, extent, parts)
