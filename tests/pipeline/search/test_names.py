"""Names of images, many at once, and no more tables held than there is room for."""

import random
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
from lamella.pipeline.store.tables import write_parquet
from lamella.schemas.corpus import IMAGES
from lamella.schemas.files import FileRef

SIZES = (3, 0, 1, 4)
"""Images of each shard: ids 0 to 2, none, 3, and 4 to 7."""
IMAGES_IN_ALL = 8


def name_of(image_id: int) -> str:
    return f"a folder/{'é' * image_id}{image_id}.jpg"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[LocalStore, Any]:
    folder = tmp_path_factory.mktemp("names")
    shards, first = [], 0
    for number, size in enumerate(SIZES):
        known = {"container": "", "offset": 0, "detail": "", "height": 1, "sha256": bytes(32)}
        empty = dict.fromkeys(IMAGES.names) | known
        rows = [
            empty | {"name": name_of(first + row), "width": first + row + 1} for row in range(size)
        ]
        path = folder / f"{number}.parquet"
        write_parquet(pa.Table.from_pylist(rows, schema=IMAGES), path)
        file = FileRef(
            path=path.name, size_bytes=path.stat().st_size, sha256=sha256_of(path), rows=size
        )
        shards.append(SimpleNamespace(images=size, first_image_id=first, file=file))
        first += size
    return LocalStore(folder), SimpleNamespace(shards=shards, root="/pictures", kind="folder")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, IMAGES_IN_ALL - 1)), st.sampled_from([0, 300, 10**6]))
def test_names_are_those_of_the_rows_in_the_order_named(
    corpus: tuple[LocalStore, Any], image_ids: list[int], held_bytes: int
) -> None:
    table = ImageTable(*corpus, held_bytes=held_bytes)
    found = table.names_of(image_ids)
    assert found.type == pa.string()
    assert found.to_pylist() == [name_of(image_id) for image_id in image_ids]
    assert [table.row(image_id)["width"] - 1 for image_id in image_ids] == image_ids


def test_all_names_stand_in_the_order_of_ids(corpus: tuple[LocalStore, Any]) -> None:
    table = ImageTable(*corpus)
    assert list(table.names()) == [name_of(image_id) for image_id in range(IMAGES_IN_ALL)]
    assert table.ids_of({name_of(6), "other"}) == {name_of(6): 6}


@pytest.mark.parametrize("image_id", [-1, IMAGES_IN_ALL, 2**40])
def test_an_id_that_is_not_there_is_a_key_error(
    corpus: tuple[LocalStore, Any], image_id: int
) -> None:
    table = ImageTable(*corpus)
    with pytest.raises(KeyError, match=str(image_id)):
        table.row(image_id)
    with pytest.raises(KeyError, match=str(image_id)):
        table.names_of([0, image_id])


def test_each_shard_is_opened_once_for_all_names_however_little_is_held(
    corpus: tuple[LocalStore, Any],
) -> None:
    ids = list(range(IMAGES_IN_ALL)) * 5
    random.Random(0).shuffle(ids)
    for held_bytes, opened_twice in ((0, 6), (10**6, 3)):
        table = ImageTable(*corpus, held_bytes=held_bytes)
        with mock.patch.object(names, "read_committed", wraps=read_committed) as opened:
            table.names_of(ids)
            assert opened.call_count == 3  # of four shards, one has no images
            table.names_of(ids)
            assert opened.call_count == opened_twice
        assert table.held_bytes <= max(held_bytes, 400)


def test_strings_longer_than_one_column_takes_are_cut_into_parts() -> None:
    long = pa.array(["x"] * 70_000, pa.large_string())
    assert [len(part) for part in as_strings(long).chunks] == [65_536, 4_464]
    assert as_strings(long.slice(0, 0)).to_pylist() == []
