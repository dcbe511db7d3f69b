"""List a source: a folder, a list file, Parquet files, or WebDataset tars; local or in S3."""

import os
import re
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from lamella.pipeline import events
from lamella.pipeline.corpus.at_once import in_turn
from lamella.pipeline.corpus.containers import compressed, list_parquet, list_tar
from lamella.pipeline.corpus.entries import Entries, Entry, in_order
from lamella.pipeline.corpus.formats import has_picture_name
from lamella.pipeline.corpus.layout import PARQUET_ENDINGS, TAR, DataSet, Layout
from lamella.pipeline.corpus.listing import Listing, numbered, storable
from lamella.pipeline.corpus.lists import list_lines
from lamella.pipeline.corpus.locations import facts_of, is_s3, named_by, place_of, version
from lamella.pipeline.corpus.objects import Named, OutOfOrder, objects_at_once, objects_under
from lamella.pipeline.corpus.parquet_columns import PARQUET, column_of, parquet_kind
from lamella.pipeline.corpus.passed_over import (
    FOLDER_LINKS,
    HIDDEN,
    LINKS,
    STORES,
    advice,
    few_kinds,
    in_words,
    kind_of,
    links_out,
)
from lamella.pipeline.corpus.stores_within import is_within, marked
from lamella.pipeline.corpus.walk import walk
from lamella.pipeline.errors import InputError
from lamella.pipeline.store.address import parse_s3
from lamella.schemas.corpus import SourceKind
from lamella.schemas.refusals import RefusalReason

__all__ = ["Entry", "Listing", "list_source"]

_LIST = (".txt", ".lst")
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


OnEntries = Callable[[int], None]
"""Called with the number of entries so far, every `SAID_EVERY`."""

SAID_EVERY = 1_000


def quietly(number: int) -> None:
    """Say nothing of entries found."""


