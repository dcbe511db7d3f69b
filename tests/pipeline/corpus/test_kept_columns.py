"""Columns that are kept beside pictures: which types they may have, and how they are read."""

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.joined import joined
from lamella.pipeline.corpus.joined_listing import list_corpus
from lamella.pipeline.corpus.kept_columns import read_kept, stored_type
from lamella.pipeline.corpus.stage import corpus_inputs, look_inputs, look_tasks
from lamella.pipeline.errors import InputError
from lamella.schemas.job import CorpusSettings
from tests.parquets import dated
from tests.tiny import tiny_pictures

PICTURES = [b"one", b"two", b"six"]
NOON = dt.datetime(2020, 5, 17, 12, tzinfo=dt.timezone(dt.timedelta(hours=2)))


def kept_of(source: Path | str, *names: str) -> Any:
    listing = list_corpus(str(source), columns=names)
    assert listing.kept is not None
    return read_kept(listing.root, listing.kind, listing.entries, listing.kept.schema)


@pytest.mark.parametrize(
    ("values", "kind", "kept"),
    [
        (pa.array([1, None, -3], pa.int16()), pa.int64(), [1, None, -3]),
        (pa.array([1, 2, 2**63 - 1], pa.uint64()), pa.int64(), [1, 2, 2**63 - 1]),
        (pa.array([0.5, None, 2.0], pa.float32()), pa.float64(), [0.5, None, 2.0]),
        (pa.array([True, None, False]), pa.bool_(), [True, None, False]),
        (pa.array(["a", "b", None], pa.large_string()), pa.string(), ["a", "b", None]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), pa.string(), ["a", "b", "a"]),
        (pa.array([18_000] * 3, pa.date32()), pa.date32(), [dt.date(2019, 4, 14)] * 3),
        (
            pa.array([NOON] * 3, pa.timestamp("ms", "+02:00")),
            pa.timestamp("us", "UTC"),
            [NOON.astimezone(dt.UTC)] * 3,
        ),
        (pa.nulls(3), pa.string(), [None] * 3),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_values_are_stored_in_few_types(tmp_path: Path, values: Any, kind: Any, kept: Any) -> None:
    path = dated(tmp_path / "p.parquet", {"image": PICTURES, "x": values})
    found = kept_of(path, "x")
    assert found.schema == pa.schema([("x", kind)])
    assert found["x"].to_pylist() == kept
    assert stored_type(kind) == kind


def test_rows_of_several_row_groups_and_files_are_in_order(tmp_path: Path) -> None:
    for number in range(2):
        table = pa.table({"image": [b"x"] * 250, "n": range(250 * number, 250 * number + 250)})
        pq.write_table(table, tmp_path / f"{number}.parquet", row_group_size=70)
    assert kept_of(tmp_path, "n")["n"].to_pylist() == list(range(500))
    listing = list_corpus(str(tmp_path), columns=["n"])
    assert listing.kept is not None
    some = [listing.entries[place] for place in (3, 69, 70, 249, 250, 499)]
    read = read_kept(listing.root, listing.kind, some, listing.kept.schema)
    assert read["n"].to_pylist() == [3, 69, 70, 249, 250, 499]


def test_a_file_without_the_column_and_a_folder_have_nulls(tmp_path: Path) -> None:
    tiny_pictures(tmp_path / "folder", 1, broken=0)
    rows = tmp_path / "rows"
    rows.mkdir()
    dated(rows / "a.parquet", {"image": PICTURES, "year": [1, 2, 3]})
    dated(rows / "b.parquet", {"image": PICTURES, "x": [1, 2, 3]})
    dated(rows / "c.parquet", {"image": PICTURES, "year": [1.0, 2.5, None]})
    source = joined({"folder": str(tmp_path / "folder"), "rows": str(rows)})
    found = kept_of(source, "year", "x")
    expected = [None, 1.0, 2.0, 3.0, None, None, None, 1.0, 2.5, None]
    assert found["year"].to_pylist() == expected
    assert found["x"].to_pylist() == [None] * 4 + [1, 2, 3] + [None] * 3
    assert str(found.schema.field("year").type) == "double"


@pytest.mark.parametrize(
    ("columns", "wanted", "message"),
    [
        ({"yaer": [1] * 3}, "year", r"no Parquet file has a column 'year'.*did you mean yaer\?"),
        ({"v": [[1.0]] * 3}, "v", r"'v' of Parquet p.parquet is list<.*text, days and times can"),
        ({"v": [{"a": 1}] * 3}, "v", "is struct<"),
        ({"v": pa.array([1, 2, 3], pa.decimal128(5, 2))}, "v", "is decimal128"),
        ({"v": PICTURES}, "v", "is binary"),
        ({"v": pa.array([1, 2, 2**63], pa.uint64())}, "v", "'v' of Parquet p.parquet does not fit"),
        ({"v": pa.array([b"\xff", b"a", b"b"]).view(pa.string())}, "v", "does not fit string"),
        ({"v": pa.array([2**62] * 3, pa.timestamp("ms"))}, "v", "does not fit timestamp"),
    ],
)
def test_what_cannot_be_kept_is_refused(
    tmp_path: Path, columns: dict[str, Any], wanted: str, message: str
) -> None:
    path = dated(tmp_path / "p.parquet", {"image": PICTURES} | columns)
    with pytest.raises(InputError, match=message):
        kept_of(path, wanted)


def test_two_types_of_one_name_are_refused_with_both_files(tmp_path: Path) -> None:
    dated(tmp_path / "a.parquet", {"image": PICTURES, "year": [1, 2, 3]})
    dated(tmp_path / "b.parquet", {"image": PICTURES, "year": ["1", "2", "3"]})
    with pytest.raises(InputError, match=r"is int64 in a.parquet and string in b.parquet: a kept"):
        list_corpus(str(tmp_path), columns=["year"])
    # A number that is not exact as float64 is no match for files with fractions.
    dated(tmp_path / "b.parquet", {"image": PICTURES, "year": [0.5, 1, 2]})
    dated(tmp_path / "a.parquet", {"image": PICTURES, "year": [2**53 + 1] * 3})
    with pytest.raises(InputError, match=r"'year' of Parquet a.parquet does not fit double"):
        kept_of(tmp_path, "year")


def test_columns_of_a_source_without_parquet_are_refused(tmp_path: Path) -> None:
    tiny_pictures(tmp_path / "folder", 1, broken=0)
    with pytest.raises(InputError, match=r"--keep-columns .* holds none: leave it out, or give"):
        list_corpus(str(tmp_path / "folder"), columns=["year"])


def test_a_file_that_lost_rows_since_is_named(tmp_path: Path) -> None:
    path = dated(tmp_path / "p.parquet", {"image": PICTURES, "n": [1, 2, 3]})
    listing = list_corpus(str(path), columns=["n"])
    assert listing.kept is not None
    dated(path, {"image": PICTURES[:2], "n": [1, 2]})
    with pytest.raises(InputError, match=r"p.parquet has 2 rows, and had more when it was listed"):
        read_kept(listing.root, listing.kind, listing.entries, listing.kept.schema)
    path.write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"Parquet p.parquet cannot be read"):
        read_kept(listing.root, listing.kind, listing.entries, listing.kept.schema)


