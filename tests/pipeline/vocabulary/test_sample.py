"""The training sample: an equal cap an image, others held out, and damage named by its row."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from lamella.pipeline.errors import InputError
from lamella.pipeline.run.step import StoreStep
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import attempt, open_committed
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.store.tables import binary_vectors_column, write_parquet
from lamella.pipeline.vocabulary.batches import row_uniforms
from lamella.pipeline.vocabulary.partial import LONGEST_TRAINED
from lamella.pipeline.vocabulary.sample import (
    HELD_PART,
    HELD_PER_IMAGE,
    SAMPLE_SEED,
    Sample,
    SampleTask,
    SampleWork,
    cap_of,
    draw_sample,
    join_samples,
    read_sample,
    write_sample,
)
from lamella.schemas.activations import local_schema
from lamella.schemas.vocabulary import VocabularySpec
from tests.pipeline.vocabulary.vectors import clustered, sample_of

Halves = NDArray[np.float16]
SIZES = {7: 200, 3: 15, 12: 16, 5: 1, 9: 90, 4: 33}
"""Descriptors of each image, in the order of the file, which is not that of the ids."""

IMAGE_IDS = np.repeat(list(SIZES), list(SIZES.values()))
PLACES = np.concatenate([np.arange(size) for size in SIZES.values()])
VECTORS = clustered(len(IMAGE_IDS), 8, 30).astype(np.float16)


def write_descriptors(path: Path, vectors: Halves = VECTORS, row_group: int = 1_000) -> int:
    """Write descriptors of the images, 20 to a line of the map."""
    columns = [
        pa.array(IMAGE_IDS[: len(vectors)]),
        pa.array((PLACES[: len(vectors)] // 20).astype(np.uint16)),
        pa.array((PLACES[: len(vectors)] % 20).astype(np.uint16)),
        binary_vectors_column(vectors),
    ]
    table = pa.table(columns, schema=local_schema(vectors.shape[1]))
    return write_parquet(table, path, row_group=row_group)


def names(sample: Sample) -> list[tuple[int, int]]:
    """Return image id and position of each row."""
    return list(zip(sample.image_ids.tolist(), sample.positions.tolist(), strict=True))


@pytest.mark.parametrize("cap", [1, 10, 31, 1_000])
@pytest.mark.parametrize("seed", [0, 9])
def test_each_image_gives_its_least_rows_and_a_few_that_follow(
    cap: int, seed: int, tmp_path: Path
) -> None:
    write_descriptors(tmp_path / "file")
    sample, held = draw_sample(tmp_path / "file", cap, seed)
    positions = (PLACES // 20) << 16 | PLACES % 20
    uniforms = row_uniforms(seed + SAMPLE_SEED, IMAGE_IDS, positions)
    trained: list[int] = []
    apart: list[int] = []
    for image, size in SIZES.items():
        rows = sorted(np.flatnonzero(image == IMAGE_IDS).tolist(), key=uniforms.__getitem__)
        most = min(cap, size - size // HELD_PART)
        trained += rows[:most]
        apart += rows[most : most + HELD_PER_IMAGE]
    for part, rows in ((sample, sorted(trained)), (held, sorted(apart))):  # in order of the file
        np.testing.assert_array_equal(part.image_ids, IMAGE_IDS[rows])
        np.testing.assert_array_equal(part.positions, positions[rows])
        np.testing.assert_array_equal(part.vectors, VECTORS[rows])


@pytest.mark.parametrize("cap", [1, 10, 31, 1_000])
def test_no_row_is_trained_on_and_held_out(cap: int, tmp_path: Path) -> None:
    write_descriptors(tmp_path / "file")
    sample, held = draw_sample(tmp_path / "file", cap, 0)
    assert not set(names(sample)) & set(names(held))
    assert len(set(names(sample) + names(held))) == len(sample) + len(held)
    for image, size in SIZES.items():
        trained = np.count_nonzero(sample.image_ids == image)
        assert 1 <= trained <= cap
        assert np.count_nonzero(held.image_ids == image) <= HELD_PER_IMAGE
        if size <= cap:  # one in sixteen of all it has: 200 / 16 = 12 and 90 / 16 = 5 are past 4
            assert trained == size - size // HELD_PART


def test_a_sample_does_not_depend_on_the_row_groups(tmp_path: Path) -> None:
    write_descriptors(tmp_path / "whole")
    write_descriptors(tmp_path / "image", VECTORS[:200], row_group=200)
    whole, _ = draw_sample(tmp_path / "whole", 20, 3)
    image, _ = draw_sample(tmp_path / "image", 20, 3)
    assert names(image) == [name for name in names(whole) if name[0] == 7]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 199, 200, 354])
def test_a_number_that_is_none_is_named_with_its_row(bad: float, row: int, tmp_path: Path) -> None:
    vectors = VECTORS.copy()
    vectors[row, 3] = bad
    write_descriptors(tmp_path / "file", vectors, row_group=200)
    with pytest.raises(ValueError, match=rf"^row {row} holds a number that is not finite"):
        draw_sample(tmp_path / "file", 5, 0)


def test_a_descriptor_is_as_long_as_its_error_can_be_added(tmp_path: Path) -> None:
    vectors = VECTORS.copy()
    vectors[17] = 0
    vectors[17, 3] = LONGEST_TRAINED
    write_descriptors(tmp_path / "file", vectors)
    draw_sample(tmp_path / "file", 5, 0)
    vectors[17, 0] = 0.01
    write_descriptors(tmp_path / "file", vectors)
    with pytest.raises(ValueError, match=r"^row 17 .* longer than 4096"):
        draw_sample(tmp_path / "file", 5, 0)


def test_a_limit_for_all_lowers_the_cap_of_each() -> None:
    spec = VocabularySpec(descriptors_per_image=200, descriptors=10_000)
    # 10,000 / 50 = 200;  10,000 / 51 = 196.1;  10,000 / 3,000 = 3.3;  never below 1
    assert [cap_of(spec, images) for images in (0, 1, 50, 51, 3_000, 10**9)] == [
        200, 200, 200, 196, 3, 1,
    ]  # fmt: skip
    assert cap_of(VocabularySpec(), 20_000) == 200  # 4,000,000 by default
    assert cap_of(VocabularySpec(), 1_000_000) == 4


def test_a_sample_reads_back(tmp_path: Path) -> None:
    for rows in (0, 1, 120):
        sample = sample_of(clustered(200, 8, 9)).rows(slice(0, rows))
        assert write_sample(sample, tmp_path / f"{rows}") == rows
        again = read_sample(tmp_path / f"{rows}")
        for field in ("image_ids", "positions", "vectors"):
            np.testing.assert_array_equal(getattr(again, field), getattr(sample, field))
            assert getattr(again, field).dtype == getattr(sample, field).dtype
        np.testing.assert_array_equal(again.bits, sample.bits)


def test_rows_are_given_as_float32_and_joined_again() -> None:
    sample = sample_of(clustered(200, 8, 9))
    wide = sample.vectors.astype(np.float32)
    np.testing.assert_array_equal(sample.descriptors(), wide)
    np.testing.assert_array_equal(sample.descriptors(np.array([5, 5, 2])), wide[[5, 5, 2]])
    np.testing.assert_array_equal(sample.rows(slice(0, 200, 3)).descriptors(), wide[::3])
    parts = [sample.rows(slice(0, 90)), sample.rows(slice(90, 90)), sample.rows(slice(90, 200))]
    joined = join_samples(parts)
    assert names(joined) == names(sample)
    np.testing.assert_array_equal(joined.vectors, sample.vectors)
    assert join_samples([sample]) is sample


def test_what_does_not_fit_is_refused() -> None:
    ids = np.arange(3)
    with pytest.raises(ValueError, match="3 and 2 for 3"):
        Sample(ids, ids[:2], VECTORS[:3])
    with pytest.raises(ValueError, match="float16; got float32"):
        Sample(ids, ids, VECTORS[:3].astype(np.float32))


def test_the_stage_writes_both_parts_and_names_a_damaged_file(tmp_path: Path) -> None:
    store, damaged = open_store(str(tmp_path), create=True), VECTORS.copy()
    damaged[17, 0] = np.nan
    with attempt(store, "activations", "extract", "00000", "x") as work:
        good = work.write("y", "activations", "parquet", write_descriptors)
    with attempt(store, "activations", "extract", "00001", "x") as work:
        bad = work.write("y", "activations", "parquet", lambda at: write_descriptors(at, damaged))
    drawing = SampleWork(cap=20, seed=3)
    draw = StoreStep(tree.SAMPLE, store.url, "samples", "y", drawing).open()
    done = draw(SampleTask("00000", good))
    expected = draw_sample(open_committed(store, good), 20, 3)
    for name, sample in zip(("sample", "held"), expected, strict=True):
        assert names(read_sample(open_committed(store, done.files[name]))) == names(sample)
    assert done.counts == {"descriptors": len(expected[0]), "held": len(expected[1])}
    with pytest.raises(InputError, match=rf"^{bad.path}: row 17 holds"):
        draw(SampleTask("00001", bad))
