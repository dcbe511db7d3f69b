"""List a source: a folder, a list file, Parquet files, or WebDataset tars; local or in S3."""

import logging
import os
import re
import stat
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from lamella.pipeline.corpus.containers import compressed, list_parquet, list_tar
from lamella.pipeline.corpus.formats import has_picture_name
from lamella.pipeline.corpus.listing import Entry, Listing, numbered, storable
from lamella.pipeline.corpus.lists import list_lines
from lamella.pipeline.corpus.locations import (
    facts_of,
    is_s3,
    named_by,
    objects_under,
    place_of,
    version,
)
from lamella.pipeline.corpus.parquet_columns import PARQUET, column_of, parquet_kind
from lamella.pipeline.corpus.passed_over import (
    FOLDER_LINKS,
    HIDDEN,
    LINKS,
    NO_FILES,
    STORES,
    TABLES,
    UNDERLINED,
    advice,
    few_kinds,
    in_words,
    kind_of,
    links_out,
)
from lamella.pipeline.corpus.stores_within import is_own, is_store, is_within, marked
from lamella.pipeline.errors import InputError
from lamella.pipeline.store.address import parse_s3
from lamella.pipeline.store.tree import MARKER
from lamella.schemas.corpus import SourceKind
from lamella.schemas.refusals import RefusalReason

log = logging.getLogger("lamella.corpus")

__all__ = ["Entry", "Listing", "list_source"]

_TAR = (".tar",)
_PARQUET = (".parquet", ".pq")
_LIST = (".txt", ".lst")
_NOTE = re.compile(
    r"(^|/)(_[^/]*|(readme|licen[cs]e|notice|copying|changelog|citation|authors|manifest"
    r"|(sha\d+|md5)sums|checksums)[^/]*"
    r"|[^/]*\.((md|rst|txt|jsonl?|ya?ml|toml|csv|tsv|xml)(\.gz)?|ini|cfg|cff|bib|html?|pdf|py|ipynb|sh"
    r"|crc|log|lock|idx|index|sha\d+|md5|np[yz]|arrow|feather|pkl|h5|hdf5|faiss|db|sqlite))$",
    re.IGNORECASE,
)
"""Names of notes that writers of data sets leave beside tars and Parquet files."""

_UNDERLINED = re.compile(r"(^|/)_[^/=]*(/|$)")
"""Paths that readers of Spark's folders leave out; `_name=value` is a partition."""

_MARKED_FOLDER = MARKER.partition("/")[0]
_KINDS = {
    "folder": "a folder of pictures",
    "list": "a list",
    "webdataset": "WebDataset",
    PARQUET: "Parquet",
}
FOLLOWED = "a link to a folder is followed only where it is the source: give what it leads to"

_PACKED_TAR = re.compile(
    r"\.(tar\.(gz|bz2|xz|zst|lz4|lzma|z)|t[gbx]z|tbz2|tzst|taz)$", re.IGNORECASE
)


def plain_source(source: str) -> str:
    """Return a source as people mean it: `~` is the home folder, `s3a://` S3, `file:/x` a file."""
    head, colon, rest = source.partition(":")
    if colon and head.lower() in ("s3a", "s3n") and rest.startswith("//"):
        return f"s3:{rest}"
    if colon and head.lower() == "file" and rest.startswith("/") and not rest.startswith("//"):
        return f"file://{rest}"
    if source.startswith("~") and not os.path.lexists(source):
        return os.path.expanduser(source)
    return source


