"""Listing a source: a folder, a list file, Parquet files, or WebDataset tars."""

import os
import stat
from collections.abc import Iterator

from pipeline.corpus.containers import list_parquet, list_tar
from pipeline.corpus.formats import has_picture_name
from pipeline.corpus.listing import Entry, Listing, file_facts, local_path, storable
from pipeline.errors import InputError
from schemas.refusals import RefusalReason

__all__ = ["Entry", "Listing", "list_source"]

_TAR = (".tar",)
_PARQUET = (".parquet", ".pq")
_LIST = (".txt", ".lst")
_PACKED_TAR = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def list_source(source: str) -> Listing:
    """Return what a source holds, in a fixed order, without opening any picture.

    A folder is listed with all below it. Names that start with a dot are left out; a linked file
    is followed as long as it stays in the folder, a linked folder never. A folder that holds only
    tars, or only Parquet files, is a WebDataset or a Parquet data set. A list file (.txt, .lst)
    names one path a line, relative to its own folder; blank lines and lines that start with "#"
    are left out. Any other file is a folder of one.

    Raises:
        InputError: the source is missing, unreadable, empty or damaged, or names what is not local.
    """
    try:
        path = os.path.abspath(local_path(source))
        is_folder = stat.S_ISDIR(os.stat(path).st_mode)
    except (OSError, ValueError) as error:
        raise InputError(f"source {source} cannot be opened: {_why(error)}") from error
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
        raise InputError(f"source {source} holds no files to index: give one that holds pictures")
    return listing


def _list_folder(root: str) -> Listing:
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
    path = os.path.join(root, name)
    stored, fault = storable(name)
    if os.path.islink(path):
        real_root = os.path.realpath(root)
        if os.path.commonpath([real_root, os.path.realpath(path)]) != real_root:
            fault = fault or RefusalReason.OUTSIDE_SOURCE
    size_bytes, modified_ns = (-1, 0) if fault else file_facts(path)
    return Entry(stored, "", 0, size_bytes, modified_ns, fault)


def _list_lines(root: str, name: str) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    try:
        with open(os.path.join(root, name), "rb") as handle:
            lines = handle.read().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise InputError(f"list {name} cannot be read: {_why(error)}") from error
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith(b"#"):
            continue
        try:
            path = local_path(text.decode("utf-8", "surrogateescape"))
        except ValueError as error:
            raise InputError(f"list {name}, line {number}: {error}") from error
        stored, fault = storable(path)
        size_bytes, modified_ns = (-1, 0) if fault else file_facts(os.path.join(root, path))
        entries.append(Entry(stored, "", 0, size_bytes, modified_ns, fault))
    return tuple(sorted(entries, key=lambda entry: entry.name.encode()))


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
