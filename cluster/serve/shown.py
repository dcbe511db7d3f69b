"""Indexed pictures over HTTP: as their files are, and made small."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from fastapi import Response

from lamella.cluster.serve.problems import Problem
from lamella.cluster.serve.served import Served
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.sandbox import shrink
from lamella.pipeline.page.jpeg import jpeg_of

HELD_BYTES = 64_000_000
"""Thumbnails that stay in memory; the most recently shown."""

QUALITY = 82

TYPES = {"pnm": "image/x-portable-anymap"}
"""Of formats whose type is not `image/FORMAT`."""


class Shown:
    """Makes thumbnails, a few at a time, and keeps the last ones."""

    def __init__(self, threads: int) -> None:
        self._at_once = threading.Semaphore(threads)
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()
        self._bytes = 0

    def thumbnail(self, served: Served, row: Mapping[str, Any], size: int) -> bytes:
        """Return an image as a JPEG of at most `size` pixels along either edge.

        Raises:
            Problem: its picture is gone, is another by now, or cannot be decoded.
        """
        key = row["sha256"], size
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        with self._at_once:
            try:
                pixels = shrink(served.picture(row), size, size, served.limits)
            except Refused as refused:
                raise Problem(
                    410,
                    "picture-gone",
                    f"the picture {row['name']!r} cannot be shown: {refused.reason.meaning}",
                ) from None
            made = jpeg_of(pixels, QUALITY)
        with self._lock:
            if key not in self._held:
                self._held[key] = made
                self._bytes += len(made)
            while self._bytes > HELD_BYTES:
                self._bytes -= len(self._held.popitem(last=False)[1])
        return made


def original(served: Served, image_id: int) -> Response:
    """Return the file of an image. Raises Problem where there is none, or it is gone."""
    row = served.row(image_id)
    name = quote(row["name"].rpartition("/")[2], safe="")
    return Response(
        served.picture(row),
        media_type=TYPES.get(row["format"], f"image/{row['format']}"),
        headers={"Content-Disposition": f"inline; filename*=UTF-8''{name}"},
    )
