from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lamella.pipeline.store import tables
from lamella.pipeline.store.tables import (
    binary_vectors_column,
    binary_vectors_of,
    column,
    lists_of_type,
    map_arrow,
    of,
    read_parquet,
    vectors_column,
    vectors_of,
    vectors_of_type,
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

FORM = {
    "id": of(pa.int64()),
    "vector": of(pa.binary(4 * 7)),
    "list": vectors_of_type(pa.float32()),
}


@pytest.mark.parametrize("rows", [0, 1, 1_000])
def test_tables_come_back_as_they_went(tmp_path: Path, rows: int) -> None:
    table = TABLE.slice(0, rows)
    assert write_parquet(table, tmp_path / "p", row_group=300) == rows
    assert write_arrow(table, tmp_path / "a") == rows
    for found in (read_parquet(tmp_path / "p"), map_arrow(tmp_path / "a", FORM)):
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
    found = map_arrow(tmp_path / "a", FORM)
    assert pa.total_allocated_bytes() <= before  # less, where garbage of other tests went
    with pytest.raises(ValueError, match="read-only"):
        column(found, "id")[0] = 1


def test_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    write_parquet(TABLE, tmp_path / "p")
    assert read_parquet(tmp_path / "p", ["id"]).column_names == ["id"]


def lying(path: Path, old: bytes, new: bytes) -> None:
    """Change a number in a file's headers, wherever it stands there."""
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


def test_an_arrow_file_that_claims_more_rows_than_it_holds_is_refused(tmp_path: Path) -> None:
    # Read without a look, rows behind the end of the mapped file end the process (SIGBUS).
    path = tmp_path / "a"
    write_arrow(pa.table({"id": np.arange(1_000), "other": np.arange(1_000)}), path)
    lying(path, (1_000).to_bytes(8, "little"), (1_000_000).to_bytes(8, "little"))
    with pytest.raises((ValueError, pa.ArrowException)):
        map_arrow(path, {"id": of(pa.int64()), "other": of(pa.int64())})


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_a_compressed_arrow_file_is_refused_before_it_is_unpacked(
    codec: str, tmp_path: Path
) -> None:
    path, table = tmp_path / "a", pa.table({"id": np.zeros(10_000_000, np.int64)})
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.OSFile(str(path), "wb") as sink:
        writer = pa.ipc.new_file(sink, table.schema, options=options)
        writer.write_table(table)
        writer.close()
    before = pa.total_allocated_bytes()
    with pytest.raises(ValueError, match="more than one plain record batch"):
        map_arrow(path, {"id": of(pa.int64())})
    assert pa.total_allocated_bytes() <= before


def test_an_arrow_file_of_several_batches_or_with_nulls_is_refused(tmp_path: Path) -> None:
    form = {"id": of(pa.int64())}
    table = pa.table({"id": [1, None, 3]})
    write_arrow(table, tmp_path / "null")
    with pytest.raises(ValueError, match="a value is null"):
        map_arrow(tmp_path / "null", form)
    batches = pa.table({"id": [1, 2, 3]}).to_batches(max_chunksize=2)
    with pa.OSFile(str(tmp_path / "two"), "wb") as sink:
        writer = pa.ipc.new_file(sink, table.schema)
        for batch in batches:
            writer.write_batch(batch)
        writer.close()
    with pytest.raises(ValueError, match="more than one plain record batch"):
        map_arrow(tmp_path / "two", form)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pa.table({"id": [1.0]}), "id double"),
        (pa.table({"ids": [1]}), "ids int64"),
        (pa.table({"id": [1], "more": [1]}), "id int64, more int64"),
        (pa.table({}), "none"),
    ],
)
def test_a_table_of_other_columns_is_refused_and_they_are_named(
    table: Any, said: str, tmp_path: Path
) -> None:
    write_arrow(table, tmp_path / "a")
    with pytest.raises(ValueError, match=f"its columns are {said}$"):
        map_arrow(tmp_path / "a", {"id": of(pa.int64())})
    write_parquet(table, tmp_path / "p")
    with pytest.raises(ValueError, match=f"its columns are {said}$"):
        read_parquet(tmp_path / "p", schema=pa.schema([pa.field("id", pa.int64())]))


def test_a_parquet_file_that_says_it_is_larger_than_memory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(TABLE, tmp_path / "p")
    monkeypatch.setattr(tables, "LARGE_BYTES", 1_000)
    monkeypatch.setattr(tables, "available_memory", lambda: 1_000)
    with pytest.raises(ValueError, match=r"says that it holds [0-9,]+ bytes, more than there is"):
        read_parquet(tmp_path / "p")


def test_lists_and_vectors_of_other_numbers_are_told_apart() -> None:
    lists = pa.large_list(pa.uint32())
    assert lists_of_type(pa.uint8(), pa.uint32())(lists)
    assert not lists_of_type(pa.uint8())(lists)
    assert not lists_of_type(pa.uint32())(pa.list_(pa.uint32()))
    assert vectors_of_type(pa.float32())(pa.list_(pa.float32(), 3))
    assert not vectors_of_type(pa.float32())(pa.list_(pa.float32(), 0))
    assert not vectors_of_type(pa.float32())(pa.list_(pa.float64(), 3))
