"""Numbered snapshots, and the promotions that say which one queries use.

The highest promotion counts. A promotion is made for what was current when it was decided: the
next number is taken create-only, and who loses it decides again. `jobs.promoting` is the door for
jobs, with the gate; here is what a person decides: promote, roll back, release.
"""

import datetime
import secrets
from dataclasses import dataclass

from lamella.pipeline.errors import CorruptFile, InputError, MissingFile, SnapshotIncomplete
from lamella.pipeline.index.expired import (
    MOST_NUMBER,
    check_there,
    expired_numbers,
    no_snapshot,
)
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import create_once
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import cure, read_record
from lamella.schemas.snapshot import IndexSnapshot, Promotion


def latest_number(store: Store, series: tree.FileKind) -> int:
    """Return the highest number of a series, by probing n + 1; 0 if it is empty.

    Numbers of snapshots that expired count: they are not used again.
    """
    number = max(expired_numbers(store), default=0) if series is tree.SNAPSHOT else 0
    while store.exists(series.at(number=number + 1)):
        number += 1
    return number


def read_snapshot(store: Store, number: int) -> IndexSnapshot:
    """Return a snapshot by number.

    Raises:
        InputError: there is none, or it expired.
    """
    try:
        if not 0 < number < MOST_NUMBER:
            raise MissingFile(f"snapshots are numbered from 1; got {number}")
        return read_record(store, tree.SNAPSHOT.at(number=number), IndexSnapshot)
    except MissingFile:
        raise no_snapshot(store, number) from None


@dataclass(frozen=True)
class Standing:
    """The promotion that counts, and its snapshot."""

    promotion: Promotion
    snapshot: IndexSnapshot


def current_promotion(store: Store) -> Promotion | None:
    """Return the promotion with the highest number, None before the first.

    Raises:
        CorruptFile: it is damaged.
    """
    latest = latest_number(store, tree.PROMOTION)
    return read_record(store, tree.PROMOTION.at(number=latest), Promotion) if latest else None


def standing(store: Store) -> Standing | None:
    """Return the promotion that counts with its snapshot, None before the first.

    Raises:
        CorruptFile: it is damaged, or another snapshot lies under its number.
    """
    promotion = current_promotion(store)
    if promotion is None:
        return None
    snapshot = read_snapshot(store, promotion.snapshot)
    if promotion.root_digest not in ("", snapshot.root_digest):
        path = tree.SNAPSHOT.at(number=snapshot.number)
        raise CorruptFile(
            f"{path} has root digest {snapshot.root_digest[:12]}, promotion {promotion.number} "
            f"names {promotion.root_digest[:12]}: another snapshot was put in its place; "
            f"{cure(store)}"
        )
    return Standing(promotion, snapshot)


def current_snapshot(store: Store) -> IndexSnapshot | None:
    """Return the snapshot that the highest promotion names, or None before the first.

    Raises:
        CorruptFile: as `standing`.
    """
    found = standing(store)
    return None if found is None else found.snapshot


def promote_after(
    store: Store,
    before: Promotion | None,
    snapshot: IndexSnapshot,
    *,
    listed_at: str = "",
    held: bool = False,
    forced: bool = False,
    reason: str = "",
) -> Promotion | None:
    """Promote a snapshot right after the promotion that was current when this was decided.

    Args:
        before: that promotion; None before the first.

    Returns:
        The promotion, None if another writer has made one meanwhile: decide again.

    Raises:
        SnapshotIncomplete: a file that the snapshot names is gone, or has another size.
    """
    _see_all_files(store, snapshot)
    mine = Promotion(
        number=before.number + 1 if before is not None else 1,
        snapshot=snapshot.number,
        root_digest=snapshot.root_digest,
        promoted_at=now(),
        commit_id=secrets.token_hex(8),
        listed_at=listed_at,
        held=held,
        forced=forced,
        reason=reason,
    )
    data = mine.to_json()
    won = create_once(store, tree.PROMOTION.at(number=mine.number), data) == data
    return mine if won else None


def promote(store: Store, number: int) -> Promotion:
    """Make a snapshot the one that queries use, because a person says so.

    No gate, order or hold stands against that. An older snapshot than the current one is a
    rollback, which holds. So does any but the newest snapshot while a hold is on.

    Raises:
        InputError: there is no such snapshot, or it expired.
        SnapshotIncomplete: a file that it names is gone, or has another size.
    """
    chosen = read_snapshot(store, number)
    check_there(store, number)
    while True:
        before = current_promotion(store)
        back = before is not None and number < before.snapshot
        held = back or (
            before is not None and before.held and number < latest_number(store, tree.SNAPSHOT)
        )
        reason = f"rolled back from snapshot {before.snapshot}" if before and back else "by hand"
        listed_at = chosen.listed_at
        made = promote_after(store, before, chosen, listed_at=listed_at, held=held, reason=reason)
        if made is not None:
            return made


def release(store: Store) -> Promotion:
    """End a hold: promote the snapshot that is held once more, without one.

    Raises:
        InputError: nothing is held.
    """
    while True:
        before = current_promotion(store)
        if before is None or not before.held:
            now_current = "there is no promotion yet"
            if before is not None:
                now_current = f"promotion {before.number} of snapshot {before.snapshot} is no hold"
            raise InputError(
                f"{store.url} holds no snapshot back ({now_current}): there is nothing to release"
            )
        made = promote_after(
            store,
            before,
            read_snapshot(store, before.snapshot),
            listed_at=before.listed_at,
            reason=f"released the hold of promotion {before.number}",
        )
        if made is not None:
            return made


def _see_all_files(store: Store, snapshot: IndexSnapshot) -> None:
    files = list(snapshot.files())
    folders = {tree.folder_of(file.path) for file in files}
    sizes = {
        found.path: found.size_bytes
        for folder in sorted(folders)
        for found in store.walk(folder)
        if not found.problem
    }
    for file in files:
        if sizes.get(file.path) != file.size_bytes:
            now_there = f"{sizes[file.path]:,} bytes" if file.path in sizes else "gone"
            raise SnapshotIncomplete(
                f"{file.path} is {now_there}, snapshot {snapshot.number} names it with "
                f"{file.size_bytes:,} bytes, so it is not promoted: `lamella repair {store.url}`, "
                "then give the same command again"
            )
    for segment in snapshot.segments:
        if segment.manifest not in sizes:
            raise SnapshotIncomplete(
                f"{segment.manifest} is gone, snapshot {snapshot.number} names it, so it is not "
                f"promoted: `lamella repair {store.url}`, then give the same command again"
            )


def now() -> str:
    """Return the time in UTC, to the second, as records have it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
