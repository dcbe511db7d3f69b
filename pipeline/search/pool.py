"""Threads that are kept from one search to the next: to start some takes milliseconds."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def run_tasks(
    function: Callable[[Task], Result], tasks: Sequence[Task], threads: int
) -> list[Result]:
    """Return what a function gives for each task, in order.

    Tasks must not run tasks themselves. One thread is the one that calls.

    Args:
        threads: that work at once; tasks of many callers share them.
    """
    if threads == 1 or len(tasks) < 2:
        return [function(task) for task in tasks]
    return list(_pool(threads, os.getpid()).map(function, tasks))


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Return threads of this process: a forked one has none of its parent's."""
    return ThreadPoolExecutor(threads, "search")
