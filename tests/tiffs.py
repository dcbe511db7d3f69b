"""TIFF files of every kind, written plainly from the standard; no library decides what is legal."""

import lzma
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

BYTE, ASCII, SHORT, LONG, RATIONAL, LONG8 = 1, 2, 3, 4, 5, 16
_FORMATS = {BYTE: "B", ASCII: "B", SHORT: "H", LONG: "I", RATIONAL: "I", LONG8: "Q"}
NONE, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS, LZMA = 1, 5, 7, 8, 32946, 32773, 34925
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK, CMYK, YCBCR, LAB = 0, 1, 2, 3, 4, 5, 6, 8
UNSIGNED, SIGNED, FLOAT = 1, 2, 3


@dataclass(frozen=True)
class Variant:
    """How a picture is written; the defaults are the standard's.

    `bits` of each sample. `extra`: the kinds of the samples beyond the colours (0 unspecified, 1
    associated, 2 unassociated alpha). `strip`: rows a strip. `tile`: height and width of a tile.
    """

    photometric: int = RGB
    bits: int = 8
    planar: bool = False
    compression: int = NONE
    order: str = "<"
    predictor: int = 1
    fill_order: int = 1
    strip: int | None = None
    tile: tuple[int, int] | None = None
    extra: tuple[int, ...] = ()
    sample_format: int = UNSIGNED
    big: bool = False
    colours: NDArray[np.uint16] | None = None
    more: Mapping[int, tuple[int, Sequence[int]]] = field(default_factory=dict)
    encode: Callable[[NDArray[Any]], bytes] | None = None


def tiff(samples: NDArray[Any], how: Variant) -> bytes:
    """Return samples (H, W) or (H, W, S), of values that fit the variant's bits, as a TIFF."""
    samples = samples[..., None] if samples.ndim == 2 else samples
    height, width, count = samples.shape
    rows, columns = how.tile or (how.strip or height, width)
    planes = [samples[..., n : n + 1] for n in range(count)] if how.planar else [samples]
    parts = [_part(cut, how) for plane in planes for cut in _cuts(plane, rows, columns, how)]
    tags: dict[int, tuple[int, Sequence[int]]] = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [how.bits] * count),
        259: (SHORT, [how.compression]),
        262: (SHORT, [how.photometric]),
        277: (SHORT, [count]),
        284: (SHORT, [2 if how.planar else 1]),
        339: (SHORT, [how.sample_format] * count),
    }
    if how.tile:
        tags |= {322: (LONG, [columns]), 323: (LONG, [rows])}
    else:
        tags |= {278: (LONG, [rows])}
    if how.fill_order != 1:
        tags[266] = (SHORT, [how.fill_order])
    if how.predictor != 1:
        tags[317] = (SHORT, [how.predictor])
    if how.extra:
        tags[338] = (SHORT, how.extra)
    if how.colours is not None:
        tags[320] = (SHORT, [int(value) for value in how.colours.T.ravel()])
    tags |= how.more
    return _file(parts, tags, (324, 325) if how.tile else (273, 279), how)


def _cuts(plane: NDArray[Any], rows: int, columns: int, how: Variant) -> Iterator[NDArray[Any]]:
    for top in range(0, plane.shape[0], rows):
        for left in range(0, plane.shape[1], columns):
            cut = plane[top : top + rows, left : left + columns]
            if how.tile:  # tiles at the edges are filled up
                missing = ((0, rows - cut.shape[0]), (0, columns - cut.shape[1]), (0, 0))
                cut = np.pad(cut, missing, "edge")
            yield cut


def _part(cut: NDArray[Any], how: Variant) -> bytes:
    if how.encode is not None:
        return how.encode(cut)
    if how.predictor == 2:
        cut = np.concatenate([cut[:, :1], np.diff(cut, axis=1)], axis=1)
    rows = [_row(row, how) for row in cut]
    data = _COMPRESSORS[how.compression](rows)
    return bytes(data) if how.fill_order == 1 else _reversed_bits(bytes(data))


def _row(row: NDArray[Any], how: Variant) -> bytes:
    """Return the samples of a row in their bits, filled up to whole bytes."""
    if how.sample_format == FLOAT:
        data = row.astype(f"{how.order}f{how.bits // 8}").tobytes()
        return _floating_predictor(data, row, how) if how.predictor == 3 else data
    if how.bits in (8, 16, 32, 64):
        return row.astype(np.int64).astype(f"{how.order}i{how.bits // 8}").tobytes()
    values = row.ravel().astype(np.int64) & ((1 << how.bits) - 1)
    bits = values[:, None] >> np.arange(how.bits - 1, -1, -1) & 1
    return np.packbits(bits.astype(np.uint8).ravel()).tobytes()