def test_keys_change_with_columns_and_files_alone(tmp_path: Path) -> None:
    folder = tiny_pictures(tmp_path / "pictures", 3, broken=0)
    names = [f"pictures/{each.name}" for each in sorted(folder.iterdir())]
    path = dated(tmp_path / "p.parquet", {"path": names, "n": [1, 2, 3]})
    limits = DecodeLimits()

    def keys(*columns: str) -> tuple[str, list[str], str]:
        listing = list_corpus(str(path), columns=columns)
        schema = listing.kept.schema if listing.kept else None
        tasks = look_tasks(listing, 64, ())
        looked = look_inputs(listing.kind, limits, schema)
        return corpus_inputs(listing, 64, limits), [task.key for task in tasks], looked

    plain, kept = keys(), keys("n")
    assert plain[0] != kept[0]
    assert plain[2] != kept[2]
    # The pictures are files of their own, so only the time of the table tells of new values.
    dated(path, {"path": names, "n": [1, 2, 4]}, turn=1)
    assert keys() == plain
    assert keys("n")[0] != kept[0]
    assert keys("n")[1] != kept[1]
    assert keys("n")[2] == kept[2]


def test_the_setting_changes_no_digest_where_it_is_left_out() -> None:
    assert "columns" not in CorpusSettings().model_dump()
    assert CorpusSettings(columns=("year",)).model_dump()["columns"] == ("year",)
