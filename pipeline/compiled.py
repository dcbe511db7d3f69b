"""How loops are compiled and where the result is kept, for the folders that have compiled loops."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def cached(function: Function, **options: Any) -> Function:
    """Return the function compiled by numba, kept on disk for the next process.

    The cache lies beside the source, else in the user's cache folder, or in `NUMBA_CACHE_DIR`.
    Where none of them can be written, every process compiles anew. A cached function calls only
    those of its own file, because the cache looks at no other.
    """
    try:
        return cast(Function, numba.njit(cache=True, **options)(function))
    except RuntimeError:  # numba found no place for a cache
        return cast(Function, numba.njit(**options)(function))