def _floating_predictor(data: bytes, row: NDArray[Any], how: Variant) -> bytes:
    """Technical note 3: bytes of one weight together, the highest first, then differences."""
    size = how.bits // 8
    values = np.frombuffer(data, np.uint8).reshape(-1, size)
    planes = (values if how.order == ">" else values[:, ::-1]).T.ravel()
    step = row.shape[-1]
    result = planes.copy()
    result[step:] -= planes[:-step]
    return result.tobytes()


def _reversed_bits(data: bytes) -> bytes:
    return np.packbits(np.unpackbits(np.frombuffer(data, np.uint8)), bitorder="little").tobytes()


def _lzw(rows: Sequence[bytes]) -> bytes:
    """TIFF 6.0, section 13: codes of 9 to 12 bits, the high bit first, one bit more in time."""
    bits: list[str] = []
    table: dict[bytes, int] = {}
    held = b""

    def put(code: int) -> None:
        bits.append(format(code, f"0{(max(len(table) + 2, 511)).bit_length()}b"))

    def clear() -> None:
        table.clear()
        table.update({bytes([value]): value for value in range(256)})

    bits.append(format(256, "09b"))
    clear()
    for byte in b"".join(rows):
        longer = held + bytes([byte])
        if longer in table:
            held = longer
            continue
        put(table[held])
        table[longer] = len(table) + 2
        held = bytes([byte])
        if len(table) + 2 == 4095:
            put(256)
            clear()
    put(table[held])
    table[b""] = 0  # the reader has made an entry, too
    put(257)
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def _packbits(rows: Sequence[bytes]) -> bytes:
    """TIFF 6.0, section 9, each row by itself: runs of one byte, and bytes as they are."""
    out = bytearray()
    for row in rows:
        at = 0
        while at < len(row):
            run = 1
            while run < 128 and row[at : at + 1] == row[at + run : at + run + 1]:
                run += 1
            if run > 1:
                out += bytes([257 - run, row[at]])
            else:
                out += bytes([0, row[at]])
            at += run
    return bytes(out)


_COMPRESSORS: dict[int, Callable[[Sequence[bytes]], bytes]] = {
    NONE: b"".join,
    LZW: _lzw,
    DEFLATE: lambda rows: zlib.compress(b"".join(rows)),
    OLD_DEFLATE: lambda rows: zlib.compress(b"".join(rows)),
    PACKBITS: _packbits,
    LZMA: lambda rows: lzma.compress(b"".join(rows)),
}


def _file(
    parts: Sequence[bytes],
    tags: dict[int, tuple[int, Sequence[int]]],
    places: tuple[int, int],
    how: Variant,
) -> bytes:
    """Return header, directory, values that do not fit into it, and the parts."""
    mark, order = ("II" if how.order == "<" else "MM").encode(), how.order
    head, entry, inline = (16, 20, 8) if how.big else (8, 12, 4)
    kind = LONG8 if how.big else LONG
    tags = dict(sorted({**tags, places[0]: (kind, [0] * len(parts))}.items()))
    tags[places[1]] = (kind, [len(part) for part in parts])
    tags = dict(sorted(tags.items()))
    count, pointer = ("Q", "Q") if how.big else ("H", "I")
    directory = struct.calcsize(f"={count}") + entry * len(tags) + struct.calcsize(f"={pointer}")
    at = head + directory
    room: dict[int, int] = {}
    for tag, (form, values) in tags.items():
        size = struct.calcsize(f"={len(values)}{_FORMATS[form]}")
        if size > inline:
            room[tag], at = at, at + size + size % 2
    starts = []
    for part in parts:
        starts.append(at)
        at += len(part) + len(part) % 2
    tags[places[0]] = (kind, starts)
    version = (
        struct.pack(f"{order}HHHQ", 43, 8, 0, 16) if how.big else struct.pack(f"{order}HI", 42, 8)
    )
    out = bytearray(mark + version + struct.pack(f"{order}{count}", len(tags)))
    behind = bytearray()
    for tag, (form, values) in tags.items():
        packed = struct.pack(f"{order}{len(values)}{_FORMATS[form]}", *values)
        number = len(values) // (2 if form == RATIONAL else 1)
        out += struct.pack(f"{order}HH{pointer}", tag, form, number)
        if tag in room:
            out += struct.pack(f"{order}{pointer}", room[tag])
            behind += packed + bytes(len(packed) % 2)
        else:
            out += packed.ljust(inline, b"\0")
    out += struct.pack(f"{order}{pointer}", 0) + behind
    for part in parts:
        out += part + bytes(len(part) % 2)
    return bytes(out)
