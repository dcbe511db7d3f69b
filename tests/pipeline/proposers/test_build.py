"""Proposers of a segment: the same bytes always, and what they find against all products."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lamella.pipeline.arrays import Float32s, UInt8s
from lamella.pipeline.index.sketch import unit_rows
from lamella.pipeline.proposers.build import build_proposer, bytes_of_image
from lamella.pipeline.proposers.frame import Frame, fit_frame
from lamella.pipeline.proposers.opened import FaissProposer
from lamella.pipeline.search.score import dense_norms
from lamella.schemas.query import ProposerKind
from tests.pipeline.proposers.stored import nearest, nearest_of

faiss = pytest.importorskip("faiss")

COUNT, DIMENSIONS, CELLS = 3_000, 32, 40


def units_of(count: int, seed: int) -> Float32s:
    """Unit vectors around a hundred points, row 5 of zeros."""
    rng = np.random.default_rng(seed)
    points = np.random.default_rng(0).standard_normal((100, DIMENSIONS))
    moved = points[rng.integers(0, 100, count)] + 0.5 * rng.standard_normal((count, DIMENSIONS))
    rows: Float32s = moved.astype(np.float32)
    rows[5] = 0.0
    return unit_rows(rows, dense_norms(rows))


def frame_of(units: Float32s, cells: int) -> Frame:
    ids = np.arange(len(units), dtype=np.int64)
    return fit_frame(lambda share: [(ids, units, dense_norms(units))], len(units), cells)[0]


def built(kind: ProposerKind, frame: Frame, units: Float32s) -> UInt8s:
    return build_proposer(kind, frame, units, dense_norms(units))


def proposer_of(kind: ProposerKind, units: Float32s) -> FaissProposer:
    frame = frame_of(units, CELLS if kind == "ivf" else 0)
    index = faiss.deserialize_index(built(kind, frame, units))
    return FaissProposer("a file", frame, index, len(units))


UNITS, QUERIES = units_of(COUNT, 1), units_of(50, 2)


@pytest.fixture(scope="module", params=["ivf", "hnsw"])
def proposer(request: pytest.FixtureRequest) -> FaissProposer:
    return proposer_of(request.param, UNITS)


def test_all_cells_and_long_lists_find_what_all_products_find(proposer: FaissProposer) -> None:
    found = nearest(proposer, QUERIES, 10, 400)
    wanted = np.argsort(-(QUERIES @ UNITS.T), axis=1)[:, :10]
    asked = [query for query in range(50) if query != 5]  # zeros are as near to all
    hits = [len(set(found.rows[q].tolist()) & set(wanted[q].tolist())) for q in asked]
    assert np.mean(hits) > 9.5
    assert (np.diff(found.scores, axis=1) <= 0).all()
    # A byte a number: an axis' range over 255, a half of it off at most, on 32 axes.
    exact = np.take_along_axis(QUERIES @ UNITS.T, found.rows, axis=1)
    np.testing.assert_allclose(found.scores, exact, atol=0.02)


def test_a_vector_of_zeros_is_there_and_as_near_as_nothing(proposer: FaissProposer) -> None:
    only = np.zeros(COUNT, np.bool_)
    only[5] = True
    found = nearest(proposer, QUERIES[:1], 3, 3_000, only)
    assert found.rows.tolist() == [[5, -1, -1]]
    assert abs(found.scores[0, 0]) < 0.02
    assert found.scores[0, 1] == -np.inf


def test_only_what_is_allowed_is_found(proposer: FaissProposer) -> None:
    allowed = np.arange(COUNT) % 3 == 1
    found = nearest(proposer, QUERIES, 20, 400, allowed)
    assert (found.rows % 3 == 1).all()
    assert (nearest(proposer, QUERIES, 20, 400, np.zeros(COUNT, np.bool_)).rows == -1).all()


def test_queries_one_by_one_and_all_at_once_find_the_same(proposer: FaissProposer) -> None:
    together = nearest(proposer, QUERIES, 10, 3)
    for query in range(len(QUERIES)):
        alone = nearest(proposer, QUERIES[query : query + 1], 10, 3)
        np.testing.assert_array_equal(alone.rows[0], together.rows[query])
        np.testing.assert_array_equal(alone.scores[0], together.scores[query])


def test_cells_are_found_once_for_segments_with_one_frame() -> None:
    whole = proposer_of("ivf", UNITS)
    parts = [slice(0, 1_000), slice(1_000, COUNT)]
    asked = whole.ask(QUERIES, 4)
    wanted = nearest_of(whole, asked, COUNT)
    held: list[set[int]] = [set() for _ in QUERIES]
    for part in parts:
        index = faiss.deserialize_index(built("ivf", whole.frame, UNITS[part]))
        segment = FaissProposer("a file", whole.frame, index, len(UNITS[part]))
        rows = nearest_of(segment, asked, COUNT).rows
        for query, row in zip(*np.nonzero(rows >= 0), strict=True):
            held[query].add(int(rows[query, row]) + part.start)
    # What is proposed does not depend on the cut.
    assert held == [set(rows[rows >= 0].tolist()) for rows in wanted.rows]


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_a_proposer_of_nothing_finds_nothing(kind: ProposerKind) -> None:
    frame = frame_of(UNITS, CELLS if kind == "ivf" else 0)
    data = built(kind, frame, UNITS[:0])
    empty = FaissProposer("a file", frame, faiss.deserialize_index(data), 0)
    assert len(empty) == 0
    assert nearest(empty, QUERIES[:2], 3, 5).rows.tolist() == [[-1] * 3] * 2
    assert nearest(proposer_of(kind, UNITS), QUERIES[:0], 3, 5).rows.shape == (0, 3)


def test_queries_that_do_not_fit_are_refused(proposer: FaissProposer) -> None:
    with pytest.raises(ValueError, match="32 dimensions are turned"):
        nearest(proposer, QUERIES[:, :8].copy(), 3, 5)
    with pytest.raises(ValueError, match=r"of 3,000 images; got .*\(7,\)"):
        nearest(proposer, QUERIES, 3, 5, np.ones(7, np.bool_))


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_an_image_takes_the_bytes_that_were_reckoned(kind: ProposerKind) -> None:
    frame = frame_of(UNITS, CELLS if kind == "ivf" else 0)
    fixed = len(built(kind, frame, UNITS[:0]))
    size = len(built(kind, frame, UNITS)) - fixed - 8 * len(frame.centres)
    assert size / COUNT == pytest.approx(bytes_of_image(kind, DIMENSIONS), rel=0.02)


BUILT = """
import hashlib
from tests.pipeline.proposers.test_build import CELLS, UNITS, built, frame_of
for kind in ("ivf", "hnsw"):
    data = built(kind, frame_of(UNITS, CELLS if kind == "ivf" else 0), UNITS)
    print(hashlib.sha256(data.tobytes()).hexdigest())
"""


def test_any_number_of_threads_builds_the_same_bytes() -> None:
    here = []
    for kind in ("ivf", "hnsw"):
        frame = frame_of(UNITS, CELLS if kind == "ivf" else 0)
        for _ in range(2):
            data = built(kind, frame, UNITS)
            here.append(hashlib.sha256(data.tobytes()).hexdigest())
    assert here[0] == here[1]
    assert here[2] == here[3]
    for threads in ("1", "2"):
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
        found = subprocess.run(
            [sys.executable, "-c", BUILT],
            env=os.environ | dict.fromkeys(names, threads),
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.split() == [here[0], here[2]]


def test_faiss_has_as_many_threads_afterwards_as_before() -> None:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        nearest(proposer_of("ivf", UNITS), QUERIES, 3, 5)
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)
