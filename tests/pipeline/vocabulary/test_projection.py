"""PCA of descriptors: against NumPy and scikit-learn, and the same bits however it is asked."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from sklearn.decomposition import PCA

from lamella.pipeline.errors import InputError
from lamella.pipeline.store.tables import write_arrow
from lamella.pipeline.vocabulary.assign import ExactAssigner
from lamella.pipeline.vocabulary.eigen import eigenvectors
from lamella.pipeline.vocabulary.projection import (
    BLOCK_ROWS,
    ProjectingAssigner,
    Projection,
    fit_projection,
    project,
    read_projection,
    write_projection,
)
from lamella.schemas.vocabulary import ProjectionSpec
from tests.pipeline.vocabulary.vectors import clustered

ROWS = clustered(600, 23, 12, seed=3).astype(np.float16).astype(np.float32)


def fit(dimensions: int, whiten: bool = False, rows: npt.NDArray[np.float32] = ROWS) -> Projection:
    return fit_projection(rows, ProjectionSpec(dimensions=dimensions, whiten=whiten))


def axes(
    mean: list[float], matrix: list[list[float]] | npt.NDArray[np.float64], explained: float = 1.0
) -> Projection:
    return Projection(np.array(mean, np.float64), np.array(matrix, np.float64), explained)


def test_four_points_worked_by_hand() -> None:
    # Mean (3, 1). About it: (-2, 0), (2, 0), (0, -1), (0, 1); sums of squares 8 and 2, over 4 - 1.
    rows = np.array([[1, 1], [5, 1], [3, 0], [3, 2]], np.float32)
    plain = fit(1, rows=rows)
    assert plain.mean.tolist() == [3, 1]
    assert plain.matrix.tolist() == [[1], [0]]
    assert plain.explained == 0.8  # 8 / (8 + 2)
    white = fit(2, whiten=True, rows=rows).matrix
    least = 1e-6 * 8 / 3
    np.testing.assert_allclose(
        white, np.diag([(8 / 3 + least) ** -0.5, (2 / 3 + least) ** -0.5]), rtol=1e-15
    )


def test_components_are_those_of_scikit_learn() -> None:
    theirs = PCA(7, svd_solver="full").fit(ROWS.astype(np.float64))
    ours = fit(7)
    np.testing.assert_allclose(ours.mean, theirs.mean_, atol=1e-14)
    signs = np.sign(np.sum(theirs.components_ * ours.matrix.T, axis=1))
    np.testing.assert_allclose(ours.matrix.T, theirs.components_ * signs[:, None], atol=1e-10)
    assert np.isclose(ours.explained, theirs.explained_variance_ratio_.sum(), rtol=1e-12)


def test_one_descriptor_is_its_own_mean() -> None:
    only = fit_projection(ROWS[:1], ProjectionSpec(whiten=True))
    assert (only.mean == ROWS[0]).all()
    assert np.isfinite(only.matrix).all()
    assert (project(only, ROWS[:1]) == 0.0).all()


def test_the_largest_entry_of_a_component_is_positive() -> None:
    matrix = fit(23).matrix
    assert (matrix[np.abs(matrix).argmax(axis=0), np.arange(23)] > 0).all()


@pytest.mark.parametrize("whiten", [False, True])
def test_rows_are_projected_as_numpy_does(whiten: bool) -> None:
    projection = fit(9, whiten)
    slow = (ROWS.astype(np.float64) - projection.mean) @ projection.matrix
    slow /= np.linalg.norm(slow, axis=1, keepdims=True)
    found = project(projection, ROWS)
    assert found.dtype == np.float16
    # Half a unit of the last of 11 digits, or of the least number.
    np.testing.assert_allclose(found.astype(np.float64), slow, rtol=2.0**-11 * 1.001, atol=2.0**-25)


def test_whitening_gives_unit_variances_before_rows_are_normalised() -> None:
    white = fit(9, whiten=True)
    covariance = np.cov(((ROWS - white.mean) @ white.matrix).T)
    np.testing.assert_allclose(covariance, np.eye(9), atol=1e-4)  # 1e-6 of the largest is added


def test_a_row_depends_on_that_row_alone_to_the_bit() -> None:
    rows = clustered(BLOCK_ROWS + 70, 23, 12, seed=4)
    projection = fit(10, whiten=True)
    whole = project(projection, rows).view(np.uint16)
    order = np.random.default_rng(1).permutation(len(rows))
    assert (project(projection, rows[order]).view(np.uint16) == whole[order]).all()
    for size in (1, 3, 7):
        parts = [project(projection, rows[n : n + size]) for n in range(0, 63, size)]
        assert (np.concatenate(parts).view(np.uint16) == whole[:63]).all()
    assert project(projection, rows[:0]).shape == (0, 10)
    assert (project(projection, np.asfortranarray(rows)).view(np.uint16) == whole).all()


def test_bits_of_float16_are_worth_their_numbers() -> None:
    projection = fit(10)
    from_bits = project(projection, ROWS.astype(np.float16).view(np.uint16))
    assert (from_bits.view(np.uint16) == project(projection, ROWS).view(np.uint16)).all()


def test_each_sum_runs_in_the_order_of_the_dimensions() -> None:
    projection = fit(5)
    matrix, row = projection.matrix, ROWS[17]
    sums = [0.0] * 5
    for component in range(5):
        for axis in range(23):
            sums[component] += (float(row[axis]) - projection.mean[axis]) * matrix[axis, component]
    length = np.sqrt(np.float64(sum(value * value for value in sums)))
    slow = np.array([np.float16(np.float64(value) / length) for value in sums])
    assert (project(projection, row[None])[0] == slow).all()


def test_the_mean_itself_has_no_direction() -> None:
    projection = axes([0.5, 0.25], [[1], [0]])
    rows = np.array([[0.5, 0.25], [0.5, 0.75], [0, 0]], np.float32)
    assert project(projection, rows).tolist() == [[0], [0], [-1]]


def test_the_same_is_fitted_by_any_number_of_threads(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np; from pathlib import Path\n"
        "from lamella.pipeline.vocabulary.projection import *\n"
        "from tests.pipeline.vocabulary.vectors import clustered\n"
        "spec = ProjectionSpec(dimensions=64, whiten=True)\n"
        "fitted = fit_projection(clustered(700, 256, 40), spec)\n"
        "write_projection(fitted, Path(sys.argv[1]))"
    )
    written = []
    for threads in ("1", "2"):
        path = tmp_path / threads
        environment = {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        subprocess.run(
            [sys.executable, "-c", code, str(path)],
            cwd=Path(__file__).parents[3],
            env=os.environ | environment,
            check=True,
        )
        written.append(path.read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize("size", [1, 2, 3, 8, 33, 130])
def test_eigenvectors_are_as_numpy_finds_them(size: int) -> None:
    draw = np.random.default_rng(size).standard_normal((size + 3, size))
    symmetric = draw.T @ draw * 1e-9
    values, vectors = eigenvectors(symmetric)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(symmetric)[::-1], atol=1e-22 * size)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(size), atol=1e-13)
    np.testing.assert_allclose(vectors.T * values @ vectors, symmetric, atol=1e-22 * size)


def test_eigenvalues_that_are_equal_or_none_are_no_trouble() -> None:
    values, vectors = eigenvectors(np.eye(6))
    assert (values.tolist(), vectors.tolist()) == ([1.0] * 6, np.eye(6).tolist())
    assert eigenvectors(np.zeros((4, 4)))[0].tolist() == [0.0] * 4
    one = np.ones((5, 5))
    np.testing.assert_allclose(eigenvectors(one)[0], [5, 0, 0, 0, 0], atol=1e-14)
    block = np.zeros((6, 6))
    block[1:3, 1:3] = 1
    np.testing.assert_allclose(eigenvectors(block)[0], [2, 0, 0, 0, 0, 0], atol=1e-15)


def test_a_projecting_assigner_asks_about_projected_rows() -> None:
    projection = fit(6)
    halves = project(projection, ROWS)
    inner = ExactAssigner(halves[:40].astype(np.float32))
    found = ProjectingAssigner(projection, inner).assign(ROWS)
    known = inner.assign(halves.astype(np.float32))
    assert (found.words == known.words).all()
    assert (found.squared_distances == known.squared_distances).all()
    assert (found.squared_distances[:40] == 0).all()
    with pytest.raises(ValueError, match="has the 23 dimensions of the projection"):
        ProjectingAssigner(projection, inner).assign(ROWS[:, :20])


@pytest.mark.parametrize("whiten", [False, True])
def test_a_projection_reads_back_bit_for_bit(tmp_path: Path, whiten: bool) -> None:
    projection = fit(6, whiten)
    path = tmp_path / "projection.arrow"
    assert write_projection(projection, path) == 23
    read = read_projection(path)
    assert (read.mean == projection.mean).all()
    assert (read.matrix == projection.matrix).all()
    assert read.explained == projection.explained
    assert (project(read, ROWS) == project(projection, ROWS)).all()
    assert (read.descriptor_dimensions, read.dimensions) == (23, 6)


def test_a_file_of_something_else_is_no_projection(tmp_path: Path) -> None:
    write_arrow(pa.table({"centroid": [1.0]}), tmp_path / "other.arrow")
    with pytest.raises(ValueError, match=r"its columns are centroid double"):
        read_projection(tmp_path / "other.arrow")


@pytest.mark.parametrize(
    ("rows", "dimensions", "said"),
    [
        (ROWS, 24, "24 are asked for, and there are 600 descriptors of 23: ask for 23 at most"),
        (ROWS[:9], 9, "9 are asked for, and there are 9 descriptors of 23: ask for 8 at most"),
        (ROWS[:1], 1, "1 are asked for, and there are 1 descriptors of 23: leave the projection"),
        (ROWS[:0], 1, "there are 0 descriptors of 23: leave the projection out"),
        (np.ones((8, 3), np.float32) / 3, 2, "all 8 are the same: leave it out"),
    ],
)
def test_what_rows_cannot_show_is_refused(
    rows: npt.NDArray[np.float32], dimensions: int, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        fit(dimensions, rows=rows)


def test_numbers_that_are_none_are_refused() -> None:
    wrong = ROWS.copy()
    wrong[5, 2] = np.nan
    with pytest.raises(ValueError, match="row 5 is not"):
        fit(3, rows=wrong)
    many = np.concatenate([np.tile(ROWS[:1], (BLOCK_ROWS, 1)), wrong])
    with pytest.raises(ValueError, match=f"row {BLOCK_ROWS + 5:,} is not"):
        project(fit(3), many)
    with pytest.raises(ValueError, match=f"row {BLOCK_ROWS + 5:,} is not"):
        project(fit(3), many.astype(np.float16).view(np.uint16))
    with pytest.raises(ValueError, match="got float64"):
        project(fit(3), ROWS.astype(np.float64))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mean", "matrix", "explained", "said"),
    [
        ([0, 0], [[1]], 1.0, "a mean"),
        ([0], [[1, 2]], 1.0, "from 1 to 1 components"),
        ([0, np.inf], [[1], [0]], 1.0, "finite"),
        ([0, 0], [[1], [np.nan]], 1.0, "finite"),
        ([0, 0], [[1], [0]], 1.5, "from 0 to 1; got 1.5"),
    ],
)
def test_a_projection_checks_itself(
    mean: list[float], matrix: list[list[float]], explained: float, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        axes(mean, matrix, explained)


def flat_in(dimensions: int, spanned: int) -> npt.NDArray[np.float32]:
    """Return 50 descriptors that vary in a few directions alone."""
    rng = np.random.default_rng(0)
    return (rng.standard_normal((50, spanned)) @ rng.standard_normal((spanned, dimensions))).astype(
        np.float32
    )


def test_descriptors_are_not_whitened_in_dimensions_that_they_do_not_span() -> None:
    with pytest.raises(InputError, match=r"span 3 \(the rank of their covariance\): ask for 3"):
        fit_projection(flat_in(8, 3), ProjectionSpec(dimensions=4, whiten=True))
    assert fit_projection(flat_in(8, 3), ProjectionSpec(dimensions=3, whiten=True)).dimensions == 3
    assert fit_projection(flat_in(8, 3), ProjectionSpec(dimensions=4)).dimensions == 4


def test_a_projection_that_names_no_dimensions_has_those_that_are_spanned() -> None:
    assert fit_projection(flat_in(8, 3), ProjectionSpec(whiten=True)).dimensions == 3
    assert fit_projection(flat_in(300, 290), ProjectionSpec(whiten=True)).dimensions == 49
    equal = np.ones((5, 4), np.float32)
    found = fit_projection(equal, ProjectionSpec(whiten=True))
    assert found.dimensions == 1
    assert not project(found, equal).any()
