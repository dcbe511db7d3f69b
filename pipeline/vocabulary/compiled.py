"""Compile loops with numba, keeping the written order of additions."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from lamella.pipeline.compiled import cached

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function compiled, run on the calling thread without the interpreter lock.

    Without fast-math: additions keep their written order, and products and sums are rounded
    separately. No parallel loops: two threads must not enter numba's thread pool at once. The
    result is cached, as `cached` says.
    """
    return cached(function, nogil=True)
