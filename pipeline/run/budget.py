"""Whether what is planned fits into memory."""

from collections.abc import Mapping

from lamella.pipeline.errors import InputError

PROCESS_BYTES = 400 << 20
"""Interpreter, libraries and Ray's share of a worker."""


def check_memory(needed: Mapping[str, int], available: int, what: str, cure: str) -> None:
    """Refuse what cannot fit.

    Args:
        needed: bytes by what holds them.
        available: bytes that a worker has.
        what: is to be made, in words that end with `take` or `takes`.
        cure: what to do about it, beside using fewer workers.

    Raises:
        InputError: a worker has less than is needed.
    """
    total = sum(needed.values())
    if total > available:
        parts = ", ".join(f"{name} {size / 2**30:.2f}" for name, size in needed.items())
        raise InputError(
            f"{what} {total / 2**30:.2f} GiB a worker ({parts}), and a worker has "
            f"{available / 2**30:.2f}: {cure}, or fewer workers on a machine (--workers)"
        )
