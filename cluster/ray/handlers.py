"""Keep this process's handlers of signals while Ray's client starts and ends.

Ray installs one in Python that ends the process without a word, and its compiled part one that
prints the stack and crashes, both for SIGTERM. As its compiled part ends, it leaves no handler, and
then takes seconds to end its processes.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._private import utils
from ray._private import worker as driver

from lamella.cluster.signals import ENDING


@contextmanager
def kept_at_start() -> Iterator[None]:
    """Start or join Ray inside the block; this process's handlers stay."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {each: signal.getsignal(each) for each in ENDING}
    client = ray._raylet.CoreWorker

    def start(*arguments: Any, **named: Any) -> Any:
        # Ray's processes have started by now; later ones would inherit the blocked signals.
        with _blocked(handlers):
            return client(*arguments, **named)

    with (
        replaced(utils, "set_sigterm_handler", lambda handler: None),
        replaced(ray._raylet, "CoreWorker", start),
    ):
        yield


@contextmanager
def kept_at_end() -> Iterator[None]:
    """End Ray, or leave it, inside the block; this process's handlers stay."""
    node = driver._global_node
    if threading.current_thread() is not threading.main_thread() or node is None:
        yield
        return
    handlers = {each: signal.getsignal(each) for each in ENDING}
    end = node.kill_all_processes

    def begin(*arguments: Any, **named: Any) -> Any:
        _install(handlers)  # the compiled part has ended
        return end(*arguments, **named)

    with replaced(node, "kill_all_processes", begin):
        try:
            yield
        finally:
            _install(handlers)


@contextmanager
def replaced(where: Any, name: str, value: Any) -> Iterator[None]:
    """Have another value under a name inside the block."""
    before = getattr(where, name)
    setattr(where, name, value)
    try:
        yield
    finally:
        setattr(where, name, before)


@contextmanager
def _blocked(handlers: dict[signal.Signals, Any]) -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        _install(handlers)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _install(handlers: dict[signal.Signals, Any]) -> None:
    for each, handler in handlers.items():
        if handler is not None:  # not one of Python's
            signal.signal(each, handler)
