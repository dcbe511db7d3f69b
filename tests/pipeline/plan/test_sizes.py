"""The bytes that are reckoned are those of the files that are written."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lamella.pipeline.index.bags import BagsOfWords, bags_from_words
from lamella.pipeline.index.files import write_bags
from lamella.pipeline.index.segment_files import members_of, segment_files
from lamella.pipeline.plan.sizes import ARROW, bags_bytes, global_bytes, local_bytes
from lamella.pipeline.plan.vocabulary_cost import words_among

IMAGES, WORDS, DIMENSIONS = 400, 1_000, 96


def test_the_files_of_a_segment_have_the_bytes_that_were_reckoned(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(IMAGES, DIMENSIONS)).astype(np.float32)
    offsets = np.arange(IMAGES + 1, dtype=np.int64) * 50
    bags = bags_from_words(offsets, rng.integers(0, WORDS, 50 * IMAGES).astype(np.uint32))
    image_ids = np.arange(IMAGES, dtype=np.int64)
    sizes = {}
    layers: dict[str, NDArray[np.float32] | BagsOfWords] = {"head": vectors, "b11": bags}
    for file in segment_files(members_of(image_ids), layers, {"b11": WORDS}):
        file.write(tmp_path / file.name)
        sizes[file.name] = (tmp_path / file.name).stat().st_size
    for kind, size in global_bytes(IMAGES, DIMENSIONS, 1).items():
        assert sizes[f"head.{kind}"] == pytest.approx(size, abs=2 * ARROW, rel=0.01), kind
    told = local_bytes(IMAGES, WORDS, 1)
    for kind in ("bags", "postings"):
        fixed, an_entry = told[kind]
        size = fixed + an_entry * len(bags.words)
        assert sizes[f"b11.{kind}"] == pytest.approx(size, abs=2 * ARROW, rel=0.01), kind
    write_bags(image_ids, bags, tmp_path / "bags")
    reckoned = bags_bytes(IMAGES, len(bags.words))
    assert (tmp_path / "bags").stat().st_size == pytest.approx(reckoned, abs=2 * ARROW, rel=0.01)


def test_more_words_are_hit_where_there_are_more_up_to_one_a_descriptor() -> None:
    # 100 descriptors that fall among 50 words hit 50 (1 - exp(-2)) = 43.2 of them;
    # among 100 words, 100 (1 - exp(-1)) = 63.2
    seen = 50 * (1 - np.exp(-2))
    assert words_among(100, seen, 1) == pytest.approx(seen)
    assert words_among(100, seen, 2) == pytest.approx(100 * (1 - np.exp(-1)))
    assert words_among(100, seen, 1e9) == pytest.approx(100)
    assert words_among(100, 100, 4) == 100
    assert words_among(0, 0, 4) == 0
