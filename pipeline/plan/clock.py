"""Seconds of one thread: what a piece of work costs, however many cores took part in it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Cost:
    """Seconds of one thread, known when the block is left."""

    seconds = 0.0


@contextmanager
def costing() -> Iterator[Cost]:
    """Add up the processor time of all threads of this process inside the block.

    Where it took longer by the clock on the wall (it waited for a disk, or a GPU), that counts.
    """
    cost = Cost()
    wall, processor = time.perf_counter(), time.process_time()
    yield cost
    cost.seconds = max(time.perf_counter() - wall, time.process_time() - processor)
