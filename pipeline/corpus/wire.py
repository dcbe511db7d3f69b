"""Frames between a process and the child that decodes for it: a JSON header, then plain bytes.

No pickle: an answer of a broken child may be wrong, but never runs as code.
"""

import json
import os
import select
import struct
import time
from collections.abc import Mapping
from typing import Any

_SIZES = struct.Struct("<IQ")
MOST_HEADER_BYTES = 8192
"""Above any header: names of views and sizes, or a reason and its detail."""


def send(
    descriptor: int, header: Mapping[str, Any], body: bytes = b"", deadline: float | None = None
) -> None:
    """Write one frame.

    Args:
        deadline: on `time.monotonic`, for a descriptor that does not block; None waits for ever.

    Raises:
        TimeoutError: the other side did not read it before the deadline.
        BrokenPipeError: the other side is gone.
    """
    text = json.dumps(header).encode()
    for part in (_SIZES.pack(len(text), len(body)) + text, body):
        view = memoryview(part)
        while view:
            try:
                view = view[os.write(descriptor, view) :]
            except BlockingIOError:
                _wait(descriptor, select.POLLOUT, deadline)


def receive(
    descriptor: int, most_bytes: int, deadline: float | None = None
) -> tuple[dict[str, Any], bytearray]:
    """Read one frame.

    Args:
        most_bytes: a longer body is not read.

    Raises:
        EOFError: the other side ended, at a frame's end or within one.
        TimeoutError: the frame was not whole before the deadline.
        ValueError: it is no frame, or too long.
    """
    header_bytes, body_bytes = _SIZES.unpack(_read(descriptor, _SIZES.size, deadline))
    if header_bytes > MOST_HEADER_BYTES or body_bytes > most_bytes:
        raise ValueError(
            f"a frame of {header_bytes:,} + {body_bytes:,} bytes; "
            f"at most {MOST_HEADER_BYTES:,} + {most_bytes:,} are taken"
        )
    text = _read(descriptor, header_bytes, deadline)
    try:
        header = json.loads(text)
    except RecursionError:
        raise ValueError("a header nested too deeply") from None
    if not isinstance(header, dict):
        raise ValueError(f"a header is an object; got {type(header).__name__}")
    return header, _read(descriptor, body_bytes, deadline)


def _read(descriptor: int, count: int, deadline: float | None) -> bytearray:
    data = bytearray(count)
    view, filled = memoryview(data), 0
    while filled < count:
        try:
            got = os.readv(descriptor, [view[filled:]])
        except BlockingIOError:
            _wait(descriptor, select.POLLIN, deadline)
            continue
        if got == 0:
            raise EOFError
        filled += got
    return data


def _wait(descriptor: int, events: int, deadline: float | None) -> None:
    poll = select.poll()
    poll.register(descriptor, events)
    left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
    if not poll.poll(left):
        raise TimeoutError
