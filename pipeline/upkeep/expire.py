"""`expire`: let old snapshots go. Their files go with the next `gc`.

A snapshot expires by the creation of its record in `expired/`, and then its file is removed. The
current snapshot, one that is held and one with a tag never expire, except for a picture that must
be forgotten.
"""

import datetime
from dataclasses import dataclass

from lamella.pipeline.errors import InputError
from lamella.pipeline.index.expired import check_there, expired_numbers, snapshot_numbers
from lamella.pipeline.index.promotions import current_promotion, now, read_snapshot
from lamella.pipeline.index.tags import read_tags
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import create_once
from lamella.pipeline.store.protocol import Store
from lamella.schemas.keeping import Expired
from lamella.schemas.snapshot import IndexSnapshot


@dataclass(frozen=True)
class Expiry:
    """The numbers of the snapshots that expired, or would; why each other one stays, by number."""

    expired: tuple[int, ...]
    kept: dict[int, str]


def expire_snapshots(
    store: Store, *, keep_last: int, keep_days: float, dry_run: bool = False
) -> Expiry:
    """Let the snapshots expire that are neither among the last nor young.

    Args:
        keep_last: how many snapshots stay, the newest.
        keep_days: younger ones stay, in days since they were published.
        dry_run: change nothing, only return what would expire.

    Raises:
        CorruptFile: a record is damaged; what had expired before that has.
    """
    if not dry_run:
        finish_expiring(store)
    there = snapshot_numbers(store)
    kept = protected(store)
    kept |= {number: "among the last" for number in there[len(there) - keep_last :] if keep_last}
    gone: list[int] = []
    for number in there:
        if number not in kept:
            if _age_days(read_snapshot(store, number)) < keep_days:
                kept[number] = "young"
            else:
                gone.append(number)
    reason = f"not among the last {keep_last}, {keep_days:g} days old or more"
    if not dry_run:
        for number in gone:
            expire_snapshot(store, number, reason)
    return Expiry(tuple(gone), {n: why for n, why in sorted(kept.items()) if n in there})


def expire_one(store: Store, number: int, *, dry_run: bool = False) -> Expiry:
    """Let one snapshot expire that a person names. Raises as `expire_snapshot`."""
    if dry_run:
        check_there(store, number)
        read_snapshot(store, number)
        _check_may_go(store, number)
    elif number not in finish_expiring(store):
        expire_snapshot(store, number, "asked for by its number")
    return Expiry((number,), {})


def expire_snapshot(store: Store, number: int, reason: str, *, forced: bool = False) -> None:
    """Let one snapshot expire.

    Args:
        forced: also if it is the current one, held or tagged.

    Raises:
        InputError: there is none, it expired before, or it must stay.
    """
    check_there(store, number)
    snapshot = read_snapshot(store, number)
    if not forced:
        _check_may_go(store, number)
    record = Expired(
        number=number, root_digest=snapshot.root_digest, expired_at=now(), reason=reason
    )
    path = tree.EXPIRED.at(number=number)
    create_once(store, path, record.to_json())
    if not forced:
        try:
            _check_may_go(store, number)  # it may have been tagged or promoted meanwhile
        except InputError:
            store.discard(path)
            raise
    store.discard(tree.SNAPSHOT.at(number=number))


def finish_expiring(store: Store) -> list[int]:
    """Remove the files of snapshots that have expired, where a command died before that.

    Returns:
        Their numbers.
    """
    names, gone = set(store.names("snapshots")), sorted(expired_numbers(store))
    half = [n for n in gone if tree.SNAPSHOT.at(number=n).rpartition("/")[2] in names]
    for number in half:
        store.discard(tree.SNAPSHOT.at(number=number))
    return half


def protected(store: Store) -> dict[int, str]:
    """Return the numbers of the snapshots that must not expire, each with the reason."""
    why: dict[int, str] = {}
    for name, number in read_tags(store).items():
        why[number] = f"has the tag {name}"
    if (promotion := current_promotion(store)) is not None:
        why[promotion.snapshot] = "is held" if promotion.held else "is the current one"
    return why


def _check_may_go(store: Store, number: int) -> None:
    if (why := protected(store).get(number)) is None:
        return
    if why.startswith("has"):
        cure = f"remove that first, `lamella tag {store.url} --remove {why.split()[-1]}`"
    else:
        cure = f"promote another one first, `lamella snapshots {store.url} --promote NUMBER`"
    raise InputError(f"snapshot {number} {why}, so it does not expire: {cure}")


def _age_days(snapshot: IndexSnapshot) -> float:
    """Return the age of a snapshot in days; one without a time that can be read is new."""
    try:
        at = datetime.datetime.fromisoformat(snapshot.published_at)
        return (datetime.datetime.fromisoformat(now()) - at).total_seconds() / 86_400.0
    except (ValueError, TypeError):
        return 0.0
