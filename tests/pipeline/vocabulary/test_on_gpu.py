"""The product on a device only proposes: whatever it rounds, answers are those of float64."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamella.pipeline.errors import InputError
from lamella.pipeline.vocabulary import on_gpu
from lamella.pipeline.vocabulary.assign import Assigner, ExactAssigner
from lamella.pipeline.vocabulary.on_gpu import GpuAssigner
from tests.pipeline.vocabulary.vectors import clustered

ROWS = clustered(1_300, 32, 100)
WORDS, QUERIES = ROWS[:300], ROWS[300:]
CROWDED = (WORDS * 1e-3 + WORDS[0]).astype(np.float32)
"""Words so close that TF32 does not tell most of them apart."""

on_a_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA here")
Product = Callable[[Tensor, Tensor, Tensor, bool], Tensor]


def assert_exact(assigner: Assigner, words: NDArray[np.float32], rows: NDArray[np.float32]) -> None:
    """Assert that both give the same bits."""
    found, expected = assigner.assign(rows), ExactAssigner(words).assign(rows)
    np.testing.assert_array_equal(found.words, expected.words)
    np.testing.assert_array_equal(found.squared_distances, expected.squared_distances)
    assert found.words.dtype == np.uint32


def scores_of(words: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return |c|^2 / 2 - x.c in float64."""
    exact = words.astype(np.float64)
    return (exact**2).sum(axis=1) / 2 - rows.astype(np.float64) @ exact.T


def cut(values: NDArray[np.float64], quanta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cut values off, towards 0, to multiples of the quanta."""
    return np.trunc(values / quanta) * quanta


def quantum(largest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the last of the 24 bits of a number."""
    return np.ldexp(1.0, np.frexp(largest)[1] - 24)


def tensor_core(half_norms: Tensor, rows: Tensor, negated_words: Tensor, tf32: bool) -> Tensor:
    """Return the scores as a tensor core may round them: everything cut off, four at a time."""
    left, right = (
        (each.numpy().view(np.int32) & -0x2000).view(np.float32).astype(np.float64)
        for each in (rows, negated_words)
    )
    total = np.zeros((len(left), len(right)))
    for at in range(0, left.shape[1], 4):
        products = [np.outer(left[:, axis], right[:, axis]) for axis in range(at, at + 4)]
        addends = np.stack([total, *products])
        total = cut(addends, quantum(np.abs(addends).max(axis=0))).sum(axis=0)
        total = cut(total, quantum(total))
    return half_norms + torch.from_numpy(total.astype(np.float32))


def test_three_rows_worked_by_hand() -> None:
    words = np.array([[0, 0], [4, 0]], np.float32)
    rows = np.array([[1, 1], [3, 2], [2, 5]], np.float32)
    assignment = GpuAssigner(words, "cpu").assign(rows)
    # 1 + 1 = 2;  (3 - 4)^2 + 2^2 = 5;  2^2 + 5^2 = 29 to both: the lower word
    assert assignment.words.tolist() == [0, 1, 0]
    assert assignment.squared_distances.tolist() == [2, 5, 29]


@pytest.mark.parametrize("tf32", [True, False])
@pytest.mark.parametrize(
    ("words", "rows"),
    [
        pytest.param(WORDS, QUERIES, id="clustered"),
        pytest.param(
            *np.random.default_rng(0).standard_normal((2, 90, 7), np.float32), id="random"
        ),
        pytest.param(np.concatenate([WORDS, WORDS[:40], WORDS]), WORDS, id="twice and thrice"),
        pytest.param(np.tile(WORDS[:1], (500, 1)), QUERIES, id="all words equal"),
        pytest.param(
            np.concatenate([np.tile(WORDS[:9], (40, 1)), WORDS]), QUERIES, id="some equal"
        ),
        pytest.param(WORDS[:1], QUERIES, id="one word"),
        pytest.param(WORDS, QUERIES[:0], id="no rows"),
        pytest.param(WORDS, np.zeros_like(QUERIES), id="rows of zeros"),
        pytest.param(CROWDED, CROWDED[::2], id="crowded"),
        pytest.param(WORDS, QUERIES[::2, ::-1][:, ::-1], id="not contiguous"),
    ],
)
def test_it_is_exact_bit_for_bit(
    words: NDArray[np.float32], rows: NDArray[np.float32], tf32: bool
) -> None:
    assert_exact(GpuAssigner(words, "cpu", tf32=tf32), words, rows)


@pytest.mark.parametrize("words_scale", [1e-30, 1e-20, 1.0, 1e14])
@pytest.mark.parametrize("rows_scale", [1e-30, 1e-20, 1.0, 1e14])
def test_norms_tiny_and_huge(words_scale: float, rows_scale: float) -> None:
    words, rows = (WORDS * words_scale).astype(np.float32), (QUERIES[:99] * rows_scale)
    assert_exact(GpuAssigner(words, "cpu"), words, rows.astype(np.float32))


def test_rows_of_all_norms_in_one_batch() -> None:
    powers = np.logspace(-20, 14.9, len(QUERIES))[:, None]
    assert_exact(GpuAssigner(WORDS, "cpu"), WORDS, (QUERIES * powers).astype(np.float32))


@pytest.mark.parametrize("tile", [1, 2, 7, 64, 333, 999, 1_000, 5_000])
def test_a_word_does_not_depend_on_the_tile(tile: int) -> None:
    assigner = GpuAssigner(WORDS, "cpu")
    assigner._rows = tile
    assert_exact(assigner, WORDS, QUERIES)


@pytest.mark.parametrize("batch", [1, 7, 999])
def test_a_word_does_not_depend_on_the_batch(batch: int) -> None:
    assigner = GpuAssigner(WORDS, "cpu")
    for at in range(0, 50 * batch if batch == 1 else len(QUERIES), batch):
        assert_exact(assigner, WORDS, QUERIES[at : at + batch])


def watch_bounds(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.float64]]:
    """Return a list that every bound is written to."""
    bounds: list[NDArray[np.float64]] = []
    original = on_gpu.score_errors

    def watched(*arguments: Any) -> Tensor:
        errors = original(*arguments)
        bounds.append(errors.numpy())
        return errors

    monkeypatch.setattr(on_gpu, "score_errors", watched)
    return bounds


