import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lamella.pipeline.corpus.vector_files import BLOCK_ROWS, read_blocks
from lamella.pipeline.errors import InputError
from tests.pipeline.corpus.vectors import (
    FORMATS,
    NAMES,
    VECTORS,
    arrow_file,
    npy,
    npz,
    parquet,
    table,
)


def read(path: Path, column: str | None = None) -> tuple[list[str], Any]:
    blocks = list(read_blocks(path, column))
    names = [name for block in blocks for name in block.names.to_pylist()]
    return names, np.concatenate([block.vectors for block in blocks])


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_every_format_gives_its_names_and_vectors_back(
    write: Callable[..., Path], kind: Any, tmp_path: Path
) -> None:
    given = VECTORS.astype(kind)
    names, vectors = read(write(tmp_path, NAMES, given))
    assert names == list(NAMES)
    assert vectors.dtype == np.float32
    assert vectors.tobytes() == given.astype(np.float32).tobytes()


def test_float64_is_rounded_to_the_nearest_float32(tmp_path: Path) -> None:
    third = np.full((1, 2), 1 / 3)
    assert read(parquet(tmp_path, ["a"], third))[1].tolist() == [[np.float32(1 / 3)] * 2]


def test_more_rows_than_a_block_come_in_order(tmp_path: Path) -> None:
    rows = BLOCK_ROWS + 3
    given = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    names = [f"{row:05d}" for row in range(rows)]
    for write in (parquet, arrow_file, npy):
        assert read(write(tmp_path, names, given))[0] == names
        assert np.array_equal(read(write(tmp_path, names, given))[1], given)


def test_nulls_become_numbers_that_are_not_finite(tmp_path: Path) -> None:
    vectors = pa.array([[1.0, None], None, [3.0, 4.0]], pa.list_(pa.float32()))
    pq.write_table(pa.table({"id": [7, 8, 9], "emb": vectors}), tmp_path / "x.parquet")
    names, found = read(tmp_path / "x.parquet")
    assert names == ["7", "8", "9"]  # whole numbers are their digits
    assert np.isnan(found).tolist() == [[False, True], [True, True], [False, False]]


def test_a_null_vector_in_a_block_of_its_own_has_the_length_of_the_others(tmp_path: Path) -> None:
    vectors = pa.array([[1.0, 2.0]] * BLOCK_ROWS + [None], pa.list_(pa.float32()))
    names = [str(row) for row in range(BLOCK_ROWS + 1)]
    pq.write_table(pa.table({"name": names, "emb": vectors}), tmp_path / "x.parquet")
    assert np.isnan(read(tmp_path / "x.parquet")[1][-1]).tolist() == [True, True]


def test_a_column_among_several_is_the_usual_one_or_the_one_that_is_named(tmp_path: Path) -> None:
    path, other = tmp_path / "x.parquet", pa.array(list(2 * VECTORS), pa.list_(pa.float32()))
    pq.write_table(table(NAMES, VECTORS, colours=other), path)
    assert np.array_equal(read(path)[1], VECTORS)
    assert np.array_equal(read(path, "colours")[1], 2 * VECTORS)


def write_columns(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path / "x.parquet")
    return path / "x.parquet"


