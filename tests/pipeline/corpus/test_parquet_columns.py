"""Parquet as others write it: names and types of columns, partitions, and what the messages say."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lamella.pipeline.corpus.parquet_columns import column_of, parquet_kind
from lamella.pipeline.corpus.passed_over import UNDERLINED
from lamella.pipeline.corpus.reader import EntryReader
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.errors import InputError
from lamella.schemas.job import CorpusSettings, JobConfig

PICTURES = [b"one", b"two", b"six"]


def read(source: Path, column: str | None = None) -> dict[str, bytes]:
    listing = list_source(str(source), column)
    with EntryReader(listing.root, kind=listing.kind) as reader:
        return {entry.name: reader.read(entry) for entry in listing.entries}


def write(path: Path, columns: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    "kind",
    [
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
        pa.binary(3),
        pa.dictionary(pa.int32(), pa.binary()),
    ],
    ids=str,
)
@pytest.mark.parametrize("inside", [False, True])
def test_bytes_of_every_layout_are_read(tmp_path: Path, kind: pa.DataType, inside: bool) -> None:
    values = (
        pa.array(PICTURES, pa.binary()).cast(kind)
        if "dict" not in str(kind)
        else (pa.array(PICTURES, pa.binary()).dictionary_encode())
    )
    if inside and "dict" in str(kind):
        pytest.skip("Parquet has no dictionaries in structs")
    column = pa.StructArray.from_arrays([values], ["bytes"]) if inside else values
    path = write(tmp_path / "p.parquet", {"image": column})
    assert list(read(path).values()) == PICTURES


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int32(), pa.string()),
    ],
    ids=str,
)
def test_paths_and_names_of_every_layout_are_read(tmp_path: Path, kind: pa.DataType) -> None:
    for name, data in zip(("a.jpg", "b.jpg", "c.jpg"), PICTURES, strict=True):
        (tmp_path / name).write_bytes(data)
    texts = pa.array(["a.jpg", "b.jpg", "c.jpg"])
    texts = texts.dictionary_encode() if "dict" in str(kind) else texts.cast(kind)
    path = write(tmp_path / "paths.parquet", {"path": texts})
    assert read(path) == dict(zip(("a.jpg", "b.jpg", "c.jpg"), PICTURES, strict=True))
    path = write(tmp_path / "named.parquet", {"image": PICTURES, "name": texts})
    assert list(read(path)) == ["a.jpg", "b.jpg", "c.jpg"]


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        (
            {"jpg": PICTURES, "key": ["0", "1", "2"], "url": ["https://x/a.jpg"] * 3},
            ["0", "1", "2"],
        ),
        (
            {"path": ["file:/a/x.jpg", "file:/a/y.jpg", "file:/z"], "content": PICTURES},
            ["file:/a/x.jpg", "file:/a/y.jpg", "file:/z"],
        ),
        ({"img": [{"bytes": each, "path": None} for each in PICTURES], "label": [0, 1, 2]}, None),
        ({"img": [{"bytes": each} for each in PICTURES]}, None),
        ({"image": ["a caption", "b", "c"], "jpg": PICTURES}, ["a caption", "b", "c"]),
        ({"png": PICTURES, "caption": ["x"] * 3}, None),
    ],
)
def test_the_columns_of_the_usual_writers_are_found(
    tmp_path: Path, columns: dict[str, Any], names: list[str] | None
) -> None:
    found = read(write(tmp_path / "p.parquet", columns))
    assert list(found.values()) == PICTURES
    assert list(found) == names if names else "p.parquet#0" in found


def test_a_column_of_any_name_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "p.parquet", {"image": [b"no"] * 3, "my scan": PICTURES})
    assert list(read(path, "my scan").values()) == PICTURES
    assert list(read(path).values()) == [b"no"] * 3
    kinds = [list_source(str(path), column).kind for column in (None, "my scan")]
    assert kinds == ["parquet", "parquet:my scan"]
    assert [column_of(kind) for kind in [*kinds, "folder"]] == [None, "my scan", None]
    assert parquet_kind("x") == "parquet:x"
    digests = {list_source(str(path), column).digest() for column in (None, "image", "my scan")}
    assert len(digests) == 3


def test_the_setting_of_the_column_changes_no_digest_where_it_is_left_out() -> None:
    assert "column" not in JobConfig().model_dump()["corpus"]
    assert CorpusSettings(column="jpg").model_dump()["column"] == "jpg"
    assert JobConfig.model_validate(JobConfig().model_dump()) == JobConfig()


def test_messages_name_columns_with_types_and_what_is_near(tmp_path: Path) -> None:
    path = write(tmp_path / "p.parquet", {"imge": PICTURES, "label": [0, 1, 2]})
    with pytest.raises(InputError, match=r"imge \(binary\), label \(int64\).*--column imge"):
        list_source(str(path))
    with pytest.raises(InputError, match=r"no column Imge: did you mean imge\? it has imge \(bin"):
        list_source(str(path), "Imge")
    with pytest.raises(InputError, match="no column zzz: it has imge"):
        list_source(str(path), "zzz")
    with pytest.raises(InputError, match="label holds neither text nor binary"):
        list_source(str(path), "label")
    many = write(tmp_path / "many.parquet", {f"f{number}": [number] for number in range(300)})
    with pytest.raises(InputError, match=r"f9 \(int64\) and 290 more;"):
        list_source(str(many))
    lists = write(tmp_path / "l.parquet", {"image": pa.array([[1, 2]], pa.list_(pa.uint8()))})
    with pytest.raises(InputError, match=r"image is the nearest, and is list<.*write it as binary"):
        list_source(str(lists))


def test_a_column_is_refused_where_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "list.txt").write_text("a.jpg\n")
    for source in (tmp_path, tmp_path / "a.jpg", tmp_path / "list.txt"):
        with pytest.raises(
            InputError, match=r"--column.* is one of Parquet files; .* is read as a"
        ):
            list_source(str(source), "jpg")


def test_hive_partitions_are_one_data_set_without_what_spark_leaves(tmp_path: Path) -> None:
    for label in ("label=cat", "_label=dog"):
        write(tmp_path / label / "part-0.parquet", {"image": PICTURES})
        (tmp_path / label / "_SUCCESS").touch()
    write(tmp_path / "_temporary/0/part-0.parquet", {"image": [b"half"]})
    write(tmp_path / "_delta_log/0.checkpoint.parquet", {"add": ["x"]})
    (tmp_path / "_delta_log/0.json").touch()
    (tmp_path / "label=cat/.part-0.parquet.crc").touch()
    listing = list_source(str(tmp_path))
    assert listing.kind == "parquet"
    assert {entry.container for entry in listing.entries} == {
        "_label=dog/part-0.parquet",
        "label=cat/part-0.parquet",
    }
    assert listing.passed_over[UNDERLINED] == 2
    alone = write(tmp_path / "_alone/_a.parquet", {"image": PICTURES})
    assert len(list_source(str(alone.parent)).entries) == 3