@pytest.mark.parametrize("words", [WORDS, CROWDED])
def test_a_tensor_core_stays_within_the_bound(
    words: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds = watch_bounds(monkeypatch)
    shares = []

    def compared(*operands: Any) -> Tensor:
        scores = tensor_core(*operands)
        off = np.abs(scores.numpy()[:, : len(words)] - scores_of(words, QUERIES[:200]))
        shares.append(off.max(axis=1) / bounds[-1])
        return scores

    monkeypatch.setattr(on_gpu, "product", compared)
    assert_exact(GpuAssigner(words, "cpu"), words, QUERIES[:200])
    assert 0.05 < np.max(shares) <= 1  # it holds, and is of the right size


@pytest.mark.parametrize(
    ("words", "share", "exact"), [(WORDS, 0.999, True), (CROWDED, 0.999, True), (WORDS, 3.0, False)]
)
def test_the_worst_errors_within_the_bound_change_nothing(
    words: NDArray[np.float32], share: float, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    nearest = ExactAssigner(words).assign(QUERIES).words
    bounds = watch_bounds(monkeypatch)

    def hostile(half_norms: Tensor, rows: Tensor, negated_words: Tensor, tf32: bool) -> Tensor:
        scores = scores_of(words, QUERIES) - share * bounds[-1][:, None]
        scores[np.arange(len(QUERIES)), nearest] += 2 * share * bounds[-1]
        padded = np.full((len(rows), len(half_norms)), on_gpu.FAR)
        padded[:, : len(words)] = scores
        return torch.from_numpy(padded.astype(np.float32))

    monkeypatch.setattr(on_gpu, "product", hostile)
    found = GpuAssigner(words, "cpu").assign(QUERIES).words
    assert np.array_equal(found, nearest) == exact  # the bound is what makes it so


def test_rounding_to_tf32_keeps_eleven_bits() -> None:
    values = torch.tensor([1 + 2**-10, 1 + 2**-11, -1 - 2**-11, 1 + 2**-12, 0.0, 3.0, 1e-42])
    expected = [1 + 2**-10, 1 + 2**-10, -1 - 2**-10, 1, 0, 3]
    assert on_gpu.to_tf32(values)[:-1].tolist() == expected
    halves = torch.from_numpy(QUERIES.astype(np.float16).astype(np.float32))
    assert torch.equal(on_gpu.to_tf32(halves), halves)
    rounded = on_gpu.to_tf32(torch.from_numpy(QUERIES)).numpy()
    assert (np.abs(rounded - QUERIES) <= 2.0**-11 * np.abs(QUERIES)).all()


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_settings_of_the_process_neither_matter_nor_change(precision: str) -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert_exact(GpuAssigner(CROWDED, "cpu", tf32=False), CROWDED, QUERIES)
        assert torch.get_float32_matmul_precision() == precision
        assert torch.backends.cuda.matmul.allow_tf32 == (precision != "highest")
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_budget_too_small_names_bytes_and_the_way_out() -> None:
    with pytest.raises(InputError) as caught:
        GpuAssigner(WORDS, "cpu", memory_bytes=1_000)
    said = re.fullmatch(
        r"300 words of 32 dimensions need ([\d,]+) bytes on device cpu, 1,000 are free: take fewer "
        r'words, fewer dimensions \(PCA\), or assigner="exact" on the CPU',
        str(caught.value),
    )
    assert said is not None
    needed = int(said[1].replace(",", ""))
    with pytest.raises(InputError):
        GpuAssigner(WORDS, "cpu", memory_bytes=needed - 1)
    one_row = GpuAssigner(WORDS, "cpu", memory_bytes=needed)
    assert one_row._rows == 1
    assert_exact(one_row, WORDS, QUERIES[:20])


def short_above(rows_that_fit: int) -> Product:
    """Return a product for which more rows find no memory."""
    original = on_gpu.product

    def product(half_norms: Tensor, rows: Tensor, negated_words: Tensor, tf32: bool) -> Tensor:
        if len(rows) > rows_that_fit:
            raise torch.OutOfMemoryError("simulated")
        return original(half_norms, rows, negated_words, tf32)

    return product


def test_a_device_out_of_memory_gets_half_as_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    assigner = GpuAssigner(WORDS, "cpu")
    assigner._rows = 800
    monkeypatch.setattr(on_gpu, "product", short_above(150))
    assert_exact(assigner, WORDS, QUERIES)
    assert assigner._rows == 100


def test_memory_that_runs_out_in_mid_run_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assigner = GpuAssigner(WORDS, "cpu")
    assigner._rows = 100
    original, calls = on_gpu.product, []

    def product(*arguments: Any) -> Tensor:
        calls.append(len(arguments[1]))
        if len(calls) in (4, 9):
            raise torch.OutOfMemoryError("simulated")
        return original(*arguments)

    monkeypatch.setattr(on_gpu, "product", product)
    assert_exact(assigner, WORDS, QUERIES)
    assert assigner._rows == 25
    assert calls[:4] == [100] * 4
    # Two tiles were done, the third was thrown away and is done again, in halves.
    assert calls[4:9] == [50] * 5


def test_a_device_without_memory_for_a_row_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assigner = GpuAssigner(WORDS, "cpu")
    monkeypatch.setattr(on_gpu, "product", short_above(0))
    with pytest.raises(InputError, match="fewer dimensions"):
        assigner.assign(QUERIES)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a graphics card")
def test_no_graphics_card_is_an_error() -> None:
    with pytest.raises(InputError, match="sees no graphics card here"):
        GpuAssigner(WORDS)


def test_what_cannot_be_compared_is_refused() -> None:
    assigner = GpuAssigner(WORDS, "cpu")
    for value in (np.nan, np.inf, -np.inf, 2e15, 3e38):
        bad = QUERIES[:500].copy()
        bad[333, 2] = value
        assigner._rows = 100
        with pytest.raises(ValueError, match="row 333 is not"):
            assigner.assign(bad)
    with pytest.raises(ValueError, match="float32"):
        assigner.assign(QUERIES.astype(np.float64))
    with pytest.raises(ValueError, match="the 32 dimensions of the words; got 31"):
        assigner.assign(QUERIES[:, :31])
    with pytest.raises(ValueError, match=r"\(n, D\)"):
        assigner.assign(QUERIES[0])
    with pytest.raises(ValueError, match="at least 1 word"):
        GpuAssigner(WORDS[:0], "cpu")


@pytest.mark.gpu
@on_a_card
@pytest.mark.parametrize("tf32", [True, False])
def test_a_graphics_card_is_exact(tf32: bool) -> None:
    rows = clustered(100_512, 256, 800)
    words, rows = rows[:512], rows[512:]
    before = torch.get_float32_matmul_precision()
    assert_exact(GpuAssigner(words, tf32=tf32), words, rows)
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.gpu
@on_a_card
def test_a_graphics_card_is_exact_where_words_crowd_and_tiles_are_few_rows() -> None:
    for words in (WORDS, CROWDED, np.concatenate([WORDS, WORDS])):
        assigner = GpuAssigner(words)
        for tile in (1_000, 37):
            assigner._rows = tile
            assert_exact(assigner, words, QUERIES)


@pytest.mark.gpu
@on_a_card
def test_a_graphics_card_keeps_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = clustered(3_000, 512, 300)
    words, rows = rows[:1_000], rows[1_000:]
    seen: list[Tensor] = []

    def keep(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def kept(*arguments: Any) -> Tensor:
            seen.append(original(*arguments))
            return seen[-1]

        return kept

    monkeypatch.setattr(on_gpu, "score_errors", keep(on_gpu.score_errors))
    monkeypatch.setattr(on_gpu, "product", keep(on_gpu.product))
    assert_exact(GpuAssigner(words), words, rows)
    errors, scores = (each.cpu().numpy() for each in seen)
    off = np.abs(scores[:, : len(words)] - scores_of(words, rows)).max(axis=1)
    assert (off <= errors).all()


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, on_a_card])]
)
@pytest.mark.parametrize("words", [WORDS, CROWDED])
@pytest.mark.parametrize("count", [1, 3, 300])
def test_several_nearest_words_are_those_of_cpus(
    device: str, words: NDArray[np.float32], count: int
) -> None:
    found = GpuAssigner(words, device, memory_bytes=1 << 20).nearest(QUERIES, count)
    np.testing.assert_array_equal(found, ExactAssigner(words).nearest(QUERIES, count))
