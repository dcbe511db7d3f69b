"""Snapshots that have expired: their numbers stay taken, and say when and why they went.

A snapshot expires when its record in `expired/` is created; its own file is removed after that. A
command that died between the two leaves the file, which the next `expire` or `gc` removes.
"""

from lamella.pipeline.errors import InputError, MissingFile
from lamella.pipeline.store import tree
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import read_record
from lamella.schemas.keeping import Expired

MOST_NUMBER = 10**9


def expired_numbers(store: Store) -> set[int]:
    """Return the numbers of the snapshots that expired; of damaged records too."""
    return _numbers(store, tree.EXPIRED, "expired")


def snapshot_numbers(store: Store) -> list[int]:
    """Return the numbers of the snapshots that are there and have not expired, rising."""
    return sorted(_numbers(store, tree.SNAPSHOT, "snapshots") - expired_numbers(store))


def _numbers(store: Store, series: tree.FileKind, top: str) -> set[int]:
    found = (series.form.read(f"{top}/{name}") for name in store.names(top))
    numbers = {int(parts["number"]) for parts in found if parts is not None}
    return {number for number in numbers if 0 < number < MOST_NUMBER}


def check_there(store: Store, number: int) -> None:
    """Check that a snapshot has not expired.

    Raises:
        InputError: it has.
    """
    if store.exists(tree.EXPIRED.at(number=number)):
        raise no_snapshot(store, number)


def no_snapshot(store: Store, number: int) -> InputError:
    """Return the error for a number under which there is no snapshot, or one that expired."""
    try:
        record = read_record(store, tree.EXPIRED.at(number=max(number, 0)), Expired)
    except MissingFile:
        return InputError(f"there is no snapshot {number} in {store.url}: see `lamella snapshots`")
    when = record.expired_at[:10]
    return InputError(
        f"snapshot {number} expired on {when} ({record.reason}): see `lamella snapshots "
        f"{store.url}` for those that are there"
    )
