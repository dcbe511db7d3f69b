"""Measure the cost of a piece of work in seconds of one thread, however many cores shared it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Cost:
    """Seconds of one thread, set at the end of the block."""

    seconds = 0.0


@contextmanager
def costing() -> Iterator[Cost]:
    """Measure the processor time of all threads of this process in the block.

    If wall-clock time is longer, because the block waited for a disk or a GPU, that is the cost.
    """
    cost = Cost()
    wall, processor = time.perf_counter(), time.process_time()
    yield cost
    cost.seconds = max(time.perf_counter() - wall, time.process_time() - processor)
