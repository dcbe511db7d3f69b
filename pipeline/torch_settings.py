"""Change PyTorch's global settings, one thread at a time."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Setting = tuple[Any, str, object]
"""The object that has the setting, its name, and its value."""

_TURN = threading.Lock()


@contextmanager
def settings(wanted: Sequence[Setting]) -> Iterator[None]:
    """Change settings for the block and restore them; only one thread can be in such a block.

    If extraction assigns words itself, the network and the search for words share a process and
    need products of different precision.
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
