from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.store.tables import (
    binary_vectors_column,
    binary_vectors_of,
    column,
    map_arrow,
    read_parquet,
    vectors_column,
    vectors_of,
    write_arrow,
    write_parquet,
)

RNG = np.random.default_rng(5)
VECTORS = RNG.standard_normal((1_000, 7)).astype(np.float32)
TABLE = pa.table(
    {
        "id": np.arange(1_000),
        "vector": binary_vectors_column(VECTORS),
        "list": vectors_column(VECTORS),
    }
)


@pytest.mark.parametrize("rows", [0, 1, 1_000])
def test_tables_come_back_as_they_went(tmp_path: Path, rows: int) -> None:
    table = TABLE.slice(0, rows)
    assert write_parquet(table, tmp_path / "p", row_group=300) == rows
    assert write_arrow(table, tmp_path / "a") == rows
    for found in (read_parquet(tmp_path / "p"), map_arrow(tmp_path / "a")):
        assert column(found, "id").tolist() == list(range(rows))
        np.testing.assert_array_equal(
            binary_vectors_of(found, "vector", np.float32), VECTORS[:rows]
        )
        np.testing.assert_array_equal(vectors_of(found, "list"), VECTORS[:rows])


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    cut = pa.concat_tables([TABLE.slice(0, 311), TABLE.slice(311)])
    for write in (write_parquet, write_arrow):
        write(TABLE, tmp_path / "whole")
        write(cut, tmp_path / "cut")
        assert (tmp_path / "whole").read_bytes() == (tmp_path / "cut").read_bytes()


@given(
    arrays(np.float16, st.tuples(st.integers(0, 9), st.integers(1, 5)), elements=st.integers(0, 9)),
    st.integers(0, 9),
)
def test_vectors_survive_being_cut_into_chunks(vectors: np.ndarray, cut: int) -> None:
    binary, lists = binary_vectors_column(vectors), vectors_column(vectors)
    table = pa.table({"binary": binary, "list": lists})
    parts = pa.concat_tables([table.slice(0, cut), table.slice(cut)])
    np.testing.assert_array_equal(binary_vectors_of(parts, "binary", np.float16), vectors)
    np.testing.assert_array_equal(vectors_of(parts, "list"), vectors)


def test_a_flipped_byte_in_a_parquet_page_is_noticed(tmp_path: Path) -> None:
    # Numbers that do not compress, so the codec has no redundancy to notice anything by.
    path = tmp_path / "p"
    write_parquet(pa.table({"x": RNG.integers(0, 1 << 62, 4_000)}), path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    pq.read_table(path)  # without the checksums nobody would know
    with pytest.raises(OSError, match="CRC"):
        read_parquet(path)


def test_an_arrow_file_is_mapped_and_not_read(tmp_path: Path) -> None:
    write_arrow(TABLE, tmp_path / "a")
    before = pa.total_allocated_bytes()
    found = map_arrow(tmp_path / "a")
    assert pa.total_allocated_bytes() <= before  # less, where garbage of other tests went
    with pytest.raises(ValueError, match="read-only"):
        column(found, "id")[0] = 1


def test_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    write_parquet(TABLE, tmp_path / "p")
    assert read_parquet(tmp_path / "p", ["id"]).column_names == ["id"]
