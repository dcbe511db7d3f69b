"""PyTorch's settings of the whole process, which no thread may change under another."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Setting = tuple[Any, str, object]
"""Who holds it, its name, and the value that is wanted."""

_TURN = threading.Lock()


@contextmanager
def settings(wanted: Sequence[Setting]) -> Iterator[None]:
    """Have settings inside the block and set them back; such blocks are one after the other.

    A network's pass and the search for words share a process when pictures become words in one
    pass, and they want products of other precisions.
    """
    with _TURN:
        before = [(holder, name, getattr(holder, name)) for holder, name, _ in wanted]
        try:
            for holder, name, value in wanted:
                setattr(holder, name, value)
            yield
        finally:
            for holder, name, value in before:
                setattr(holder, name, value)
