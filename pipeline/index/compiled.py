"""Compile loops with numba, and never let it reorder arithmetic."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.compiled import cached, numba

Function = TypeVar("Function", bound=Callable[..., Any])
Scalar = TypeVar("Scalar", bound=np.generic)


def compiled(function: Function) -> Function:
    """Return the function compiled for one thread.

    No fastmath: a sum keeps the order in which it is written, whatever the processor. Division
    by zero gives inf or nan, as in numpy. The result is cached, as `cached` says.
    """
    return cached(function, nogil=True, error_model="numpy")


def compiled_parallel(function: Function) -> Function:
    """Return the function compiled with its `parallel_range` loops spread over threads.

    Only for loops whose iterations share no sum.
    """
    return cached(function, nogil=True, error_model="numpy", parallel=True)


parallel_range: Callable[[int], range] = numba.prange


def read_only(array: NDArray[Scalar], dtype: type[Scalar], what: str, ndim: int) -> NDArray[Scalar]:
    """Return a contiguous view that cannot be written, after checking dtype and dimensions.

    One kind of view also saves compiling a function twice.

    Raises:
        ValueError: another dtype or another number of dimensions.
    """
    if array.dtype != dtype or array.ndim != ndim:
        raise ValueError(
            f"{what} must be {np.dtype(dtype).name} with {ndim} dimensions; "
            f"got {array.dtype} with {array.ndim}"
        )
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
