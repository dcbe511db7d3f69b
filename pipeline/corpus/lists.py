"""Read a list of pictures: one path a line, as people and programs write such lists.

A line is a path, and is taken as it stands where something lies there. Else it may be a path in
quotes, or have a label behind it, or begin with `~`. Lists may be in UTF-8 or UTF-16, and
`find -print0` ends each name with a zero byte.
"""

import codecs
import io
import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import BinaryIO

from lamella.pipeline.corpus.formats import has_picture_name
from lamella.pipeline.corpus.listing import Entry, storable
from lamella.pipeline.corpus.locations import facts_of_all, named_by, open_place, place_of
from lamella.pipeline.errors import InputError
from lamella.schemas.refusals import RefusalReason

MOST_LINE_BYTES = 65536
"""A longer line is no path, so the file is no list."""

LINES_AT_ONCE = 1_000
_SAMPLE_BYTES = 4096
_MOST_LABELS = 16
_SPACES = " \t\r\n\v\f"
_QUOTED = re.compile(r'"((?:[^"]|"")*)"|\'([^\']*)\'')
_SEPARATORS = re.compile(r"[\s,;|]+")


def list_lines(root: str, name: str) -> Iterator[Entry]:
    """Yield an entry for each path of a list, in the order of its lines.

    Args:
        root: the folder of the list; paths are relative to it.

    Raises:
        InputError: it cannot be read, is no text, or names what is not read here.
    """
    try:
        lines = _texts(root, name)
        while part := list(islice(lines, LINES_AT_ONCE)):
            yield from _entries(root, name, part)
    except OSError as error:
        raise InputError(f"list {name} cannot be read: {error.strerror or error}") from error
    except UnicodeError as error:
        raise InputError(
            f"list {name} is neither whole UTF-16 nor UTF-8: save it as UTF-8"
        ) from error


def _entries(root: str, name: str, lines: Sequence[tuple[int, str]]) -> list[Entry]:
    """Return the entry of each of some numbered lines, all of which are looked up at once."""
    found: list[tuple[str, RefusalReason | None, str]] = []
    for number, text in lines:
        try:
            path = named_by(root, text)
        except ValueError as error:
            raise InputError(f"list {name}, line {number}: {error}") from error
        found.append((*storable(path), path))
    facts = iter(facts_of_all([place_of(root, path) for _, fault, path in found if not fault]))
    entries = [
        Entry(stored, "", 0, *((-1, 0) if fault else next(facts)), fault)
        for stored, fault, _ in found
    ]
    _read_otherwise(root, entries, [text for _, text in lines])
    return entries


def _read_otherwise(root: str, entries: list[Entry], texts: Sequence[str]) -> None:
    """Replace entries that lead nowhere where their line, read in another way, leads to a file."""
    tried: list[tuple[int, str]] = []
    for number, entry in enumerate(entries):
        if entry.size_bytes < 0 and entry.fault is None:
            tried += [(number, name) for name in _other_names(root, texts[number])]
    for (number, name), facts in zip(
        tried, facts_of_all([place_of(root, name) for _, name in tried]), strict=True
    ):
        if facts[0] >= 0 and entries[number].size_bytes < 0:
            entries[number] = Entry(name, "", 0, *facts)


def _other_names(root: str, text: str) -> Iterator[str]:
    """Yield the names that a line may mean where it is none itself, the likeliest first."""
    for path in dict.fromkeys(_readings(text)):
        try:
            name = named_by(root, path)
        except ValueError:
            continue
        if storable(name)[1] is None:
            yield name


def _readings(text: str) -> Iterator[str]:
    paths = [text]
    if quoted := _QUOTED.match(text):
        paths.append((quoted[1] or "").replace('""', '"') or quoted[2] or "")
    paths.append(text.partition("\t")[0].rstrip())
    # A name may have spaces too, so cut where a picture's name ends, else before the last word.
    cuts = [found.start() for found in _SEPARATORS.finditer(text)]
    named = (text[:cut] for cut in cuts[:_MOST_LABELS] if has_picture_name(text[:cut]))
    paths += [*named, *(text[:cut] for cut in cuts[-1:])]
    for path in paths:
        if path.startswith("~"):
            yield os.path.expanduser(path)
        if path and path != text:
            yield path


def _texts(root: str, name: str) -> Iterator[tuple[int, str]]:
    """Yield (number, text) of the lines that name something."""
    with open_place(place_of(root, name)) as handle:
        sample = handle.read(_SAMPLE_BYTES)
        handle.seek(0)
        encoding = _utf_16(sample)
        if encoding is not None:
            lines = _decoded(handle, encoding, name)
        elif b"\0" in sample and b"\n" not in sample:
            yield from _between_zeros(handle, name)
            return
        else:
            lines = _lines(handle, name)
        for number, text in lines:
            if text and not text.startswith("#"):
                yield number, text


def _utf_16(sample: bytes) -> str | None:
    """Return the encoding of a list in UTF-16; by its mark, or by a zero in every other byte."""
    if b"\0" not in sample:
        return None
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    half = len(sample) // 2
    if half < 2:
        return None
    low, high = sample[0::2].count(0), sample[1::2].count(0)
    if low == 0 and high > half // 2:
        return "utf-16-le"
    return "utf-16-be" if high == 0 and low > half // 2 else None


def _decoded(handle: BinaryIO, encoding: str, name: str) -> Iterator[tuple[int, str]]:
    with io.TextIOWrapper(handle, encoding) as text:
        number = 0
        while line := text.readline(MOST_LINE_BYTES + 1):
            number += 1
            _check(len(line), number, name)
            yield number, line.strip(_SPACES)


def _lines(handle: BinaryIO, name: str) -> Iterator[tuple[int, str]]:
    number = 0
    while line := handle.readline(MOST_LINE_BYTES + 1):
        number += 1
        _check(len(line), number, name)
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        # Bytes are stripped, for a text has more kinds of space, and names may end in those.
        yield number, line.strip().decode("utf-8", "surrogateescape")


def _between_zeros(handle: BinaryIO, name: str) -> Iterator[tuple[int, str]]:
    """Yield what stands between zero bytes, however large the list is."""
    rest, number = b"", 0
    while data := handle.read(MOST_LINE_BYTES):
        *whole, rest = (rest + data).split(b"\0")
        for each in whole:
            number += 1
            _check(len(each), number, name)
            if each:
                yield number, each.decode("utf-8", "surrogateescape")
        _check(len(rest), number + 1, name)
    if rest:
        yield number + 1, rest.decode("utf-8", "surrogateescape")


def _check(length: int, number: int, name: str) -> None:
    if length > MOST_LINE_BYTES:
        raise InputError(
            f"list {name}, line {number}: more than {MOST_LINE_BYTES:,} bytes; "
            "a list names one path a line"
        )
