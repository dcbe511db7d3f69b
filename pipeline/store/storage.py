"""Open a store: a local folder or a prefix in S3 that has the marker of a store."""

import contextlib
import errno
import os
import shutil
from pathlib import Path

from lamella.pipeline.errors import CommitConflict, CorruptFile, InputError, MissingFile, StoreError
from lamella.pipeline.store.address import is_s3, parse_s3
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.tree import MARKER, MARKER_BYTES, record_of, tops

__all__ = ["Store", "open_store", "probe_create_only"]


def open_store(url: str, *, create: bool = False, damaged: bool = False) -> Store:
    """Open a store, or create it.

    Args:
        url: a local folder, or `s3://bucket/prefix`.
        create: create the store if there is none, and check that it honours create-only writes,
            on which commits depend. A bucket is never created.
        damaged: also open a store that has records but lost its marker, to verify or repair it.

    Raises:
        InputError: there is no store, or the address is invalid.
        StoreError: the marker is lost; or, with `create`, the store cannot be written, or a second
            create of the same name does not fail.
    """
    store = _place_of(url, create=create)
    if not _is_marked(store):
        if not damaged:
            _check_marker_not_lost(store)
        if damaged and not _has_records(store):
            raise InputError(_no_store(store))
        if not create and not damaged:
            raise InputError(_no_store(store))
    if create:
        probe_create_only(store)
    return store


def check_place(url: str) -> None:
    """Check that a store is at an address, or can be made there. Nothing is written.

    A job calls it before it lists its source, and makes the store after that, so that a wrong call
    leaves nothing behind.

    Raises:
        InputError: the address is invalid.
        StoreError: the marker of a store is lost, or no store can be made there.
    """
    if not is_s3(url) and not (root := _folder_of(url)).is_dir():
        above = next(each for each in root.parents if each.exists())
        if not above.is_dir():
            raise InputError(f"no store can be made at {root}, for {above} is a file: give another")
        if not os.access(above, os.W_OK | os.X_OK):
            raise StoreError(
                f"no store can be made at {root}: {above} cannot be written; change its "
                "permissions, or give another place"
            )
        return
    store = _place_of(url, create=False)
    if not _is_marked(store):
        _check_marker_not_lost(store)


def free_bytes(url: str) -> int | None:
    """Return what is free on the disk of a store that is there or is to be made; None in S3."""
    if is_s3(url):
        return None
    root = _folder_of(url)
    return shutil.disk_usage(next(each for each in (root, *root.parents) if each.exists())).free


def _check_marker_not_lost(store: Store) -> None:
    """Check that a place without a marker has nothing of a store. Raises StoreError: it has."""
    if ours := [f"{top}/" for top in store.folders("") if top in tops()]:
        raise StoreError(
            f"{store.url} holds {', '.join(ours)} and no {MARKER}, by which a store is known: if "
            f"it is one, `lamella repair {store.url}` puts that back; if not, give another place"
        )


def _folder_of(url: str) -> Path:
    """Return the folder of a local store. Raises InputError: it is the address of none."""
    if "://" in url:
        raise InputError(
            f"a store is a local folder or s3://bucket/prefix; got the scheme "
            f"{url.partition('://')[0]!r}"
        )
    if not url or "\0" in url:
        raise InputError(f"a store is a local folder or s3://bucket/prefix; got {url!r}")
    root = Path(url).expanduser().resolve()
    if root.exists() and not root.is_dir():
        raise InputError(f"a store is a folder; {root} is a file: give another path")
    return root


def _place_of(url: str, *, create: bool) -> Store:
    if is_s3(url):
        from lamella.pipeline.store.s3_store import S3Store

        return S3Store(parse_s3(url))
    root = _folder_of(url)
    if not root.is_dir():
        if not create:
            raise InputError(f"there is no store at {root}: make one with `lamella index`")
        root.mkdir(parents=True, exist_ok=True)
    return LocalStore(root)


def _no_store(store: Store) -> str:
    return (
        f"there is no store at {store.url}, for it has no {MARKER}: make one with `lamella index`, "
        "or give what was given to its --into"
    )


def _is_marked(store: Store) -> bool:
    try:
        return store.read(MARKER) == MARKER_BYTES
    except (MissingFile, CorruptFile):
        return False


def _has_records(store: Store) -> bool:
    """Say whether the store has a readable record of a job, a snapshot or a promotion."""
    from lamella.pipeline.store.records import read_record

    for top in ("jobs", "snapshots", "promotions"):
        for name in store.names(top):
            path = f"{top}/{name}"
            if (kind := record_of(path)) is not None:
                with contextlib.suppress(StoreError):
                    read_record(store, path, kind)
                    return True
    return False


def probe_create_only(store: Store) -> None:
    """Create the marker, and check that creating it a second time fails: commits depend on it.

    Raises:
        StoreError: it does not fail, or the store cannot be written.
    """
    try:
        # This fails if the store is not new.
        with contextlib.suppress(CommitConflict):
            store.create(MARKER, MARKER_BYTES)
        try:
            store.create(MARKER, MARKER_BYTES)
        except CommitConflict:
            return
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "an error")
        raise StoreError(
            f"{store.url} cannot be written ({name}): free space or change its permissions"
        ) from error
    raise StoreError(
        f"{store.url} lets a second writer replace a file (create-only is ignored): "
        "commits would not be safe there, choose another store"
    )
