"""Listing a source: a folder, a list file, Parquet files, or WebDataset tars; local or in S3."""

import os
import stat
from collections.abc import Iterator

from pipeline.corpus.containers import list_parquet, list_tar
from pipeline.corpus.formats import has_picture_name
from pipeline.corpus.listing import Entry, Listing, storable
from pipeline.corpus.places import (
    facts_of,
    facts_of_all,
    is_s3,
    named_by,
    objects_under,
    open_place,
    place_of,
    version,
)
from pipeline.errors import InputError
from pipeline.store.address import parse_s3
from schemas.refusals import RefusalReason

__all__ = ["Entry", "Listing", "list_source"]

_TAR = (".tar",)
_PARQUET = (".parquet", ".pq")
_LIST = (".txt", ".lst")
MOST_LINE_BYTES = 65536
"""A longer line is no path: the file is no list."""

_PACKED_TAR = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def list_source(source: str) -> Listing:
    """Return what a source holds, in a fixed order, without opening any picture.

    A folder is listed with all below it. Names that start with a dot are left out; a linked file
    is followed as long as it stays in the folder, a linked folder never. A folder that holds only
    tars, or only Parquet files, is a WebDataset or a Parquet data set. A list file (.txt, .lst)
    names one path a line, relative to its own folder; blank lines and lines that start with "#"
    are left out. Any other file is a folder of one. In S3 a prefix is a folder, and there are no
    links.

    Args:
        source: a local path, a file:// address, or s3://bucket/prefix.

    Raises:
        InputError: the source is missing, unreadable, empty or damaged, or names what is not read.
        StoreError: S3 does not answer, or does not admit us.
    """
    path, is_folder = _find(source)
    if is_folder:
        listing = _list_folder(path)
    else:
        root, name = os.path.split(path)
        lowered = name.lower()
        if lowered.endswith(_PACKED_TAR):
            raise InputError(f"tar {source} is compressed, so it has no random access: unpack it")
        if lowered.endswith(_TAR):
            listing = Listing("webdataset", root, tuple(list_tar(root, name)))
        elif lowered.endswith(_PARQUET):
            listing = Listing("parquet", root, tuple(list_parquet(root, name)))
        elif lowered.endswith(_LIST):
            listing = Listing("list", root, _list_lines(root, name))
        else:
            listing = Listing("folder", root, (_plain_file(root, name),))
    if not listing.entries:
        raise InputError(f"source {source} holds no files: give one that holds pictures")
    return listing


def source_root(source: str) -> str:
    """Return the root of the names in a source: itself if it is a folder, else its folder.

    Raises:
        InputError: it is missing or unreadable.
    """
    path, is_folder = _find(source)
    return path if is_folder else os.path.dirname(path)


def _find(source: str) -> tuple[str, bool]:
    try:
        return _look_up(source)
    except (OSError, ValueError) as error:
        raise InputError(f"source {source} cannot be opened: {_why(error)}") from error


def _look_up(source: str) -> tuple[str, bool]:
    """Return the place of a source, and whether it is a folder."""
    if not is_s3(source):
        path = os.path.abspath(named_by("/", source))
        return path, stat.S_ISDIR(os.stat(path).st_mode)
    address = parse_s3(source)
    is_object = not source.endswith("/") and address.prefix and facts_of(address.url)[0] >= 0
    return address.url, not is_object


def _folder_entries(root: str) -> tuple[list[Entry], int]:
    """Return the entries of a local folder, and how much else there is in it."""
    entries: list[Entry] = []
    skipped = 0
    try:
        for name, is_file in _walk(root):
            if is_file:
                entries.append(_plain_file(root, name))
            else:
                skipped += 1
    except OSError as error:
        raise InputError(f"folder {error.filename} cannot be listed: {_why(error)}") from error
    return entries, skipped


