"""A command that dies at its n-th store call, for every n, leaves the old state or the new one."""

import contextlib
import errno
import functools
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lamella.pipeline.errors import LamellaError
from lamella.pipeline.index.promotions import current_snapshot
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.upkeep.verify import verify_store
from tests.builders import Killed
from tests.end_to_end.commands import COMMANDS, Stores
from tests.faulty import CALLS, WRITES, When, fault_at
from tests.tiny import seeded

FAULTS = (errno.ENOSPC, errno.EACCES, errno.EIO)

everywhere = pytest.mark.parametrize(
    "every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["one place", "everywhere"]
)
commands = pytest.mark.parametrize("name", COMMANDS)


def places(count: int, every: bool, name: str) -> Iterable[int]:
    """Return which calls are tried: all until the command completes, or a seeded one."""
    # Files are read by several threads, so that a call more or less may be made in all.
    return range(2 * count) if every else [seeded(name).randrange(count)]


def current(store: Path) -> tuple[int, str] | None:
    found = current_snapshot(LocalStore(store))
    return (found.number, found.root_digest) if found else None


@dataclass(frozen=True)
class Whole:
    """What a command does undisturbed: its calls, what it gives, the snapshots before and after."""

    calls: tuple[str, ...]
    result: Any
    snapshots: set[tuple[int, str] | None]

    def count(self, among: tuple[str, ...]) -> int:
        """Return how many calls it makes of these."""
        return sum(call.split(" ")[0] in among for call in self.calls)


@pytest.fixture(scope="module")
def undisturbed(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Whole]:
    """Each command is run once undisturbed, when it is first asked for."""

    @functools.cache
    def run(name: str) -> Whole:
        place = tmp_path_factory.mktemp("whole") / "store"
        store = COMMANDS[name].begin(stores, place)
        before = current(store)
        with fault_at(None) as calls:
            result = COMMANDS[name].run(stores, store)
        return Whole(tuple(calls.made), result, {before, current(store)})

    return run


def is_whole(store: Path) -> bool:
    found = verify_store(LocalStore(store))
    assert not found.damage, found.damage
    return True


@everywhere
@commands
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_command_that_dies_at_any_store_call_goes_on_as_if_nothing_was(
    name: str,
    when: When,
    every: bool,
    stores: Stores,
    undisturbed: Callable[[str], Whole],
    tmp_path: Path,
) -> None:
    # After a call that only reads, dying is dying before the next one.
    among = CALLS if when == "before" else WRITES
    whole = undisturbed(name)
    count, tried = whole.count(among), 0
    for number in places(count, every, f"{name} {when}"):
        store = COMMANDS[name].begin(stores, tmp_path / f"{number}")
        with contextlib.suppress(Killed), fault_at(number, when=when, among=among) as calls:
            COMMANDS[name].run(stores, store)
        if not calls.struck:
            assert number > 0.9 * count - 1, "the command made fewer calls than before"
            break
        tried += 1
        assert current(store) in whole.snapshots, calls.struck
        assert COMMANDS[name].damaged or is_whole(store), calls.struck
        assert COMMANDS[name].run(stores, store) == whole.result, calls.struck
        assert current(store) in whole.snapshots, calls.struck
        assert is_whole(store), calls.struck
        shutil.rmtree(store)
    print(f"{name}: died {when} {tried} of {count} calls")


@everywhere
@commands
def test_a_disk_that_refuses_any_write_is_one_error_and_nothing_half_written(
    name: str,
    every: bool,
    stores: Stores,
    undisturbed: Callable[[str], Whole],
    tmp_path: Path,
) -> None:
    whole = undisturbed(name)
    count, tried = whole.count(WRITES), 0
    for number in range(count) if every else places(count, every, name):
        if number >= count:
            break
        for code in FAULTS if every else FAULTS[number % 3 :][:1]:
            store = COMMANDS[name].begin(stores, tmp_path / f"{number}-{code}")
            fault = OSError(code, os.strerror(code))
            with (
                pytest.raises((LamellaError, OSError)) as caught,
                fault_at(number, fault, among=WRITES, lasting=True) as calls,
            ):
                COMMANDS[name].run(stores, store)
            tried += 1
            said = str(caught.value)
            assert os.strerror(code) in said or errno.errorcode[code] in said, calls.struck
            assert "\n" not in said
            assert current(store) in whole.snapshots, calls.struck
            assert COMMANDS[name].damaged or is_whole(store), calls.struck
            assert COMMANDS[name].run(stores, store) == whole.result, calls.struck
            assert is_whole(store), calls.struck
            shutil.rmtree(store)
    print(
        f"{name}: {tried} faults at {count} writes, refused by a full disk, permissions, the device"
    )
