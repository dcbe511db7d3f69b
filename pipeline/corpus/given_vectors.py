"""Vectors that a user brings, by the name of the picture: read once, checked, and looked up.

They are kept as float32 in a scratch file without a name, or stay where they are if they are a
.npy of float32; names are kept as digests. So millions of them take little memory.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float32s, Int64s, UInt8s
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.vector_files import Block, read_blocks
from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.store.address import is_s3
from lamella.pipeline.text import counted, three_digits
from lamella.schemas.refusals import RefusalReason

NAME_BYTES = 16
"""Bytes of the digest that stands for a name: two of a billion names have the same one with a
probability of 1e-21."""

OnRows = Callable[[int], None]
"""Called with the number of rows read so far."""


class Norms(NamedTuple):
    """The least, the median and the greatest Euclidean norm of the sound vectors."""

    least: float
    median: float
    greatest: float


@dataclass(frozen=True, eq=False)
class GivenVectors:
    """The vectors of a file, opened.

    Attributes:
        place: the file's absolute path, as a user would give it.
        names: (n,) of the rows, in their order: Arrow text.
        vectors: (n, D) float32, mapped.
        sha256: over names and vectors in an order that the names decide: of any file that has
            these, in whatever format and order.
        bad: how many vectors are not finite, or all zeros.
        norms: of the others; None where there are none.
    """

    place: str
    names: Any
    vectors: Float32s
    sha256: str
    bad: int
    norms: Norms | None
    _keys: NDArray[Any]
    _rows: Int64s
    _digests: UInt8s
    _unchanged: Callable[[], None]

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dimensions(self) -> int:
        """How many numbers a vector has."""
        return int(self.vectors.shape[1])

    def rows_of(self, names: Sequence[str]) -> Int64s:
        """Return the row of each name, -1 where there is none."""
        wanted = _keys_of(names)
        at = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        return np.where(self._keys[at] == wanted, self._rows[at], -1)

    def of(self, names: Sequence[str]) -> tuple[Float32s, list[Refused | None]]:
        """Return the vectors of names, (n, D), zeros where there is none; and why there is none.

        Raises:
            InputError: the file has changed since it was opened.
        """
        rows = self.rows_of(names)
        self._unchanged()
        found = np.array(self.vectors[np.maximum(rows, 0)])
        found[rows < 0] = 0
        return found, [
            fault_of(vector) if row >= 0 else Refused(RefusalReason.NO_VECTOR)
            for row, vector in zip(rows.tolist(), found, strict=True)
        ]

    def digest_of(self, row: int) -> bytes:
        """Return the SHA-256 of the bytes of a row's vector."""
        return bytes(self._digests[row])

    def summary(self) -> str:
        """Return what the vectors are, in a sentence for a person."""
        said = f"{counted(len(self), 'vector')} of {counted(self.dimensions, 'number')}"
        if self.norms is not None:
            least, median, greatest = map(three_digits, self.norms)
            said += f", norms from {least} to {greatest}, median {median}"
        bad = f"; {self.bad:,} not finite, or all zeros" if self.bad else ""
        return f"{self.place}: {said}{bad}"


def fault_of(vector: Float32s) -> Refused | None:
    """Return why a vector cannot be compared with others, None where it can."""
    strange = int(np.count_nonzero(~np.isfinite(vector)))
    if strange:
        return Refused(
            RefusalReason.BAD_VECTOR, f"{strange:,} of its {len(vector):,} numbers are not finite"
        )
    return None if vector.any() else Refused(RefusalReason.BAD_VECTOR, "it is all zeros")


def file_and_column(said: str) -> tuple[Path, str | None]:
    """Return the file and the column that FILE or FILE:COLUMN names.

    Raises:
        InputError: it is an address, not a file on this machine.
    """
    if is_s3(said) or "://" in said:
        raise InputError(
            f"vectors are in a file on this machine; got {one_line(said, 200)}: copy it from there"
        )
    path = os.path.expanduser(said)
    file, _, column = path.rpartition(":")
    if file and column and not os.path.exists(path):
        return Path(file), column
    return Path(path), None


