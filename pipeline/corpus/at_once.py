"""Run the requests of a listing in threads: each mostly waits for a disk or a server."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")

AT_ONCE = 16

Request = Callable[[], tuple[Iterable[T], "Iterable[Request[T]]"]]
"""What returns some results, and the requests that these lead to."""


def all_at_once(first: Iterable[Request[T]]) -> Iterator[T]:
    """Yield the results of requests and of all that they lead to, in no order.

    The latest are made first, so few wait at a time.
    """
    waiting, running = list(first), set[Future[tuple[Iterable[T], Iterable[Request[T]]]]]()
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        while waiting or running:
            while waiting and len(running) < 2 * AT_ONCE:
                running.add(pool.submit(waiting.pop()))
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                found, more = future.result()
                yield from found
                waiting += more
    finally:
        pool.shutdown(cancel_futures=True)


def in_turn(work: Callable[[T], U], things: Iterable[T]) -> Iterator[U]:
    """Yield the result for each thing, in order; the next few are worked on meanwhile."""
    coming, rest = deque[Future[U]](), iter(things)
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        for thing in rest:
            coming.append(pool.submit(work, thing))
            if len(coming) == 2 * AT_ONCE:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
