"""Image tables: make rows from a source's entries, decode a row's picture, read a table."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float32s
from lamella.pipeline.corpus.blame import naming
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.formats import has_picture_name, is_ignored, sniff
from lamella.pipeline.corpus.identity import image_id_of
from lamella.pipeline.corpus.joined import part_for
from lamella.pipeline.corpus.listing import Entry
from lamella.pipeline.corpus.locations import may_fetch, place_of
from lamella.pipeline.corpus.passed_over import FORGOTTEN, UNREADABLE, few_kinds, kind_of
from lamella.pipeline.corpus.prefetch import reading_ahead
from lamella.pipeline.corpus.reader import EntryReader
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.resize import Look
from lamella.pipeline.corpus.sandbox import probe, see
from lamella.pipeline.corpus.vector_listing import vector_rows
from lamella.pipeline.corpus.verdicts import Verdicts, judged
from lamella.pipeline.signs import signed
from lamella.pipeline.store.tables import check_nulls, read_parquet
from lamella.schemas.corpus import IMAGES, SEEN, SourceKind
from lamella.schemas.refusals import RefusalReason

Known = Mapping[Entry, Mapping[str, Any] | str]
"""By entry as it was listed before: its row of an image table, or its kind if it is no picture."""


def probe_entries(
    root: str,
    kind: SourceKind,
    entries: Sequence[Entry],
    limits: DecodeLimits,
    verdicts: Verdicts | None = None,
    known: Known = MappingProxyType({}),
    forgotten: Callable[[Mapping[str, Any]], bool] = lambda row: False,
    vectors: Mapping[str, Float32s] | None = None,
) -> tuple[Any, Any, Counter[str]]:
    """Return the image table of these entries, what was seen, and how many are ignored, by kind.

    Rows + ignored = entries; see `probe_rows`.

    Args:
        known: entries that are not read again.
        forgotten: says of a row whether its picture must not be indexed; of such a one nothing is
            kept but its count.
        vectors: by name, where the entries are of a corpus of vectors.

    Returns:
        (a pyarrow Table in the `IMAGES` schema, in the order of the entries; one in the `SEEN`
        schema; the counts).
    """
    unread = [entry for entry in entries if entry not in known]
    read = (
        vector_rows(vectors, unread)
        if vectors is not None
        else _rows_or_kinds(root, kind, unread, limits, verdicts)
    )
    found = {entry: known[entry] for entry in entries if entry in known}
    found |= dict(zip(unread, read, strict=True))
    rows: list[Mapping[str, Any]] = []
    seen: list[dict[str, Any]] = []
    ignored: Counter[str] = Counter()
    for entry in entries:
        row = found[entry]
        if not isinstance(row, str) and forgotten(row):
            ignored[FORGOTTEN] += 1
            continue
        facts = {name: getattr(entry, name) for name in ENTRY_FACTS}
        if isinstance(row, str):
            ignored[row] += 1
            seen.append(facts | {"row": None, "passed_over": row})
            continue
        seen.append(facts | {"row": len(rows), "passed_over": None})
        identity = image_id_of(row["container"], row["name"], row["sha256"], entry.occurrence)
        rows.append({**row, "image_id": identity})
    table = pa.Table.from_pylist(rows, schema=IMAGES)
    return table, pa.Table.from_pylist(seen, schema=SEEN), few_kinds(ignored)


ENTRY_FACTS = ("name", "container", "offset", "size_bytes", "version", "occurrence")
"""What of an entry is kept in a table of `SEEN`."""


def known_entries(seen: Any, images: Any) -> Known:
    """Return what a shard's two tables say of its entries, those left out that may have changed."""
    rows = images.to_pylist()
    found: dict[Entry, Mapping[str, Any] | str] = {}
    for each in seen.to_pylist():
        if each["version"] is None:
            continue
        entry = Entry(**{name: each[name] for name in ENTRY_FACTS})
        found[entry] = each["passed_over"] if each["row"] is None else rows[each["row"]]
    return found


def probe_rows(
    root: str,
    kind: SourceKind,
    entries: Sequence[Entry],
    limits: DecodeLimits,
    verdicts: Verdicts | None = None,
) -> list[dict[str, Any] | None]:
    """Return the row of an image table for each of these entries, None for an ignored one.

    Each entry is read once, for its SHA-256 and its header; no pixel is decoded. A refused picture
    keeps its row. Only folders and tars have ignored entries. `verdicts` come from earlier attempts
    at these entries.
    """
    found = _rows_or_kinds(root, kind, entries, limits, verdicts)
    return [None if isinstance(row, str) else row for row in found]


def _rows_or_kinds(
    root: str,
    kind: SourceKind,
    entries: Sequence[Entry],
    limits: DecodeLimits,
    verdicts: Verdicts | None,
) -> list[dict[str, Any] | str]:
    """Return the row of each entry, or the kind of one that is ignored."""
    rows: list[dict[str, Any] | str] = []
    pictures = (each for each in entries if _is_plain_picture(each))
    wanted = (
        (place_of(root, each.name), each.size_bytes)
        for each in pictures
        if may_fetch(kind, each.name)
    )
    with (
        EntryReader(root, limits, kind) as reader,
        reading_ahead(wanted, limits.max_bytes) as reader.ahead,
    ):
        for entry in signed(entries):
            ignored = _ignored(reader, entry) if _may_ignore(kind, entry) else None
            rows.append(ignored or probe_entry(reader, entry, limits, verdicts))
    return rows


