"""List a source: a folder, a list file, Parquet files, or WebDataset tars; local or in S3."""

import logging
import os
import re
import stat
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from lamella.pipeline.corpus.containers import list_parquet, list_tar
from lamella.pipeline.corpus.formats import has_picture_name
from lamella.pipeline.corpus.listing import Entry, Listing, numbered, storable
from lamella.pipeline.corpus.locations import (
    facts_of,
    facts_of_all,
    is_s3,
    named_by,
    objects_under,
    open_place,
    place_of,
    version,
)
from lamella.pipeline.corpus.passed_over import (
    FOLDER_LINKS,
    HIDDEN,
    LINKS,
    NO_FILES,
    TABLES,
    advice,
    few_kinds,
    in_words,
    kind_of,
)
from lamella.pipeline.errors import InputError
from lamella.pipeline.store.address import parse_s3
from lamella.schemas.corpus import SourceKind
from lamella.schemas.refusals import RefusalReason

log = logging.getLogger("lamella.corpus")

__all__ = ["Entry", "Listing", "list_source"]

_TAR = (".tar",)
_PARQUET = (".parquet", ".pq")
_LIST = (".txt", ".lst")
_NOTE = re.compile(
    r"(^|/)(_[^/]*|readme[^/]*|licen[cs]e[^/]*|[^/]*\.(md|txt|json|ya?ml|csv|tsv|crc|log))$",
    re.IGNORECASE,
)
"""Names of notes that writers of data sets leave beside tars and Parquet files."""

MOST_LINE_BYTES = 65536
"""A longer line is no path, so the file is no list."""

_PACKED_TAR = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def list_source(source: str) -> Listing:
    """Return what a source holds, in a fixed order, without opening any picture.

    A folder is listed with its subfolders. Names that start with a dot are passed over; a linked
    file is followed as long as it stays in the folder, a linked folder never. A folder that holds
    only tars, or only Parquet files, is a WebDataset or a Parquet data set, whatever notes lie
    beside them. Beside other files tars and Parquet files are passed over, with a warning. A list
    file (.txt, .lst) names one path a line, relative to its own folder; blank lines and lines that
    start with "#" are left out. Any other file is like a folder with one file. In S3 a prefix is a
    folder, and there are no links.

    Args:
        source: a local path, a file:// address, or s3://bucket/prefix.

    Raises:
        InputError: the source is missing, unreadable, empty or damaged, or has an address of
            another kind.
        StoreError: S3 does not answer, or denies access.
    """
    began = time.time_ns()
    path, is_folder = _find(source)
    if is_folder:
        listing = _list_folder(path)
    else:
        root, name = os.path.split(path)
        lowered = name.lower()
        if lowered.endswith(_PACKED_TAR):
            raise InputError(f"tar {source} is compressed, so it has no random access: unpack it")
        if lowered.endswith(_TAR):
            inside: Counter[str] = Counter()
            members = tuple(list_tar(root, name, inside))
            listing = Listing("webdataset", root, members, few_kinds(inside))
        elif lowered.endswith(_PARQUET):
            listing = Listing("parquet", root, tuple(list_parquet(root, name)))
        elif lowered.endswith(_LIST):
            listing = Listing("list", root, _list_lines(root, name))
        else:
            listing = Listing("folder", root, (_plain_file(root, name),))
    if (said := advice(Counter(listing.passed_over) + _by_ending(listing))) is not None:
        log.warning("%s: %s", source, said)
    if not listing.entries:
        kinds = in_words(listing.passed_over)
        beside = f" but {kinds}" if kinds else ""
        raise InputError(f"source {source} holds no files{beside}: give one that holds pictures")
    unsure = sum(entry.version is None for entry in listing.entries)
    if unsure:
        log.warning(
            "%s: the server gives neither ETag nor time for %s objects, so each of them is read "
            "every time",
            source,
            f"{unsure:,}",
        )
    entries = tuple(numbered(listing.entries))
    return replace(listing, entries=entries, listed_ns=began)


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


def _by_ending(listing: Listing) -> Counter[str]:
    """Count the files of a folder or of tars by ending; nothing for lists and rows."""
    if listing.kind not in ("folder", "webdataset"):
        return Counter()
    return Counter(kind_of(entry.name) for entry in listing.entries)


