"""Run pieces of work in a background thread, in order, with at most one waiting."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

Piece = Callable[[], None]
Do = Callable[[Piece], None]
"""Runs a piece of work, now or later, after all pieces given before."""


def at_once(piece: Piece) -> None:
    """Run a piece of work in the caller's thread."""
    piece()


class Beside:
    """A thread that runs pieces of work in the order given.

    At most one piece waits while another runs: giving a third blocks, so no more than two are in
    memory. An error is raised at a later piece, or at the end.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._given: deque[Future[None]] = deque()

    def do(self, piece: Piece) -> None:
        """Give a piece of work; blocks while another one waits.

        Raises:
            Exception: an earlier piece failed.
        """
        while len(self._given) > 1:
            self._given.popleft().result()
        self._given.append(self._pool.submit(piece))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for all pieces; after an error of the caller only for the running one."""
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None:
            while self._given:
                self._given.popleft().result()