def _may_ignore(kind: SourceKind, entry: Entry) -> bool:
    """Say whether an entry may be ignored: who lists a file, or has a row of it, says it is one."""
    return part_for(kind, entry.place)[0] in ("folder", "webdataset")


def _is_plain_picture(entry: Entry) -> bool:
    return not entry.container and entry.fault is None and has_picture_name(entry.name)


def _ignored(reader: EntryReader, entry: Entry) -> str | None:
    """Return the kind of an entry that is no picture by name and content, None for a picture."""
    if has_picture_name(entry.name):
        return None
    try:
        head = reader.head(entry)
    except Refused:
        return UNREADABLE
    return kind_of(entry.name) if is_ignored(entry.name, head) else None


def kinds_of_others(
    root: str, kind: SourceKind, entries: Sequence[Entry], limits: DecodeLimits
) -> Counter[str] | None:
    """Return by kind what these entries are if none is a picture; None as soon as one may be."""
    if any(has_picture_name(each.name) or not _may_ignore(kind, each) for each in entries):
        return None
    found: Counter[str] = Counter()
    with EntryReader(root, limits, kind) as reader:
        for entry in entries:
            if (ignored := _ignored(reader, entry)) is None:
                return None
            found[ignored] += 1
    return few_kinds(found)


def probe_entry(
    reader: EntryReader, entry: Entry, limits: DecodeLimits, verdicts: Verdicts | None = None
) -> dict[str, Any]:
    """Return the row of an image table for one entry that is not ignored."""
    row: dict[str, Any] = dict.fromkeys(IMAGES.names) | {
        "name": entry.name,
        "container": entry.container,
        "offset": entry.offset,
        "size_bytes": entry.size_bytes if entry.size_bytes >= 0 else None,
        "detail": "",
    }
    try:
        probe_bytes(row, reader.read(entry), limits, verdicts)
    except Refused as refused:
        row["refusal"], row["detail"] = refused.reason.value, refused.detail
    return row


def probe_bytes(
    row: dict[str, Any], data: bytes, limits: DecodeLimits, verdicts: Verdicts | None = None
) -> None:
    """Note in a row what the bytes of its picture say: size, SHA-256, format, width and height.

    Raises:
        Refused: they are no picture within the limits.
    """
    row["size_bytes"], row["sha256"] = len(data), hashlib.sha256(data).digest()
    row["format"] = sniff(data)
    with naming(row["name"]):
        found = judged(verdicts, row["sha256"], limits, lambda: probe(data, limits))
    row["width"], row["height"], row["detail"] = found.width, found.height, found.detail


def read_row(reader: EntryReader, row: Mapping[str, Any]) -> bytes:
    """Return the bytes of the picture of one row of an image table.

    Args:
        reader: opened on the corpus's root, with the limits of the corpus.
        row: the columns of `IMAGES`, as `Table.to_pylist` gives them.

    Raises:
        Refused: the row's own refusal; or the bytes are gone, or differ from the row's SHA-256
            (changed).
    """
    if row["refusal"] is not None:
        raise Refused(RefusalReason(row["refusal"]), row["detail"])
    entry = Entry(row["name"], row["container"], row["offset"], row["size_bytes"])
    data = reader.read(entry)
    if hashlib.sha256(data).digest() != row["sha256"]:
        was, now = row["sha256"].hex()[:12], hashlib.sha256(data).hexdigest()[:12]
        raise Refused(RefusalReason.CHANGED, f"SHA-256 {was} in the manifest, {now} now")
    return data


def see_row(
    reader: EntryReader,
    row: Mapping[str, Any],
    looks: Sequence[Look],
    limits: DecodeLimits,
    reduction: int = 1,
) -> list[NDArray[np.uint8]]:
    """Return the pixels of each look at the picture of one row of an image table, or at its box.

    Args:
        reader: as of `read_row`.
        row: as of `read_row`; with a `box`, width and height are those of the box.
        limits: those of the corpus.
        reduction: as of `decode.decode`.

    Raises:
        Refused: as `read_row`; or the pixel data is damaged, or costs more than the limits.
    """
    data = read_row(reader, row)
    with naming(row["name"]):
        return see(data, (row["height"], row["width"]), looks, limits, row.get("box"), reduction)


def read_images(path: Path, columns: list[str] | None = None) -> Any:
    """Return an image table, in `IMAGES`, or some columns of it.

    Raises:
        ValueError: it is no such table, or a row has impossible values.
    """
    table = read_parquet(path, columns, IMAGES)
    check_nulls(table, IMAGES)
    if columns is None:
        sound = pc.is_null(table.column("refusal"))
        for name in ("width", "height", "sha256"):
            if pc.any(pc.and_(sound, pc.is_null(table.column(name)))).as_py():
                raise ValueError(f"a picture that is not refused has no {name}")
        for name, least in (("width", 1), ("height", 1), ("offset", 0), ("size_bytes", 0)):
            if pc.any(pc.less(table.column(name), least)).as_py():
                raise ValueError(f"{name} of a picture is below {least}")
        check_reasons(table.column("refusal"))
    return table


def check_reasons(reasons: Any) -> None:
    """Check that a column names reasons for refusals, or nothing.

    Raises:
        ValueError: it names something else.
    """
    said = pc.unique(reasons.drop_null())
    known = pa.array([reason.value for reason in RefusalReason])
    strange = said.filter(pc.invert(pc.is_in(said, known)))
    if len(strange):
        raise ValueError(f"{strange[0].as_py()!r} is no reason for a refusal")
