"""Read foreign arrays in NumPy's format, after checking their headers and sizes.

Dtype and shape give the file's size to the byte, so a false header is found before any memory is
allocated. Pickles are refused.
"""

import hashlib
import math
import os
import tokenize
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from lamella.pipeline.errors import InputError, one_line


def read_array(path: Path, sha256: str, dtype: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return the array in a file, row by row.

    Args:
        sha256, dtype, shape: what the file must be.

    Raises:
        InputError: it is missing, or differs; one line says how.
    """
    if not path.is_file():
        raise InputError(f"{path} is not there, and the JSON names it: copy it beside the JSON")
    wanted, count = np.dtype(dtype), math.prod(shape)
    with path.open("rb") as file:
        found, by_columns, found_dtype = _read_header(file, path)
        if found != shape or found_dtype != wanted:
            raise InputError(
                f"{path} holds {one_line(found_dtype, 60)} of shape {found}, the JSON says "
                f"{wanted} of shape {shape}: give the file that belongs to it"
            )
        start, size_bytes = file.tell(), os.fstat(file.fileno()).st_size
        if size_bytes != start + count * wanted.itemsize:
            raise InputError(
                f"{path} has {size_bytes:,} bytes, and such an array "
                f"{start + count * wanted.itemsize:,}: it was cut or added to, copy it again"
            )
        file.seek(0)
        found_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if found_sha256 != sha256:
            raise InputError(
                f"{path} has SHA-256 {found_sha256[:12]}, the JSON says {sha256[:12]}: it was "
                "changed, copy it again"
            )
        file.seek(start)
        numbers = np.fromfile(file, wanted, count)
    return np.ascontiguousarray(numbers.reshape(shape, order="F" if by_columns else "C"))


def _read_header(file: BinaryIO, path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether in Fortran order, and dtype; leave the file at the numbers.

    Only version 1.0 is read: longer headers are for arrays of records.
    """
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise InputError(
                f"{path} is in version {version[0]}.{version[1]} of NumPy's format, words in 1.0: "
                "save it with numpy.save as a plain array"
            )
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
    except _BROKEN_HEADER:
        shape, by_columns, dtype = (-1,), False, np.dtype("V1")
    if len(shape) > 32 or not all(0 <= size < 1 << 63 for size in shape):
        raise InputError(
            f"{path} is no array in NumPy's format: copy it again, or save it with numpy.save"
        )
    return shape, by_columns, dtype


_BROKEN_HEADER = (
    *(ValueError, TypeError, KeyError, SyntaxError, EOFError),
    *(OverflowError, RecursionError, MemoryError, tokenize.TokenError),
)
"""What NumPy may raise on a broken header, which it reads as a Python literal."""
