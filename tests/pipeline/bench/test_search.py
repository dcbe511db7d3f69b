from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from lamella.pipeline.bench.search import FUSION, try_search
from lamella.pipeline.bench.segments import HIGH, LOW, draw_segment, open_segments, write_segment_to
from lamella.pipeline.planted.scale import ScaleSpec, draw_pictures, draw_queries
from lamella.pipeline.run.drive import Progress
from lamella.pipeline.search.exact import search_exact
from lamella.pipeline.search.segment import Answer, DenseLayer, LocalLayer, QueryBatch

SPEC = ScaleSpec(pictures=900, dimensions=64, words=3_000, words_per_picture=20)


def answer(folder: Path, cuts: list[int]) -> Answer:
    """Answer the same queries over a corpus cut in some way."""
    folders = []
    for first, stop in pairwise(cuts):
        folders.append(folder / str(first))
        folders[-1].mkdir(parents=True)
        write_segment_to(folders[-1], first, *draw_segment(SPEC, first, stop), SPEC.words, 1)
    vectors, bags, _ = draw_queries(SPEC, 12)
    return search_exact(open_segments(folders), QueryBatch({HIGH: vectors, LOW: bags}), FUSION, 20)


def test_segments_of_any_size_give_the_same_answers(tmp_path: Path) -> None:
    whole = answer(tmp_path / "one", [0, 900])
    for name, cuts in {"two": [0, 450, 900], "four": [0, 10, 11, 700, 900]}.items():
        cut = answer(tmp_path / name, cuts)
        assert cut.image_ids.tobytes() == whole.image_ids.tobytes()
        assert cut.scores.tobytes() == whole.scores.tobytes()
        assert cut.similarities.tobytes() == whole.similarities.tobytes()


def test_a_segment_on_disk_is_what_was_drawn(tmp_path: Path) -> None:
    size = write_segment_to(tmp_path, 100, *draw_segment(SPEC, 100, 300), SPEC.words, 2)
    assert size == sum(path.stat().st_size for path in tmp_path.iterdir())
    (segment,) = open_segments([tmp_path])
    vectors, bags = draw_pictures(SPEC, 100, 300)
    assert segment.image_ids.tolist() == list(range(100, 300))
    high, low = segment.layers[HIGH], segment.layers[LOW]
    assert isinstance(high, DenseLayer)
    assert isinstance(low, LocalLayer)
    np.testing.assert_array_equal(high.vectors, vectors)
    np.testing.assert_array_equal(low.bags.words, bags.words)


def test_a_trial_says_what_it_did(tmp_path: Path) -> None:
    stands: list[Progress] = []
    found = try_search(tmp_path, 700, 8, k=5, segment_images=300, on_progress=stands.append)
    assert (found.pictures, found.segments, found.queries, found.certified) == (700, 3, 8, 8)
    stored = sum(path.stat().st_size for path in tmp_path.glob("*/*"))
    assert found.bytes_per_picture == stored / 700
    # Each query decides its five best at least: 5 of 700 pairs.
    assert 5 / 700 <= found.decided <= found.looked_at <= 1
    assert [stand.stage for stand in stands].count("draw and build") == 4


def test_a_trial_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1; got 0 and 8"):
        try_search(tmp_path, 10, 8, segment_images=0)