FLOATS = pa.list_(pa.float32())
GOOD = pa.array([[1.0, 2.0], [3.0, 4.0]], FLOATS)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"name": ["a", "b"], "n": [1, 2]}, r"no column of vectors; .*'name' \(string\), 'n'"),
        ({"name": ["a", "b"], "emb": ["1", "2"]}, r"no column of vectors; .*'emb' \(string\)"),
        ({"name": ["a", "b"], "emb": [["x"], ["y"]]}, r"no column of vectors; .*'emb' \(list<"),
        ({"name": ["a", "b"], "p": GOOD, "q": GOOD}, r"several columns of vectors, 'p', 'q': say"),
        ({"emb": GOOD}, r"no column of text that names could be in; its columns are 'emb'"),
        ({"x": ["a", "b"], "y": ["a", "b"], "emb": GOOD}, r"several columns of text"),
        ({"name": ["a", None], "emb": GOOD}, r"every row has a name; row 2 has none"),
        ({"name": ["a", ""], "emb": GOOD}, r"every row has a name; row 2 has none"),
        (
            {"name": ["a", "b"], "emb": pa.array([[1.0, 2.0], [3.0]], FLOATS)},
            r"row 2 has 1 number, those before it 2",
        ),
        ({"name": ["a", "b"], "emb": pa.array([[], []], FLOATS)}, r"row 1 has no numbers"),
        ({"name": ["a", "b"], "emb": pa.array([None, None], FLOATS)}, r"row 1 is null"),
        ({"name": pa.array([], pa.string()), "emb": pa.array([], FLOATS)}, r"has no rows"),
    ],
)
def test_a_table_that_is_no_table_of_vectors_is_an_error_that_says_why(
    columns: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        read(write_columns(tmp_path, **columns))


def test_two_lengths_in_two_row_groups_are_told_with_their_row(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    pq.write_table(table(NAMES[:3], VECTORS[:3]), tmp_path / "parts/0.parquet")
    pq.write_table(table(NAMES[3:], VECTORS[3:, :4]), tmp_path / "parts/1.parquet")
    with pytest.raises(InputError, match=r"1.parquet: .* row 1 has 4 numbers, those before it 6"):
        read(tmp_path / "parts")


def test_a_column_that_is_not_there_or_holds_no_vectors_is_told(tmp_path: Path) -> None:
    path = parquet(tmp_path, NAMES, VECTORS)
    with pytest.raises(InputError, match="'embeding' of vectors: embedding: did you mean"):
        read(path, "embeding")
    with pytest.raises(InputError, match=r"vectors are lists .*; column 'name' is string"):
        read(path, "name")


def test_files_that_are_not_there_or_of_no_kind_that_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file of vectors"):
        read(tmp_path / "x.parquet")
    (tmp_path / "x.csv").write_text("name,vector\n")
    with pytest.raises(InputError, match=r"no kind that is read: give Parquet, .*\.npz"):
        read(tmp_path / "x.csv")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(InputError, match="no kind that is read"):
        read(tmp_path / "empty")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="holds no vectors: parts are named"):
        read(tmp_path / "folder")
    path = parquet(tmp_path, NAMES, VECTORS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"x\.parquet cannot be read"):
        read(path)


def test_arrays_need_names_and_numbers_that_fit(tmp_path: Path) -> None:
    path = npy(tmp_path, NAMES[:-1], VECTORS)
    with pytest.raises(InputError, match="5 rows and 4 names"):
        read(path)
    with pytest.raises(InputError, match="are one array; got :emb: leave it out"):
        read(path, "emb")
    (tmp_path / "x.txt").unlink()
    with pytest.raises(InputError, match=re.escape("x.names.txt, x.txt, x.names.npy")):
        read(path)
    for wrong in (VECTORS[0], VECTORS.astype(np.int64), np.array([["a", "b"]]), VECTORS[:, :0]):
        with pytest.raises(InputError, match=r"wanted are float16, float32 or float64"):
            read(npy(tmp_path, NAMES, wrong))
    npy(tmp_path, [], VECTORS[:0])
    (tmp_path / "x.txt").write_bytes(b"")
    with pytest.raises(InputError, match="has no rows"):
        read(path)
    np.save(path, np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(InputError, match=r"cannot be read: .*Python objects"):
        read(path)
    np.savez(tmp_path / "y.npz", names=np.array(NAMES), x=VECTORS)
    with pytest.raises(InputError, match=r"has the arrays names, x.*; names are in 'names'"):
        read(tmp_path / "y.npz")
    assert read(tmp_path / "y.npz", "x")[0] == list(NAMES)
    np.savez(tmp_path / "z.npz", names=VECTORS, vectors=VECTORS)
    with pytest.raises(InputError, match=r"names in .* are float32 of shape \(5, 6\)"):
        read(tmp_path / "z.npz")
    assert read(npz(tmp_path, NAMES, VECTORS))[0] == list(NAMES)


def test_memory_holds_a_row_group_and_not_the_file(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((16_384, 256), dtype=np.float32)  # 16 MB
    found = table([f"{row:05d}" for row in range(len(vectors))], vectors)
    pq.write_table(found, tmp_path / "x.parquet", row_group_size=2_048, use_dictionary=False)
    del found
    before, most = pa.total_allocated_bytes(), 0
    for block in read_blocks(tmp_path / "x.parquet"):
        most = max(most, pa.total_allocated_bytes() - before)
        del block
    assert 0 < most < vectors.nbytes / 2