def list_source(source: str, column: str | None = None) -> Listing:
    """Return what a source holds, in a fixed order, without opening any picture.

    A folder is listed with its subfolders. Names that start with a dot, and stores, are passed
    over; a linked file is followed as long as it stays in the folder, a linked folder never. A
    folder that holds only tars, or only Parquet files, is a WebDataset or a Parquet data set,
    whatever notes lie beside them. Beside other files tars and Parquet files are passed over, with
    a warning. A list file (.txt, .lst) names one path a line, relative to its own folder; blank
    lines and lines that start with "#" are left out. Any other file is like a folder with one file.
    The source itself may be a link, which is followed. In S3 a prefix is a folder, and there are no
    links.

    Args:
        source: a local path, a file:// address, or s3://bucket/prefix.
        column: the column of a Parquet source that holds the pictures; by default it is found.

    Raises:
        InputError: the source is missing, unreadable, empty or damaged, or has an address of
            another kind; or a column is named of what is no Parquet.
        StoreError: S3 does not answer, or denies access.
    """
    began = time.time_ns()
    source = plain_source(source)
    path, is_folder = _find(source)
    if is_folder:
        listing = _list_folder(path, column)
    else:
        root, name = os.path.split(path)
        lowered = name.lower()
        if _PACKED_TAR.search(name):
            raise InputError(f"tar {source} {compressed()}")
        if lowered.endswith(_TAR):
            inside: Counter[str] = Counter()
            members = tuple(list_tar(root, name, inside))
            listing = Listing("webdataset", root, members, few_kinds(inside))
        elif lowered.endswith(_PARQUET):
            rows = tuple(list_parquet(root, name, column))
            listing = Listing(parquet_kind(column), root, rows)
        elif lowered.endswith(_LIST):
            listing = Listing("list", root, list_lines(root, name))
        elif not is_s3(path) and os.path.islink(path):
            stored, fault = storable(name)
            facts = (-1, 0) if fault else facts_of(path)
            # Whoever names a link chose what it leads to, as in a list.
            listing = Listing("list", root, (Entry(stored, "", 0, *facts, fault),))
        else:
            listing = Listing("folder", root, (_plain_file(root, name),))
    if column is not None and column_of(listing.kind) is None:
        raise InputError(
            f"a column (--column, corpus.column) is one of Parquet files; {source} is read as "
            f"{_KINDS[listing.kind]}: leave the column out, or give Parquet files"
        )
    outside = _links_out(listing)
    for said in (advice(Counter(listing.passed_over) + _by_ending(listing)), outside):
        if said is not None:
            log.warning("%s: %s", source, said)
    if not listing.entries:
        kinds = in_words(listing.passed_over)
        beside = f" but {kinds}" if kinds else ""
        links = f" ({FOLLOWED})" if FOLDER_LINKS in listing.passed_over else ""
        raise InputError(
            f"source {source} holds no files{beside}: give one that holds pictures{links}"
        )
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

    A `~` at its start is the home folder.

    Raises:
        InputError: it is missing or unreadable.
    """
    path, is_folder = _find(plain_source(source))
    return path if is_folder else os.path.dirname(path)


def _find(source: str) -> tuple[str, bool]:
    try:
        return _look_up(source)
    except (OSError, ValueError) as error:
        raise InputError(f"source {source} cannot be opened: {_why(error)}") from error


def _look_up(source: str) -> tuple[str, bool]:
    """Return the place of a source, and whether it is a folder."""
    named = source if is_s3(source) else named_by("/", source)
    if not is_s3(named):
        path = os.path.abspath(named)
        return path, stat.S_ISDIR(os.stat(path).st_mode)
    source = source if is_s3(source) else named + "/" * source.endswith("/")
    address = parse_s3(source)
    is_object = not source.endswith("/") and address.prefix and facts_of(address.url)[0] >= 0
    return address.url, not is_object


def _links_out(listing: Listing) -> str | None:
    """Return what to do about links that leave a folder; None where there are none."""
    if listing.kind != "folder" or is_s3(listing.root):
        return None
    count = sum(entry.fault is RefusalReason.OUTSIDE_SOURCE for entry in listing.entries)
    return links_out(count, listing.root) if count else None


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
    objects = list(objects_under(root))
    stores = marked(name for name, _ in objects)
    for name, facts in objects:
        parts = name.split("/")
        if stores and is_within(name, stores):
            passed_over[STORES] += 1
        elif any(part.startswith(".") for part in parts):
            passed_over[HIDDEN] += 1
        else:
            stored, fault = storable(name)
            # Such a name is no path below the prefix; `s3://other/a.jpg` would even leave it.
            fault = RefusalReason.OUTSIDE_SOURCE if "" in parts else fault
            size_bytes, changed = (-1, 0) if fault else (facts.size_bytes, version(facts))
            entries.append(Entry(stored, "", 0, size_bytes, changed, fault))
    return entries


def _list_folder(root: str, column: str | None) -> Listing:
    passed_over: Counter[str] = Counter()
    find = _prefix_entries if is_s3(root) else _folder_entries
    entries = find(root, passed_over)
    entries.sort(key=lambda entry: entry.name.encode())
    for suffixes in (_TAR, _PARQUET):
        containers, others = _containers(entries, suffixes)
        if containers:
            for entry in others:
                kind = kind_of(entry.name)
                if kind == "parquet":
                    kind = TABLES if suffixes == _TAR else UNDERLINED
                passed_over[kind] += 1
            return _list_containers(root, containers, suffixes, passed_over, column)
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
    if suffixes == _PARQUET:  # what Spark, Hive and Delta write beside the data starts with _
        found = [entry for entry in found if not _UNDERLINED.search(entry.name)] or found
    chosen = {id(entry) for entry in found}
    others = [entry for entry in entries if id(entry) not in chosen]
    stems = {os.path.splitext(entry.name)[0] for entry in found}
    for entry in others:
        stem, ending = os.path.splitext(entry.name)
        noted = _NOTE.search(entry.name) or _UNDERLINED.search(entry.name)
        if not (noted or (ending == ".parquet" and stem in stems)):
            return [], []
    return found, others


def _list_containers(
    root: str,
    containers: Sequence[Entry],
    suffixes: tuple[str, ...],
    passed_over: Counter[str],
    column: str | None,
) -> Listing:
    kind: SourceKind = "webdataset" if suffixes == _TAR else parquet_kind(column)
    parts: list[Entry] = []
    for entry in containers:
        if entry.fault:
            raise InputError(
                f"{_KINDS[kind.partition(':')[0]]} file {entry.name}: {entry.fault.meaning}"
            )
        if kind == "webdataset":
            parts += list_tar(root, entry.name, passed_over)
        else:
            parts += list_parquet(root, entry.name, column)
    return Listing(kind, root, tuple(parts), few_kinds(passed_over))


def _walk(root: str) -> Iterator[tuple[str, str | None]]:
    """Yield (name under root, None) of all files to list, and of all else its kind."""

    def fail(error: OSError) -> None:
        raise error

    for folder, folders, files in os.walk(root, onerror=fail):
        if _MARKED_FOLDER in folders and is_store(folder):
            yield from ((name, STORES) for name in folders if is_own(name))
            folders[:] = [name for name in folders if folder == root and not is_own(name)]
            if folder != root:
                continue
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


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
