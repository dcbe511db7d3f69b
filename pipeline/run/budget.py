"""Check that what a worker will hold fits into its memory."""

from collections.abc import Mapping

from lamella.pipeline.errors import InputError
from lamella.pipeline.text import byte_size

PROCESS_BYTES = 400 << 20
"""Memory of a worker before it does anything: interpreter, libraries, Ray."""


def check_memory(needed: Mapping[str, int], available: int, what: str, cure: str) -> None:
    """Check that a worker has enough memory.

    Args:
        needed: bytes, by what needs them.
        available: bytes a worker has.
        what: the beginning of the message, such as `a segment takes`.
        cure: what to do about it, besides using fewer workers.

    Raises:
        InputError: a worker needs more than it has.
    """
    total = sum(needed.values())
    if total > available:
        parts = ", ".join(f"{name} {byte_size(size)}" for name, size in needed.items())
        raise InputError(
            f"{what} {byte_size(total)} a worker ({parts}), and a worker has "
            f"{byte_size(available)}: {cure}, or fewer workers on a machine (--workers)"
        )
