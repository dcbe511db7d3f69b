"""The one way loops are compiled here, so that they give the same bits on every machine."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from lamella.pipeline.compiled import cached

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function compiled, run on the calling thread without the interpreter lock.

    Without fast-math: additions keep the order they are written in, and a product and a sum are
    rounded each on their own. No parallel loops: Numba's thread pool may not be entered by two
    threads at once. The result is cached, as `cached` says.
    """
    return cached(function, nogil=True)
