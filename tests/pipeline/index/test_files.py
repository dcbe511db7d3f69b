from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lamella.pipeline.index.bags import BagsOfWords, bags_from_words
from lamella.pipeline.index.files import (
    read_bags,
    read_dense,
    read_postings,
    write_bags,
    write_dense,
    write_postings,
)
from lamella.pipeline.index.postings import invert

WORDS = [[7, 2, 7], [], [2, 3], []]


def bags(images: list[list[int]]) -> BagsOfWords:
    offsets = np.cumsum([0, *(len(image) for image in images)], dtype=np.int64)
    return bags_from_words(offsets, np.array([w for image in images for w in image], np.uint32))


def equal(one: object, other: object, *names: str) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in names]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("images", [WORDS, [[]], []])
def test_bags_and_postings_come_back(tmp_path: Path, images: list[list[int]]) -> None:
    kept, ids = bags(images), np.arange(len(images), dtype=np.int64) * 3 + 5
    assert write_bags(ids, kept, tmp_path / "bags") == len(images)
    found_ids, found = read_bags(tmp_path / "bags")
    assert found_ids.tolist() == ids.tolist()
    assert equal(found, kept, "offsets", "words", "counts")
    postings = invert(kept, 9)
    assert write_postings(postings, tmp_path / "postings") == 9
    assert equal(read_postings(tmp_path / "postings"), postings, "offsets", "rows", "counts")


@pytest.mark.parametrize("count", [0, 1, 300])
def test_dense_vectors_come_back(tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    vectors, norms = rng.random((count, 5), np.float32), rng.random(count)
    ids = np.arange(count, dtype=np.int64)
    assert write_dense(ids, vectors, norms, tmp_path / "dense") == count
    found: tuple[NDArray[Any], ...] = read_dense(tmp_path / "dense")
    given: tuple[NDArray[Any], ...] = (ids, vectors, norms)
    for mine, kept in zip(found, given, strict=True):
        assert mine.dtype == kept.dtype
        np.testing.assert_array_equal(mine, kept)


def test_equal_bags_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_bags(np.arange(4), bags(WORDS), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
