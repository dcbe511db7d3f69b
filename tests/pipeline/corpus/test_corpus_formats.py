"""A format is told by content, never by name."""

import io

import pytest
from PIL import Image

from lamella.pipeline.corpus.formats import (
    HEAD_BYTES,
    SUPPORTED,
    has_picture_name,
    is_ignored,
    sniff,
    webp_size,
)


def encoded(format_name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (5, 3), (200, 100, 50)).save(buffer, format_name, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("written_as", "sniffed"),
    [
        ("JPEG", "jpeg"),
        ("PNG", "png"),
        ("WEBP", "webp"),
        ("TIFF", "tiff"),
        ("BMP", "bmp"),
        ("GIF", "gif"),
        ("PPM", "pnm"),
        ("AVIF", "avif"),
        ("JPEG2000", "jpeg2000"),
    ],
)
def test_each_written_format_is_told_by_its_first_bytes(written_as: str, sniffed: str) -> None:
    assert sniff(encoded(written_as)) == sniffed


@pytest.mark.parametrize(
    ("head", "sniffed"),
    [
        (b"P1\n# a comment\n1 1\n0", "pnm"),
        (b"P1 is a motorway", None),
        (b"BMW builds cars, mostly", None),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- made by hand -->\n<svg >", "svg"),
        (b"<!DOCTYPE html><svg>", None),
        (b"\0\0\0\x18ftypheic", "heic"),
        (b"\0\0\0\x18ftypisom", None),
        (b"8BPS\0\x01", "psd"),
        (b"II*\0\x10\0\0\0CR\x02\0", "raw"),
        (b"", None),
        (b"\xff", None),
    ],
)
def test_lookalikes_are_told_apart(head: bytes, sniffed: str | None) -> None:
    assert sniff(head) == sniffed
    assert sniffed is None or (sniffed in SUPPORTED) == (sniffed in ("pnm", "heic", "avif"))


def test_only_what_neither_looks_nor_is_named_like_a_picture_is_ignored() -> None:
    assert is_ignored("labels.json", b"{}")
    assert is_ignored("jpg", b"{}")
    assert not is_ignored("page.jpg", b"<!DOCTYPE html>")
    assert not is_ignored("photo", encoded("JPEG"))
    assert not is_ignored("empty.PNG", b"")


def test_a_picture_name_ends_like_one_in_any_case() -> None:
    assert has_picture_name("a/b.c/IMG_1.JPeG")
    assert not has_picture_name("a.jpg/readme")
    assert not has_picture_name("a.jpg.txt")


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0MM\0*"}])
def test_a_webp_header_gives_its_size(options: dict[str, object]) -> None:
    data = encoded("WEBP", **options)
    assert webp_size(data) == (5, 3)
    assert webp_size(data[:20]) is None


@pytest.mark.parametrize(
    "part",
    [b"<!---->", b"<!-- -->\n", b" ", b"<?xml?>", b"<!DOCTYPE svg>", b"<!--", b"P1\n ", b"P1\n# "],
)
def test_a_start_that_goes_nowhere_is_left_soon(part: bytes) -> None:
    assert sniff((part * HEAD_BYTES)[:HEAD_BYTES]) in (None, "pnm")