def _folder_entries(root: str, passed_over: Counter[str]) -> list[Entry]:
    """Return the entries of a local folder; count everything else by kind."""
    entries: list[Entry] = []
    try:
        for name, other in _walk(root):
            if other is None:
                entries.append(_plain_file(root, name))
            else:
                passed_over[other] += 1
    except OSError as error:
        raise InputError(f"folder {error.filename} cannot be listed: {_why(error)}") from error
    return entries


def _prefix_entries(root: str, passed_over: Counter[str]) -> list[Entry]:
    entries: list[Entry] = []
    for name, facts in objects_under(root):
        parts = name.split("/")
        if any(part.startswith(".") for part in parts):
            passed_over[HIDDEN] += 1
        else:
            stored, fault = storable(name)
            # Such a name is no path below the prefix; `s3://other/a.jpg` would even leave it.
            fault = RefusalReason.OUTSIDE_SOURCE if "" in parts else fault
            size_bytes, changed = (-1, 0) if fault else (facts.size_bytes, version(facts))
            entries.append(Entry(stored, "", 0, size_bytes, changed, fault))
    return entries


def _list_folder(root: str) -> Listing:
    passed_over: Counter[str] = Counter()
    find = _prefix_entries if is_s3(root) else _folder_entries
    entries = find(root, passed_over)
    entries.sort(key=lambda entry: entry.name.encode())
    for suffixes in (_TAR, _PARQUET):
        containers, others = _containers(entries, suffixes)
        if containers:
            for entry in others:
                kind = kind_of(entry.name)
                passed_over[TABLES if kind == "parquet" else kind] += 1
            return _list_containers(root, containers, suffixes, passed_over)
    # A link out of the folder is refused only where its name is that of a picture.
    kept = [entry for entry in entries if not entry.fault or has_picture_name(entry.name)]
    if len(kept) < len(entries):
        passed_over[LINKS] += len(entries) - len(kept)
    return Listing("folder", root, tuple(kept), few_kinds(passed_over))


def _containers(
    entries: Sequence[Entry], suffixes: tuple[str, ...]
) -> tuple[list[Entry], list[Entry]]:
    """Return the files of these endings, and the others; none where the others may be pictures.

    Notes may lie beside them, and beside tars Parquet files of their names: so img2dataset tells
    where its pictures came from.
    """
    found = [entry for entry in entries if entry.name.lower().endswith(suffixes)]
    others = [entry for entry in entries if not entry.name.lower().endswith(suffixes)]
    stems = {os.path.splitext(entry.name)[0] for entry in found}
    for entry in others:
        stem, ending = os.path.splitext(entry.name)
        if not (_NOTE.search(entry.name) or (ending == ".parquet" and stem in stems)):
            return [], []
    return found, others


def _list_containers(
    root: str, containers: Sequence[Entry], suffixes: tuple[str, ...], passed_over: Counter[str]
) -> Listing:
    kind: SourceKind = "webdataset" if suffixes == _TAR else "parquet"
    parts: list[Entry] = []
    for entry in containers:
        if entry.fault:
            raise InputError(f"{kind} file {entry.name}: {entry.fault.meaning}")
        if kind == "webdataset":
            parts += list_tar(root, entry.name, passed_over)
        else:
            parts += list_parquet(root, entry.name)
    return Listing(kind, root, tuple(parts), few_kinds(passed_over))


def _walk(root: str) -> Iterator[tuple[str, str | None]]:
    """Yield (name under root, None) of all files to list, and of all else its kind."""

    def fail(error: OSError) -> None:
        raise error

    for folder, folders, files in os.walk(root, onerror=fail):
        for name in (*folders, *files):
            if name.startswith("."):
                yield name, HIDDEN
        folders[:] = [name for name in folders if not name.startswith(".")]
        prefix = os.path.relpath(folder, root)
        for name in folders:
            if os.path.islink(os.path.join(folder, name)):
                yield name, FOLDER_LINKS
        for name in files:
            if not name.startswith("."):
                below = name if prefix == "." else f"{prefix}/{name}"
                is_file = _is_file_or_broken_link(os.path.join(folder, name))
                yield below, None if is_file else NO_FILES


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
    size_bytes, changed = (-1, 0) if fault else facts_of(path)
    return Entry(stored, "", 0, size_bytes, changed, fault)


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
