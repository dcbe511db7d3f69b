"""Frames: the same whatever the cut, and near what they stand for."""

import numpy as np
import pytest

from lamella.pipeline.arrays import Float32s, Int64s
from lamella.pipeline.index.sketch import unit_rows
from lamella.pipeline.proposers import frame as frames
from lamella.pipeline.proposers.frame import (
    Draw,
    Frame,
    cells_for,
    drawn,
    fit_frame,
    frame_memory,
    sampled_rows,
)
from lamella.pipeline.search.score import dense_norms

IDS = np.sort(np.random.default_rng(1).choice(1 << 40, 900, replace=False)).astype(np.int64)
VECTORS = np.random.default_rng(2).standard_normal((900, 24)).astype(np.float32)


def draw_from(ids: Int64s, vectors: Float32s, *cuts: int) -> Draw:
    """Give images as a stage does, cut into segments before these rows."""

    def draw(share: float):  # type: ignore[no-untyped-def]
        for part in np.split(np.arange(len(ids)), cuts):
            rows = part[drawn(ids[part], share)]
            yield ids[rows], vectors[rows], dense_norms(vectors[rows])

    return draw


def test_a_frame_does_not_depend_on_how_the_corpus_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "FITTED_ROWS", 200)
    monkeypatch.setattr(frames, "ROWS_A_CELL", 8)
    whole, sampled = fit_frame(draw_from(IDS, VECTORS), len(IDS), 12)
    assert 0 < sampled < len(IDS)
    # Segments hold other images, each in the order of their ids.
    mixed = np.concatenate([np.arange(0, 900, 2), np.arange(1, 900, 2)])
    cut, same = fit_frame(draw_from(IDS[mixed], VECTORS[mixed], 450, 500), len(IDS), 12)
    assert same == sampled
    for name in ("axes", "lows", "spans", "centres"):
        np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name))


def test_ranges_and_cells_are_those_of_the_sample_on_the_axes() -> None:
    made, sampled = fit_frame(draw_from(IDS, VECTORS), len(IDS), 60)
    assert (sampled, made.axes.shape, made.centres.shape) == (900, (24, 24), (60, 24))
    units = unit_rows(VECTORS, dense_norms(VECTORS))
    rows = made.turn(units)
    # All 24 axes are kept, so that turning changes no product but by rounding.
    np.testing.assert_allclose(rows @ rows.T, units @ units.T, atol=1e-5)
    np.testing.assert_array_equal(made.lows, rows.min(axis=0))
    np.testing.assert_array_equal(made.spans, rows.max(axis=0) - rows.min(axis=0))
    away = np.linalg.norm(rows[:, None] - made.centres, axis=2)
    np.testing.assert_array_equal(made.cells_of(rows), away.argmin(axis=1))
    near = np.sort(np.argsort(away, axis=1, kind="stable")[:, :7], axis=1)
    np.testing.assert_array_equal(made.cells_near(rows, 7), near)


def test_vectors_of_zeros_and_very_few_images_have_a_frame() -> None:
    for count in (1, 2, 3):
        made, sampled = fit_frame(draw_from(IDS[:count], VECTORS[:count] * 0), count, 3)
        assert (sampled, len(made.centres)) == (count, count)
        assert not made.turn(np.zeros((2, 24), np.float32)).any()


def test_cells_are_twice_the_root_of_the_images_and_never_more_than_a_query_bears() -> None:
    assert [cells_for(n) for n in (1, 100, 1_000_000, 10**9)] == [1, 20, 2_000, 16_384]
    # 32 rows a cell, at least those that axes are fitted to, at most what memory bears.
    assert [sampled_rows(n) for n in (100, 10_000, 1_000_000, 10**9)] == [
        *(100, 6_400, 64_000, 262_144)
    ]
    assert sum(frame_memory(10**9, 1_280).values()) < 2 << 30


def test_a_frame_refuses_what_does_not_fit() -> None:
    ones = np.ones(2, np.float32)
    axes = np.eye(2, 3, dtype=np.float32)
    made = Frame(axes, ones, ones, np.empty((0, 2), np.float32))
    with pytest.raises(ValueError, match=r"3 dimensions are turned; got \(1, 4\)"):
        made.turn(np.ones((1, 4), np.float32))
    with pytest.raises(ValueError, match="a low, a span and a column of centres an axis"):
        Frame(axes, ones, ones, np.ones((5, 3), np.float32))
    with pytest.raises(ValueError, match="centres of a frame must be finite"):
        Frame(axes, ones, ones, np.full((1, 2), np.nan, np.float32))
