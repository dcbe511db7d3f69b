"""Faults at the n-th call of a store: the process dies there, or the disk refuses."""

import contextlib
import functools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal
from unittest import mock

from lamella.pipeline.corpus.listing import Entry
from lamella.pipeline.corpus.reader import EntryReader
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.store.local import LocalStore
from lamella.schemas.refusals import RefusalReason
from tests.builders import Killed

WRITES = ("put", "create", "replace", "discard")
CALLS = (*WRITES, "read", "exists", "size_bytes", "local_path", "names", "folders", "walk")

When = Literal["before", "after"]


@dataclass
class Calls:
    """The calls that were made, in order, and the one at which a fault was injected."""

    made: list[str] = field(default_factory=list)
    struck: str = ""
    inside: threading.local = field(default_factory=threading.local)


@contextlib.contextmanager
def fault_at(
    number: int | None,
    fault: BaseException | None = None,
    *,
    when: When = "before",
    among: tuple[str, ...] = CALLS,
    lasting: bool = False,
) -> Iterator[Calls]:
    """Count the calls of all local stores in this process, and raise at one of them.

    Args:
        number: which of the counted calls, from 0; None counts only.
        fault: what is raised; by default `Killed`, which no handler sees, and which every call
            after it meets as well: the dead clean nothing up.
        when: before the call acts or after it has.
        among: the calls that count.
        lasting: all counted calls from there on raise the fault, as a full disk does.
    """
    calls = Calls()
    dead = False

    def wrap(name: str) -> Any:
        original = getattr(LocalStore, name)

        @functools.wraps(original)
        def call(store: LocalStore, *arguments: Any, **named: Any) -> Any:
            nonlocal dead
            if getattr(calls.inside, "call", False):  # one that another call makes is part of it
                return original(store, *arguments, **named)
            if dead and fault is None:
                raise Killed("the process is dead")
            strikes = name in among and (len(calls.made) == number or (lasting and dead))
            if name in among:
                calls.made.append(f"{name} {arguments[0] if arguments else ''}")
            calls.inside.call = True
            try:
                if strikes and when == "before":
                    dead, calls.struck = True, calls.made[-1]
                    raise fault or Killed(calls.struck)
                try:
                    return original(store, *arguments, **named)
                finally:
                    if strikes:  # also where the store refused: the reply never arrives
                        dead, calls.struck = True, calls.made[-1]
                        raise fault or Killed(calls.struck)
            finally:
                calls.inside.call = False

        return call

    with contextlib.ExitStack() as stack:
        for name in CALLS:
            stack.enter_context(mock.patch.object(LocalStore, name, wrap(name)))
        yield calls


@contextlib.contextmanager
def away(
    *names: str, first_reads: int = 0, reason: RefusalReason = RefusalReason.FETCH_FAILED
) -> Iterator[list[str]]:
    """Let pictures not be had, after their first reads; note what is read."""
    original = EntryReader.read
    reads: list[str] = []

    def read(reader: EntryReader, entry: Entry) -> bytes:
        reads.append(entry.name)
        if entry.name in names and reads.count(entry.name) > first_reads:
            raise Refused(reason, "not now")
        return original(reader, entry)

    with mock.patch.object(EntryReader, "read", read):
        yield reads
