"""Read files of names and vectors block by block: Parquet, Arrow, .npy with names, .npz.

The kind of a file is told by its first bytes. A folder holds parts of one table, Parquet or Arrow,
as Hugging Face datasets save them: in itself, or in folders such as `train`.
"""

import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lamella.pipeline.corpus.vector_columns import columns_of
from lamella.pipeline.errors import InputError, LamellaError, one_line
from lamella.pipeline.names import known_names
from lamella.pipeline.text import counted

BLOCK_ROWS = 2_048
"""Rows that are read at once: 4 MB of 512 numbers each."""

KINDS = "Parquet, Arrow (file or stream), .npy with names in a file beside it, or .npz"
_PARTS = (".parquet", ".pq", ".arrow", ".feather")
_NAMES_BESIDE = (".names.txt", ".txt", ".names.npy")


class Block(NamedTuple):
    """Some rows: names, an Arrow array of large_string, and vectors (n, D) float32.

    A number that is null is NaN here, and so are all numbers of a vector that is null.
    """

    names: Any
    vectors: NDArray[np.float32]


def read_blocks(path: Path, column: str | None = None) -> Iterator[Block]:
    """Yield the rows of a file, or of the parts of a folder in the order of their names.

    float64 is rounded to float32; float16 and float32 stay what they are.

    Args:
        column: of the vectors, or the array of a .npz, where it is not found by itself.

    Raises:
        InputError: it is missing, of another kind, damaged or empty; or has no vectors, vectors of
            two lengths, or a row without a name.
    """
    dimensions = 0
    for part in _parts(path):
        row = 0  # counted anew in each part, as who looks into it does
        try:
            for names, vectors in _read_part(part, column):
                _check_names(part, names, row)
                own = vectors.shape[1] or dimensions
                if dimensions and own != dimensions:
                    raise _two_lengths(part, row, dimensions, own)
                if not own:
                    raise InputError(f"vectors {part}: row {row + 1:,} is null, as all after it")
                if not vectors.shape[1]:
                    vectors = np.full((len(names), own), np.nan, np.float32)
                yield Block(names, vectors)
                row, dimensions = row + len(names), own
        except LamellaError:
            raise
        except Exception as error:  # foreign bytes through libraries that raise of every kind
            raise InputError(f"vectors {part} cannot be read: {one_line(error)}") from error
    if not dimensions:
        raise InputError(f"vectors {path} has no rows: give a file with a vector for each picture")


def _parts(path: Path) -> list[Path]:
    if not os.path.exists(path):  # False for what can be no path, too
        raise InputError(f"there is no file of vectors {path}")
    if not path.is_dir():
        return [path]
    inside = sorted([*path.glob("*"), *path.glob("*/*")], key=os.fsencode)
    parts = [each for each in inside if each.suffix in _PARTS and each.name[0] not in "._"]
    if not parts:
        raise InputError(
            f"folder {path} holds no vectors: parts are named {', '.join(_PARTS)}; give such a "
            f"folder, or a file: {KINDS}"
        )
    return parts


def _read_part(path: Path, column: str | None) -> Iterator[Block]:
    with path.open("rb") as file:
        head = file.read(6)
    if head.startswith(b"PAR1"):
        return _parquet(path, column)
    if head.startswith(b"\x93NUMPY"):
        return _npy(path, column)
    if head.startswith(b"PK\3\4"):
        return _npz(path, column)
    if head == b"ARROW1" or head.startswith(b"\xff\xff\xff\xff"):
        return _arrow(path, column, is_file=head == b"ARROW1")
    raise InputError(f"vectors {path} is of no kind that is read: give {KINDS}")


def _parquet(path: Path, column: str | None) -> Iterator[Block]:
    # Ahead of what is asked for, Arrow would read all row groups and keep them to the end.
    with pq.ParquetFile(path.absolute(), pre_buffer=False, buffer_size=1 << 20) as file:
        columns = columns_of(file.schema_arrow, str(path), column)
        batches = file.iter_batches(BLOCK_ROWS, columns=list(columns))
        yield from _blocks(path, batches, *columns)


def _arrow(path: Path, column: str | None, *, is_file: bool) -> Iterator[Block]:
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
        columns = columns_of(reader.schema, str(path), column)
        if is_file:
            batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        else:
            batches = iter(reader)
        yield from _blocks(path, batches, *columns)


def _blocks(path: Path, batches: Iterator[Any], names: str, vectors: str) -> Iterator[Block]:
    first = 0
    for batch in batches:
        batch.validate(full=True)  # else offsets of a foreign file could lead out of it
        for start in range(0, batch.num_rows, BLOCK_ROWS):
            part = batch.slice(start, BLOCK_ROWS)
            found = pc.cast(part.column(names), pa.large_string())
            yield Block(found, _matrix(path, part.column(vectors), first + start))
        first += batch.num_rows


