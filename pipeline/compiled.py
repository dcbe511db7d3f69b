"""Compile loops with numba, and cache the result where no other user can change it."""

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar, cast

from lamella.pipeline.cores import available_cores
from lamella.pipeline.private import others_can_change

Function = TypeVar("Function", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")

_THREADS = "NUMBA_NUM_THREADS"


def _import_numba() -> Any:
    """Import numba without letting it read settings from the current folder.

    It would read `.numba_config.yaml` there when it is imported and whenever it compiles, and that
    file can name a cache folder whose files numba runs. If it cannot import `yaml`, it skips the
    file with a warning.
    """
    reader = sys.modules.get("yaml")
    sys.modules["yaml"] = cast(Any, None)
    try:
        with warnings.catch_warnings(action="ignore"), _as_many_threads_as_cores():
            import numba
    finally:
        del sys.modules["yaml"]
        if reader is not None:
            sys.modules["yaml"] = reader
    numba.core.config._config_fname = ""
    # It reads the environment again, but only if this differs from what it read last.
    numba.core.config._env_reloader.old_environ = {
        name: value for name, value in os.environ.items() if name.startswith("NUMBA_")
    }
    return numba


@contextmanager
def _as_many_threads_as_cores() -> Iterator[None]:
    """Let numba start no more threads than there are cores, unless the user has said how many.

    It reads the variable when it is imported. Children shall not inherit it: each has its share.
    """
    if _THREADS in os.environ:
        yield
        return
    os.environ[_THREADS] = str(available_cores())
    try:
        yield
    finally:
        del os.environ[_THREADS]


numba = _import_numba()


def cached(function: Function, **options: Any) -> Function:
    """Return the function compiled by numba, with a cache on disk for later processes.

    The cache is next to the source, else in the user's cache folder, or in `NUMBA_CACHE_DIR`. If
    none can be written, or another user could change the cache, every process compiles again. A
    cached function must only call functions in its own file, because the cache does not notice
    changes of others.
    """
    try:
        made = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no place for a cache
        return cast(Function, numba.njit(**options)(function))
    folder = cache_folder(made)
    if folder is not None and others_can_change(folder, like=function.__code__.co_filename):
        return cast(Function, numba.njit(**options)(function))
    return cast(Function, made)


def cache_folder(function: Callable[..., Any]) -> str | None:
    """Return where a function that `cached` returned is kept on disk, None if nowhere."""
    folder = getattr(getattr(function, "_cache", None), "cache_path", None)
    return None if folder is None else str(folder)


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function compiled for one thread, which runs without the interpreter's lock.

    No fastmath: sums keep the order in which they are written, and products and sums are rounded
    separately, whatever the processor. Division by zero gives inf or nan, as in numpy. No parallel
    loops: two threads must not enter numba's thread pool at once.
    """
    return cached(function, nogil=True, error_model="numpy")


def compiled_parallel(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function compiled with its `parallel_range` loops spread over threads.

    Only for loops whose iterations share no sum.
    """
    return cached(function, nogil=True, error_model="numpy", parallel=True)


parallel_range: Callable[[int], range] = numba.prange
