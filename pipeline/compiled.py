"""How loops are compiled and where the result is kept, for the folders that have compiled loops."""

import sys
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, cast

from lamella.pipeline.private import others_can_change

Function = TypeVar("Function", bound=Callable[..., Any])


def _import_numba() -> Any:
    """Return numba, kept from reading settings in the folder one stands in.

    It would take them from `.numba_config.yaml` there, when it is imported and whenever it
    compiles: how to compile, and a cache folder, whose files it runs. Without a reader of YAML it
    passes that file over with a warning.
    """
    reader = sys.modules.get("yaml")
    sys.modules["yaml"] = cast(Any, None)
    try:
        with warnings.catch_warnings(action="ignore"):
            import numba
    finally:
        del sys.modules["yaml"]
        if reader is not None:
            sys.modules["yaml"] = reader
    numba.core.config._config_fname = ""
    return numba


numba = _import_numba()


def cached(function: Function, **options: Any) -> Function:
    """Return the function compiled by numba, kept on disk for the next process.

    The cache lies beside the source, else in the user's cache folder, or in `NUMBA_CACHE_DIR`.
    Where none of them can be written, or another user could change what lies there, every process
    compiles anew. A cached function calls only those of its own file, because the cache looks at
    no other.
    """
    try:
        made = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no place for a cache
        return cast(Function, numba.njit(**options)(function))
    folder = getattr(getattr(made, "_cache", None), "cache_path", None)
    if folder is not None and others_can_change(folder, like=function.__code__.co_filename):
        return cast(Function, numba.njit(**options)(function))
    return cast(Function, made)