def _matrix(path: Path, column: Any, first: int) -> NDArray[np.float32]:
    """Return lists of numbers as (n, D); D is 0 where all are null.

    Raises:
        InputError: they have two lengths, or none.
    """
    column = column.storage if isinstance(column, pa.ExtensionArray) else column
    lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)  # NaN for a null list
    there = np.flatnonzero(~np.isnan(lengths)) if column.null_count else np.arange(len(column))
    dimensions = int(lengths[there[0]]) if len(there) else 0
    other = there[lengths[there] != dimensions]
    if len(other):
        raise _two_lengths(path, first + int(other[0]), dimensions, int(lengths[other[0]]))
    if len(there) and not dimensions:
        raise InputError(f"vectors {path}: row {first + int(there[0]) + 1:,} has no numbers")
    flat = pc.list_flatten(column).to_numpy(zero_copy_only=False)
    found = _single(flat.reshape(len(there), dimensions))
    if len(there) == len(column):
        return found
    whole = np.full((len(column), dimensions), np.nan, np.float32)
    whole[there] = found
    return whole


def _single(numbers: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # becomes infinite, which is looked for later
        return np.ascontiguousarray(numbers, np.float32)


def _two_lengths(path: Path, row: int, one: int, other: int) -> InputError:
    return InputError(
        f"vectors {path}: all have one length; row {row + 1:,} has {counted(other, 'number')}, "
        f"those before it {one:,}: give vectors of one kind"
    )


def _check_names(path: Path, names: Any, first: int) -> None:
    wrong = pc.or_kleene(pc.is_null(names), pc.equal(names, ""))
    if (place := pc.index(wrong, True).as_py()) >= 0:
        raise InputError(
            f"vectors {path}: every row has a name; row {first + place + 1:,} has none: give it "
            "one, or leave it out"
        )


def _npy(path: Path, column: str | None) -> Iterator[Block]:
    if column is not None:
        raise InputError(f"vectors {path} are one array; got :{column}: leave it out")
    beside = [path.with_suffix(ending) for ending in _NAMES_BESIDE]
    found = next((each for each in beside if each.exists()), None)
    if found is None:
        raise InputError(
            f"vectors {path} have their names in a file beside them, one a line in the order of "
            f"the rows; there is none of {', '.join(each.name for each in beside)}"
        )
    yield from _rows(path, _mapped(path), _names_in(found))


def _mapped(path: Path) -> NDArray[Any]:
    return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]


def _names_in(path: Path) -> Any:
    if path.suffix == ".npy":
        return _text(path, np.load(path))
    with path.open(encoding="utf-8-sig") as file:
        return pa.array([line.rstrip("\n") for line in file], pa.large_string())


def _text(path: Path, names: NDArray[Any]) -> Any:
    if names.ndim != 1 or names.dtype.kind not in "USiu":
        raise InputError(
            f"names in {path} are {names.dtype} of shape {names.shape}: give text (n,)"
        )
    text = np.char.decode(names, "utf-8") if names.dtype.kind == "S" else names
    return pc.cast(pa.array(text), pa.large_string())


def _npz(path: Path, column: str | None) -> Iterator[Block]:
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as scratch:
        there = [name.removesuffix(".npy") for name in archive.namelist()]
        wanted = column or "vectors"
        for name in ("names", wanted):
            if name not in there:
                raise InputError(
                    f"vectors {path} has the arrays {known_names(name, there)}; names are in "
                    f"'names' and vectors in {wanted!r}: say another as FILE:ARRAY"
                )
        names = Path(archive.extract("names.npy", scratch))
        vectors = Path(archive.extract(f"{wanted}.npy", scratch))  # so that it can be mapped
        yield from _rows(path, _mapped(vectors), _names_in(names))


def _rows(path: Path, vectors: NDArray[Any], names: Any) -> Iterator[Block]:
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or not vectors.shape[1]:
        raise InputError(
            f"vectors {path} are {vectors.dtype} of shape {vectors.shape}; wanted are float16, "
            "float32 or float64 of shape (n, D)"
        )
    if len(names) != len(vectors):
        raise InputError(
            f"vectors {path}: every row has a name; there are {len(vectors):,} rows and "
            f"{len(names):,} names: give names one a line in the order of the rows"
        )
    for start in range(0, len(vectors), BLOCK_ROWS):
        stop = start + BLOCK_ROWS
        yield Block(names[start:stop], _single(vectors[start:stop]))
