"""Work that is done in a thread beside its caller: one piece after the other, one waiting."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

Piece = Callable[[], None]
Do = Callable[[Piece], None]
"""Has a piece of work done, at once or later, each after those that were given before."""


def at_once(piece: Piece) -> None:
    """Do a piece of work in the thread that asks."""
    piece()


class Beside:
    """One thread that does pieces of work in the order in which they are given.

    At most one piece waits while another is done: whoever gives a third waits too, so that no
    more than two are in memory. What fails is raised at a later piece, or at the end.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._given: deque[Future[None]] = deque()

    def do(self, piece: Piece) -> None:
        """Have a piece done; waits while another one waits.

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
        """Wait for what was given; after an error of the caller for what is being done alone."""
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None:
            while self._given:
                self._given.popleft().result()
