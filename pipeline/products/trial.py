"""Try a kind of products on this CPU: whether it keeps its bounds, and how fast it is."""

import time
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
from threadpoolctl import threadpool_limits

from lamella.pipeline.arrays import Float32s, Float64s, UInt8s
from lamella.pipeline.errors import one_line
from lamella.pipeline.products.codes import prepare
from lamella.pipeline.products.rows import BFloat16Rows
from lamella.schemas.job import ProductKind

SHAPES = ((40, 77, 300), (3, 1, 5), (130, 256, 257), (5, 1280, 64))
"""Queries, dimensions and rows that are tried: also none that is a multiple of a tile."""

TIMED = (128, 1_280, 2_048)
"""Queries, dimensions and rows of the products that are timed, as a thread of a search has them."""

REPEATS = 3
"""Runs of which the fastest counts."""


def what_is_wrong(kind: ProductKind) -> str:
    """Return how products of a kind break their bounds here, "" if they keep them.

    Raises:
        Exception: as the libraries raise that multiply.
    """
    for queries, dimensions, rows in SHAPES:
        rng = np.random.default_rng(dimensions)
        codes = rng.integers(0, 256, (rows, dimensions), dtype=np.uint8)
        weights = rng.standard_normal((queries, dimensions)) / 255.0
        # The largest sums that there are: they saturate where 16 bits hold them.
        codes[0], weights[0], weights[1], weights[2] = 255, 0.25, -0.25, 0.0
        if said := _of_codes(weights, codes, kind):
            return said
        if kind == "bfloat16" and (said := _of_rows(weights, rows)):
            return said
    return ""


def gflops(kind: ProductKind, queries: int, dimensions: int, rows: int) -> float:
    """Return how many thousand million operations a second products with codes take here."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (rows, dimensions), dtype=np.uint8)
    ready = prepare(rng.standard_normal((queries, dimensions)), kind)
    out = np.empty((queries, rows), np.float32)
    ready.multiply(codes, out)
    return 2e-9 * out.size * dimensions / _fastest(lambda: ready.multiply(codes, out))


def gflops_of_rows(kind: ProductKind, rows: int, dimensions: int, words: int) -> float:
    """Return the same of products of float32 rows with words."""
    rng = np.random.default_rng(0)
    left = rng.standard_normal((rows, dimensions)).astype(np.float32)
    right = rng.standard_normal((words, dimensions)).astype(np.float32)
    out = np.empty((rows, words), np.float32)
    if kind == "bfloat16":
        held = BFloat16Rows(right)
        seconds = _fastest(lambda: held.multiply(left, out))
    else:
        seconds = _fastest(lambda: np.matmul(left, right.T, out=out))
    return 2e-9 * out.size * dimensions / seconds


def facts() -> dict[str, dict[str, Any]]:
    """Return for each kind what is `wrong` with it, "" if nothing, and its `gflops` on one core."""
    import torch

    torch.set_num_threads(1)
    found: dict[str, dict[str, Any]] = {}
    with threadpool_limits(1, user_api="blas"):
        for kind in get_args(ProductKind):
            try:
                wrong = what_is_wrong(kind)
                speed = 0.0 if wrong else gflops(kind, *TIMED)
            except Exception as error:
                wrong, speed = one_line(error) or type(error).__name__, 0.0
            found[kind] = {"wrong": wrong, "gflops": speed}
    return found


def _of_codes(weights: Float64s, codes: UInt8s, kind: ProductKind) -> str:
    ready = prepare(weights, kind)
    found = np.empty((len(weights), len(codes)), np.float32)
    ready.multiply(codes, found)
    wide = codes.astype(np.float64)
    allowed = ready.relative * (np.abs(ready.held) @ wide.T) + 1e-12
    return _beyond(found, ready.held @ wide.T, allowed)


def _of_rows(weights: Float64s, words: int) -> str:
    rows = weights.astype(np.float32)
    right = np.random.default_rng(words).standard_normal((words, rows.shape[1])).astype(np.float32)
    found = np.empty((len(rows), words), np.float32)
    errors = BFloat16Rows(right).multiply(rows, found)
    exact = rows.astype(np.float64) @ right.astype(np.float64).T
    return _beyond(found, exact, np.broadcast_to(errors[:, None], exact.shape))


def _beyond(found: Float32s, exact: Float64s, allowed: Float64s) -> str:
    """Return the worst product that is further off than is allowed, "" if there is none."""
    off = np.abs(found - exact)
    if (off <= allowed).all():
        return ""
    worst = np.unravel_index(np.argmax(np.nan_to_num(off - allowed, nan=np.inf)), off.shape)
    return (
        f"a product is {exact[worst]:.6g} and was computed as {found[worst]:.6g}, "
        f"{allowed[worst]:.2g} off at most"
    )


def _fastest(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return max(min(taken), 1e-9)
