"""Names of images, many at once, and no more tables held than there is room for."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.pipeline.search import names
from lamella.pipeline.search.names import ImageTable, as_strings
from lamella.pipeline.store.commit import read_committed, sha256_of
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.tables import write_arrow, write_parquet
from lamella.schemas.corpus import IMAGES
from lamella.schemas.files import FileRef

SIZES = (3, 0, 1, 4)
"""Images of each shard: numbers 0 to 2, none, 3, and 4 to 7."""
IMAGES_IN_ALL = 8


def name_of(number: int) -> str:
    return f"a folder/{'é' * number}{number}.jpg"


def id_of(number: int) -> int:
    """Return the id of an image: neither in the order of names, nor small."""
    return (7_919 * (number + 1) * 2**40) % (2**61 - 1)


def stored(folder: Path, name: str, table: pa.Table, write: Any) -> FileRef:
    path = folder / name
    write(table, path)
    return FileRef(
        path=name, size_bytes=path.stat().st_size, sha256=sha256_of(path), rows=table.num_rows
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[LocalStore, Any]:
    """Two segments of two shards each; an image of each segment but the last is not indexed."""
    folder = tmp_path_factory.mktemp("names")
    segments, first = [], 0
    for number in range(0, len(SIZES), 2):
        shards, members = [], []
        for place, size in enumerate(SIZES[number : number + 2]):
            known = {"container": "", "offset": 0, "detail": "", "height": 1, "sha256": bytes(32)}
            empty = dict.fromkeys(IMAGES.names) | known
            rows = [
                empty
                | {"image_id": id_of(first + row), "name": name_of(first + row)}
                | {"width": first + row + 1}
                for row in range(size)
            ]
            table = pa.Table.from_pylist(rows, schema=IMAGES)
            file = stored(folder, f"{number}-{place}.parquet", table, write_parquet)
            shards.append(SimpleNamespace(images=size, file=file))
            members += [(id_of(first + row), place, row) for row in range(size)]
            first += size
        ids, places, rows_of = (pa.array(each) for each in zip(*sorted(members), strict=True))
        table = pa.table(
            {"image_id": ids, "shard": places.cast(pa.int32()), "row": rows_of.cast(pa.int32())}
        )
        images = stored(folder, f"{number}.arrow", table, write_arrow)
        segments.append(SimpleNamespace(key=str(number), files={"images": images}, shards=shards))
    return LocalStore(folder), SimpleNamespace(segments=segments, root="/pictures", kind="folder")


@pytest.fixture(autouse=True)
def _manifests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the segments of these tests know their shards themselves."""
    monkeypatch.setattr(
        names, "segment_shards", lambda store, snapshot: [s.shards for s in snapshot.segments]
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, IMAGES_IN_ALL - 1)), st.sampled_from([0, 300, 10**6]))
def test_names_are_those_of_the_rows_in_the_order_named(
    corpus: tuple[LocalStore, Any], numbers: list[int], held_bytes: int
) -> None:
    table = ImageTable(*corpus, held_bytes=held_bytes)
    found = table.names_of([id_of(number) for number in numbers])
    assert found.type == pa.string()
    assert found.to_pylist() == [name_of(number) for number in numbers]
    assert [table.row(id_of(number))["width"] - 1 for number in numbers] == numbers


def test_images_are_found_by_name(corpus: tuple[LocalStore, Any]) -> None:
    table = ImageTable(*corpus)
    assert table.ids_of({name_of(6), "other"}) == {name_of(6): id_of(6)}


def test_all_images_of_a_name_are_found(corpus: tuple[LocalStore, Any]) -> None:
    table = ImageTable(*corpus)
    assert table.all_named(name_of(6)) == ([id_of(6)], 0)
    assert table.all_named("other") == ([], 0)
    with mock.patch.object(table, "_is_indexed", return_value=False):
        assert table.all_named(name_of(6)) == ([], 1)
    every = list(table.names())
    assert every == [(name_of(number), id_of(number)) for number in range(IMAGES_IN_ALL)]


@pytest.mark.parametrize("image_id", [-1, 0, 2**40, 2**63 - 1])
def test_an_id_that_is_not_there_is_a_key_error(
    corpus: tuple[LocalStore, Any], image_id: int
) -> None:
    table = ImageTable(*corpus)
    with pytest.raises(KeyError, match=str(image_id)):
        table.row(image_id)
    with pytest.raises(KeyError, match=str(image_id)):
        table.names_of([id_of(0), image_id])


def test_each_shard_is_opened_once_for_all_names_however_little_is_held(
    corpus: tuple[LocalStore, Any],
) -> None:
    ids = [id_of(number) for number in range(IMAGES_IN_ALL)] * 5
    random.Random(0).shuffle(ids)
    for held_bytes, opened_twice in ((0, 6), (10**6, 3)):
        table = ImageTable(*corpus, held_bytes=held_bytes)
        with mock.patch.object(names, "read_committed", wraps=read_committed) as opened:
            table.names_of(ids)
            # The lists of both segments, and of four shards those with images.
            assert opened.call_count == 2 + 3
            table.names_of(ids)
            assert opened.call_count == 2 + opened_twice
        assert table.held_bytes <= max(held_bytes, 400)


def test_strings_longer_than_one_column_takes_are_cut_into_parts() -> None:
    long = pa.array(["x"] * 70_000, pa.large_string())
    assert [len(part) for part in as_strings(long).chunks] == [65_536, 4_464]
    assert as_strings(long.slice(0, 0)).to_pylist() == []