def _prefix_entries(root: str) -> list[Entry]:
    entries: list[Entry] = []
    for name, facts in objects_under(root):
        parts = name.split("/")
        if not any(part.startswith(".") for part in parts):
            stored, fault = storable(name)
            # Such a name is no path below the prefix: `s3://other/a.jpg` would even lead elsewhere.
            fault = RefusalReason.OUTSIDE_SOURCE if "" in parts else fault
            size_bytes, modified = (-1, 0) if fault else (facts.size_bytes, version(facts))
            entries.append(Entry(stored, "", 0, size_bytes, modified, fault))
    return entries


def _list_folder(root: str) -> Listing:
    entries, skipped = (_prefix_entries(root), 0) if is_s3(root) else _folder_entries(root)
    entries.sort(key=lambda entry: entry.name.encode())
    for suffixes, kind, list_one in (
        (_TAR, "webdataset", list_tar),
        (_PARQUET, "parquet", list_parquet),
    ):
        if entries and all(entry.name.lower().endswith(suffixes) for entry in entries):
            for entry in entries:
                if entry.fault:
                    raise InputError(f"{kind} file {entry.name}: {entry.fault.meaning}")
            parts = tuple(part for entry in entries for part in list_one(root, entry.name))
            return Listing("webdataset" if kind == "webdataset" else "parquet", root, parts)
    # A link out of the folder is worth a refusal only where it would have been a picture.
    kept = [entry for entry in entries if not entry.fault or has_picture_name(entry.name)]
    return Listing("folder", root, tuple(kept), skipped + len(entries) - len(kept))


def _walk(root: str) -> Iterator[tuple[str, bool]]:
    """Yield (name under root, whether it is a file to list) of all that is not hidden."""

    def fail(error: OSError) -> None:
        raise error

    for folder, folders, files in os.walk(root, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        prefix = os.path.relpath(folder, root)
        for name in folders:
            if os.path.islink(os.path.join(folder, name)):
                yield name, False
        for name in files:
            if not name.startswith("."):
                below = name if prefix == "." else f"{prefix}/{name}"
                yield below, _is_file_or_broken_link(os.path.join(folder, name))


def _is_file_or_broken_link(path: str) -> bool:
    # Opening a pipe would wait for ever, so pipes, sockets and devices are not listed.
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return True


def _plain_file(root: str, name: str) -> Entry:
    path = place_of(root, name)
    stored, fault = storable(name)
    if not is_s3(path) and os.path.islink(path):
        real_root = os.path.realpath(root)
        if os.path.commonpath([real_root, os.path.realpath(path)]) != real_root:
            fault = fault or RefusalReason.OUTSIDE_SOURCE
    size_bytes, modified_ns = (-1, 0) if fault else facts_of(path)
    return Entry(stored, "", 0, size_bytes, modified_ns, fault)


def _list_lines(root: str, name: str) -> tuple[Entry, ...]:
    found: list[tuple[str, RefusalReason | None, str]] = []
    try:
        for number, line in _lines(root, name):
            text = line.strip()
            if text and not text.startswith(b"#"):
                try:
                    path = named_by(root, text.decode("utf-8", "surrogateescape"))
                except ValueError as error:
                    raise InputError(f"list {name}, line {number}: {error}") from error
                found.append((*storable(path), path))
    except OSError as error:
        raise InputError(f"list {name} cannot be read: {_why(error)}") from error
    facts = iter(facts_of_all([place_of(root, path) for _, fault, path in found if not fault]))
    entries = (
        Entry(stored, "", 0, *((-1, 0) if fault else next(facts)), fault)
        for stored, fault, _ in found
    )
    return tuple(sorted(entries, key=lambda entry: entry.name.encode()))


def _lines(root: str, name: str) -> Iterator[tuple[int, bytes]]:
    """Yield (number, line) of a list, however large it is."""
    with open_place(place_of(root, name)) as handle:
        number = 0
        while line := handle.readline(MOST_LINE_BYTES + 1):
            number += 1
            if len(line) > MOST_LINE_BYTES:
                raise InputError(
                    f"list {name}, line {number}: more than {MOST_LINE_BYTES:,} bytes; "
                    "a list names one path a line"
                )
            yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
