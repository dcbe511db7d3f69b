"""The one way this project compiles a loop: numba, without any licence to reorder arithmetic."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])
Scalar = TypeVar("Scalar", bound=np.generic)


def compiled(function: Function) -> Function:
    """Return the function compiled for one thread.

    No fastmath: a sum keeps the order in which it is written, whatever the processor. Division
    by zero gives inf or nan, as in numpy. The result is cached beside the source. A compiled
    function calls only those of its own file, because the cache looks at no other.
    """
    return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def compiled_parallel(function: Function) -> Function:
    """Return the function compiled with its `parallel_range` loops spread over threads.

    Only loops whose turns share no sum may be written so.
    """
    return cast(
        Function, numba.njit(cache=True, nogil=True, error_model="numpy", parallel=True)(function)
    )


parallel_range: Callable[[int], range] = numba.prange


def read_only(array: NDArray[Scalar], dtype: type[Scalar], what: str, ndim: int) -> NDArray[Scalar]:
    """Return a contiguous view that cannot be written, after checking dtype and dimensions.

    Views of one kind also keep compiled functions from being compiled twice.

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