def list_source(
    source: str,
    column: str | None = None,
    on_entries: OnEntries = quietly,
    *,
    for_parquet_alone: bool = False,
) -> Listing:
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
        on_entries: called now and then with the number of entries so far.
        for_parquet_alone: other sources take no notice of the column.

    Raises:
        InputError: the source is missing, unreadable, empty or damaged, or has an address of
            another kind; or a column is named of what is no Parquet.
        StoreError: S3 does not answer, or denies access.
    """
    began = time.time_ns()
    source = plain_source(source)
    path, is_folder = _find(source)
    layout = Layout()
    if is_folder:
        found = _list_folder(path, layout, on_entries)
    else:
        found = _list_file(source, path, column, on_entries)
    tally, entries = _kept(found)
    if (data_set := layout.data_set()) is not None:
        found = _list_data_set(found, data_set, column, on_entries)
        tally, entries = _kept(found)
    if column is not None and column_of(found.kind) is None and not for_parquet_alone:
        raise InputError(
            f"a column (--column, corpus.column) is one of Parquet files; {source} is read as "
            f"{_KINDS[found.kind]}: leave the column out, or give Parquet files"
        )
    passed_over = few_kinds(found.passed_over)
    outside = None
    if found.kind == "folder" and not is_s3(found.root) and tally.outside:
        outside = links_out(tally.outside, found.root)
    for said in (advice(passed_over + tally.endings), outside):
        if said is not None:
            events.warning("source-advice", f"{source}: {said}")
    if not entries:
        kinds = in_words(passed_over)
        beside = f" but {kinds}" if kinds else ""
        links = f" ({FOLLOWED})" if FOLDER_LINKS in passed_over else ""
        raise InputError(
            f"source {source} holds no files{beside}: give one that holds pictures{links}"
        )
    if tally.unsure:
        events.warning(
            "source-without-versions",
            f"{source}: the server gives neither ETag nor time for {tally.unsure:,} objects, so "
            "each of them is read every time",
        )
    return Listing(found.kind, found.root, entries, passed_over, listed_ns=began)


@dataclass(frozen=True)
class _Found:
    """What a source holds, in order; `passed_over` is whole once the entries were read."""

    kind: SourceKind
    root: str
    entries: Iterable[Entry]
    passed_over: Counter[str]


@dataclass
class _Tally:
    """Counts entries that go by: by ending, those outside, those without version."""

    endings: Counter[str] = field(default_factory=Counter)
    outside: int = 0
    unsure: int = 0


def _kept(found: _Found) -> tuple[_Tally, Entries]:
    """Read what a source holds; endings are counted for the files of folders and tars alone."""
    tally, by_ending = _Tally(), found.kind in ("folder", "webdataset")

    def counted() -> Iterator[Entry]:
        for entry in numbered(found.entries):
            if by_ending:
                tally.endings[kind_of(entry.name)] += 1
            tally.outside += entry.fault is RefusalReason.OUTSIDE_SOURCE
            tally.unsure += entry.version is None
            yield entry

    return tally, Entries(counted())


def _counted(entries: Iterable[Entry], on_entries: OnEntries) -> Iterator[Entry]:
    for number, entry in enumerate(entries):
        if number % SAID_EVERY == 0:
            on_entries(number)
        yield entry


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


def _list_file(source: str, path: str, column: str | None, on_entries: OnEntries) -> _Found:
    root, name = os.path.split(path)
    lowered = name.lower()
    inside: Counter[str] = Counter()
    if _PACKED_TAR.search(name):
        raise InputError(f"tar {source} {compressed()}")
    if lowered.endswith(TAR):
        kind, entries = "webdataset", list_tar(root, name, inside)
    elif lowered.endswith(PARQUET_ENDINGS):
        kind, entries = parquet_kind(column), list_parquet(root, name, column)
    elif lowered.endswith(_LIST):
        kind, entries = "list", list_lines(root, name)
    else:
        # Whoever names a link chose what it leads to, as in a list.
        is_link = not is_s3(path) and os.path.islink(path)
        kind, entries = "list" if is_link else "folder", iter([_file(root, name)])
    counted = _counted(entries, on_entries)
    return _Found(kind, root, in_order(counted) if kind == "list" else counted, inside)


def _file(root: str, name: str) -> Entry:
    stored, fault = storable(name)
    facts = (-1, 0) if fault else facts_of(place_of(root, name))
    return Entry(stored, "", 0, *facts, fault)


def _list_folder(root: str, layout: Layout, on_entries: OnEntries) -> _Found:
    """Return the files of a folder; `layout` has seen them once they were read."""
    passed_over: Counter[str] = Counter()
    find = _prefix_entries if is_s3(root) else _folder_entries

    def kept() -> Iterator[Entry]:
        for entry in find(root, passed_over, on_entries):
            layout.see(entry)
            # A link out of the folder is refused only where its name is that of a picture.
            if entry.fault and not has_picture_name(entry.name):
                passed_over[LINKS] += 1
            else:
                yield entry

    return _Found("folder", root, kept(), passed_over)


def _list_data_set(
    folder: _Found, data_set: DataSet, column: str | None, on_entries: OnEntries
) -> _Found:
    """Return what the tars or the Parquet files of a folder hold; several are listed at once."""
    root, is_tar = folder.root, data_set.kind == "tar"
    kind: SourceKind = "webdataset" if is_tar else parquet_kind(column)
    for container in data_set.containers:
        if container.fault:
            named = _KINDS[kind.partition(":")[0]]
            raise InputError(f"{named} file {container.name}: {container.fault.meaning}")

    def listed(container: Entry) -> tuple[Entries, Counter[str]]:
        inside: Counter[str] = Counter()
        if is_tar:
            return Entries(list_tar(root, container.name, inside)), inside
        return Entries(list_parquet(root, container.name, column)), inside

    passed_over = folder.passed_over + data_set.beside
    del passed_over[LINKS]  # these files are counted among those beside

    def members() -> Iterator[Entry]:
        for found, inside in in_turn(listed, data_set.containers):
            passed_over.update(inside)
            yield from found

    return _Found(kind, root, _counted(members(), on_entries), passed_over)


def _folder_entries(root: str, passed_over: Counter[str], on_entries: OnEntries) -> Iterator[Entry]:
    """Return the entries of a local folder in order; count everything else by kind."""

    def files() -> Iterator[Entry]:
        try:
            for found in walk(root):
                if isinstance(found, str):
                    passed_over[found] += 1
                else:
                    yield found
        except OSError as error:
            raise InputError(f"folder {error.filename} cannot be listed: {_why(error)}") from error

    return in_order(_counted(files(), on_entries))


def _prefix_entries(root: str, passed_over: Counter[str], on_entries: OnEntries) -> Iterator[Entry]:
    """Yield the entries of a prefix in S3 in order; count everything else by kind."""
    stores: list[str] = []

    def sort(objects: Iterator[Named]) -> Iterator[Entry]:
        stores.clear()
        return in_order(_counted(_object_entries(objects, stores), on_entries))

    try:
        entries = sort(objects_at_once(root))
    except OutOfOrder:
        entries = sort(objects_under(root))
    for entry in entries:
        if stores and is_within(entry.name, stores):
            passed_over[STORES] += 1
        elif any(part.startswith(".") for part in entry.name.split("/")):
            passed_over[HIDDEN] += 1
        else:
            yield entry


def _object_entries(objects: Iterable[Named], stores: list[str]) -> Iterator[Entry]:
    """Yield an entry for each object, and note the prefixes of stores among them."""
    for name, facts in objects:
        stores += marked([name])
        stored, fault = storable(name)
        # Such a name is no path below the prefix; `s3://other/a.jpg` would even leave it.
        fault = RefusalReason.OUTSIDE_SOURCE if "" in name.split("/") else fault
        size_bytes, changed = (-1, 0) if fault else (facts.size_bytes, version(facts))
        yield Entry(stored, "", 0, size_bytes, changed, fault)


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