def open_vectors(said: str, on_rows: OnRows = lambda number: None) -> GivenVectors:
    """Read a file of vectors once, and check it.

    Args:
        said: FILE or FILE:COLUMN.
        on_rows: called now and then with the number of rows read.

    Raises:
        InputError: it cannot be used: see `read_blocks`; or a name stands in it twice.
        OSError: the scratch folder is full.
    """
    path, column = file_and_column(said)
    mapped, unchanged = _mapped(path)
    read = _Read()
    with tempfile.TemporaryFile(buffering=0) as scratch:
        for block in read_blocks(path, column):
            read.add(block)
            if mapped is None:
                _write(scratch, block.vectors)
            on_rows(len(read))
        shape = (len(read), read.dimensions)
        if mapped is None:
            mapped = np.memmap(scratch, np.float32, "r", shape=shape)
    keys, digests, names = read.keys(), read.digests(), pa.chunked_array(read.names)
    order = np.argsort(keys, kind="stable")
    _check_twice(path, names, keys, order)
    rows = np.concatenate([keys.view(np.uint8).reshape(-1, NAME_BYTES), digests], axis=1)[order]
    head = f"lamella vectors {read.dimensions}\n".encode()
    return GivenVectors(
        f"{path.absolute()}{'' if column is None else f':{column}'}",
        names,
        mapped,
        hashlib.sha256(head + rows.tobytes()).hexdigest(),
        read.bad,
        read.norms(),
        keys[order],
        order,
        digests,
        unchanged,
    )


class _Read:
    """What is kept of the rows of a file, beside their vectors."""

    def __init__(self) -> None:
        self.names: list[Any] = []
        self.dimensions = self.bad = 0
        self._keys, self._digests = bytearray(), bytearray()
        self._norms: list[Float32s] = []

    def __len__(self) -> int:
        return len(self._keys) // NAME_BYTES

    def add(self, block: Block) -> None:
        """Take the next rows."""
        self.names.append(block.names)
        self.dimensions = block.vectors.shape[1]
        self._keys += b"".join(map(_key, block.names.to_pylist()))
        self._digests += b"".join(hashlib.sha256(vector.data).digest() for vector in block.vectors)
        norms = np.linalg.norm(block.vectors.astype(np.float64), axis=1)
        sound = np.isfinite(norms) & (norms > 0)
        self.bad += int(np.count_nonzero(~sound))
        self._norms.append(norms[sound].astype(np.float32))

    def keys(self) -> NDArray[Any]:
        """Return the digest that stands for each name, (n,)."""
        return np.frombuffer(bytes(self._keys), f"S{NAME_BYTES}")

    def digests(self) -> UInt8s:
        """Return the SHA-256 of each vector, (n, 32)."""
        return np.frombuffer(bytes(self._digests), np.uint8).reshape(-1, 32)

    def norms(self) -> Norms | None:
        """Return the norms of the sound vectors, None where there is none."""
        found = np.concatenate(self._norms)
        if not len(found):
            return None
        return Norms(float(found.min()), float(np.median(found)), float(found.max()))


def _mapped(path: Path) -> tuple[Float32s | None, Callable[[], None]]:
    """Return the vectors of a file that can be read as it is, and what checks that it stays so."""
    if path.suffix != ".npy" or not path.is_file():
        return None, lambda: None
    before = path.stat()

    def check() -> None:
        now = path.stat()
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise InputError(
                f"vectors {path} changed while they were read ({before.st_size:,} bytes at the "
                f"start, {now.st_size:,} now): give the same command again"
            )

    try:
        found = np.load(path, mmap_mode="r")
    except ValueError:  # `read_blocks` says what is wrong
        return None, lambda: None
    plain = found.dtype == np.dtype("<f4") and found.ndim == 2 and found.flags.c_contiguous
    return (found, check) if plain else (None, lambda: None)


def _write(scratch: Any, vectors: Float32s) -> None:
    left = np.ascontiguousarray(vectors).data.cast("B")
    try:
        while left:
            left = left[scratch.write(left) :]
    except OSError as error:
        raise OSError(
            error.errno,
            f"the scratch folder {tempfile.gettempdir()} (TMPDIR) does not hold the vectors: "
            f"{error.strerror}; free space there, or set TMPDIR to a folder that has some",
        ) from error


def _check_twice(path: Path, names: Any, keys: NDArray[Any], order: Int64s) -> None:
    ordered = keys[order]
    again = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
    if not len(again):
        return
    second = int(order[again].min())
    first = int(np.flatnonzero(keys == keys[second])[0])
    raise InputError(
        f"vectors {path}: every picture has one; {one_line(repr(names[second].as_py()), 200)} is "
        f"named in row {first + 1:,} and in row {second + 1:,}, and {counted(len(again), 'row')} "
        "in all name what stands before them: leave them out"
    )


def _key(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=NAME_BYTES).digest()


def _keys_of(names: Sequence[str]) -> NDArray[Any]:
    return np.frombuffer(b"".join(map(_key, names)), f"S{NAME_BYTES}")
