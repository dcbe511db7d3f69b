"""Frames arrive whole, or an error says how not."""

import contextlib
import os
import time
from collections.abc import Iterator

import pytest

from lamella.pipeline.corpus.wire import receive, send


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    yield reader, writer
    for descriptor in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def test_a_frame_comes_as_it_went(pipe: tuple[int, int]) -> None:
    send(pipe[1], {"do": "see", "n": [1, 2.5]}, b"pixels")
    send(pipe[1], {})
    assert receive(pipe[0], 6) == ({"do": "see", "n": [1, 2.5]}, bytearray(b"pixels"))
    assert receive(pipe[0], 0) == ({}, bytearray())


@pytest.mark.parametrize(
    ("bytes_", "error"),
    [
        (b"", EOFError),
        (b"\2\0\0\0", EOFError),
        (b"\2\0\0\0\0\0\0\0\0\0\0\0{", EOFError),
        (b"\2\0\0\0\1\0\0\0\0\0\0\0{}", EOFError),
        (b"\2\0\0\0\0\0\0\0\0\0\0\0[]", ValueError),
        (b"\2\0\0\0\0\0\0\0\0\0\0\0\xff\xff", ValueError),
        (b"\xff\xff\xff\xff\0\0\0\0\0\0\0\0", ValueError),
        (b"\2\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff{}", ValueError),
        (b"\0\x20\0\0\0\0\0\0\0\0\0\0" + b"[" * 8192, ValueError),
    ],
)
def test_what_is_no_frame_is_told(
    pipe: tuple[int, int], bytes_: bytes, error: type[Exception]
) -> None:
    os.write(pipe[1], bytes_)
    os.close(pipe[1])
    with pytest.raises(error):
        receive(pipe[0], 1000)


def test_nobody_waits_past_the_deadline(pipe: tuple[int, int]) -> None:
    with pytest.raises(TimeoutError):
        receive(pipe[0], 0, time.monotonic())
    with pytest.raises(TimeoutError):
        send(pipe[1], {}, bytes(2**21), time.monotonic())
    os.close(pipe[0])
    with pytest.raises(BrokenPipeError):
        send(pipe[1], {})
