"""The descriptors nearest to a word: a plane of two words, and slow search over many."""

import numpy as np

from lamella.pipeline.diagnostics.nearest import nearest_in_each_picture
from lamella.pipeline.vocabulary.assign import ExactAssigner
from lamella.pipeline.vocabulary.sample import Sample
from tests.pipeline.vocabulary.vectors import clustered


def at(y: int, x: int) -> int:
    return y << 16 | x


def sample(*rows: tuple[int, int, float, float]) -> Sample:
    """Return descriptors in a plane: image id, position, and the two coordinates."""
    ids, positions, one, two = zip(*rows, strict=True)
    return Sample(
        np.array(ids, np.int64),
        np.array(positions, np.int64),
        np.array([one, two], np.float16).T.copy(),
    )


WORDS = ExactAssigner(np.array([[0, 0], [10, 0]], np.float32))


def test_at_most_one_of_a_picture_and_the_nearest_first() -> None:
    rows = sample(
        (7, at(0, 0), 3, 0),  # squared distance 9 to word 0
        (7, at(2, 5), 1, 0),  # 1: the one of picture 7
        (4, at(3, 1), 2, 0),  # 4
        (5, at(1, 1), 6, 0),  # 36, but word 1 is nearer: 16
    )
    nearest, _ = nearest_in_each_picture([rows], WORDS, [0], 8)
    assert [(e.image_id, e.y, e.x, e.squared_distance) for e in nearest[0]] == [
        (7, 2, 5, 1.0),
        (4, 3, 1, 4.0),
    ]
    assert list(nearest) == [0]


def test_among_equals_the_lower_picture_and_place_go_first() -> None:
    rows = [sample((9, at(0, 1), 1, 0), (9, at(0, 0), 1, 0)), sample((2, at(0, 3), 1, 0))]
    nearest, _ = nearest_in_each_picture(rows, WORDS, [0, 1], 8)
    assert [(e.image_id, e.x) for e in nearest[0]] == [(2, 3), (9, 0)]
    assert nearest[1] == []


def test_the_last_line_is_that_of_the_shorter_edge() -> None:
    # picture 1 is wide (15 lines of 21), picture 2 high; a picture with few rows says less
    rows = sample((1, at(14, 3), 1, 0), (1, at(2, 20), 1, 0), (2, at(30, 12), 1, 0))
    assert nearest_in_each_picture([rows], WORDS, [0], 1)[1] == 14
    assert nearest_in_each_picture([], WORDS, [0], 1) == ({0: []}, 0)


def test_many_are_as_a_slow_search_finds_them() -> None:
    vectors = clustered(600, 8, 12, seed=5).astype(np.float16)
    ids, positions = np.arange(600) // 6, np.arange(600) % 6
    assigner = ExactAssigner(clustered(20, 8, 12, seed=6))
    parts = [
        Sample(ids[part], positions[part], vectors[part])
        for part in (slice(0, 250), slice(250, 600))
    ]
    nearest, _ = nearest_in_each_picture(parts, assigner, range(20), 4)
    found = assigner.assign(vectors.astype(np.float32))
    for word in range(20):
        best: dict[int, float] = {}
        for row in np.flatnonzero(found.words == word):
            distance = float(found.squared_distances[row])
            best[int(ids[row])] = min(distance, best.get(int(ids[row]), np.inf))
        slow = sorted((distance, image) for image, distance in best.items())[:4]
        assert [(e.squared_distance, e.image_id) for e in nearest[word]] == slow
