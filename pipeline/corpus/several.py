"""Several sources as one listing, as query pictures are named on one line or piped in."""

import glob
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from lamella.pipeline.corpus.entries import Entries, Entry, in_order
from lamella.pipeline.corpus.formats import sniff
from lamella.pipeline.corpus.listing import Listing, numbered, storable
from lamella.pipeline.corpus.lists import list_lines
from lamella.pipeline.corpus.locations import is_address, is_s3
from lamella.pipeline.corpus.sources import list_source, plain_source
from lamella.pipeline.errors import InputError

_HEAD_BYTES = 4096


def list_several(sources: Sequence[str], column: str | None = None) -> Listing:
    """Return what one source or several hold, in the order given.

    Of several, the names are paths as they were given. A pattern such as `cats/*.jpg` that no file
    is called by stands for what it matches.

    Args:
        sources: pictures, folders of pictures and lists; or one source of any kind.
        column: as `list_source` takes it.

    Raises:
        InputError: a source cannot be used, a pattern matches nothing, or tars or Parquet files are
            among several sources.
    """
    named = [each for source in sources for each in _matched(source)]
    if len(named) == 1:
        return list_source(named[0], column)
    listings = [(source, list_source(source, column)) for source in named]
    for source, listing in listings:
        if listing.kind not in ("folder", "list"):
            raise InputError(
                f"several sources are pictures, folders of pictures and lists; {source} is "
                f"{listing.kind.partition(':')[0]}: ask by it alone"
            )
    passed_over = sum((Counter(each.passed_over) for _, each in listings), Counter[str]())
    seen = Counter[str]()

    def entries() -> Iterator[Entry]:
        for source, listing in listings:
            for entry in _renamed(source, listing):
                yield entry._replace(occurrence=seen[entry.name])
                seen[entry.name] += 1

    began = min(listing.listed_ns for _, listing in listings)
    return Listing("list", os.getcwd(), Entries(entries()), passed_over, began)


def list_piped(stream: BinaryIO, scratch: Path) -> Listing:
    """Return the pictures of a stream: it is one picture, or a list of paths.

    Paths are relative to the current folder; else the list is as `list_source` reads one.

    Args:
        scratch: a folder, where the stream's bytes stay as long as its picture is wanted.

    Raises:
        InputError: nothing comes, or it is neither.
    """
    path = scratch / "standard-input"
    with path.open("wb") as file:
        shutil.copyfileobj(stream, file)
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if sniff(head) is not None:
        return list_source(str(path))
    lines = in_order(list_lines(os.getcwd(), str(path)))
    listed = Listing("list", os.getcwd(), Entries(numbered(lines)))
    if not listed.entries:
        raise InputError(
            "standard input holds nothing: pipe in a picture, or a list of paths, one a line"
        )
    return listed


def _matched(source: str) -> Iterator[str]:
    if is_address(source) or os.path.lexists(source) or not glob.has_magic(source):
        yield source
        return
    found = sorted(glob.glob(os.path.expanduser(source), recursive=True))
    if not found:
        raise InputError(f"source {source} cannot be opened: no file has such a name")
    yield from found


def _renamed(source: str, listing: Listing) -> Iterator[Entry]:
    """Yield entries by names that lead to them from the current folder, or from anywhere."""
    given = plain_source(source)
    if is_address(given):
        folder = listing.root
    else:
        folder = given if os.path.isdir(given) else os.path.dirname(given)
    for entry in listing.entries:
        if is_s3(entry.name):
            yield entry._replace(occurrence=0)
            continue
        name, fault = storable(os.path.join(folder, entry.name))
        yield entry._replace(name=name, fault=entry.fault or fault, occurrence=0)
