"""Pictures that a caller hands over, beside those that lie in a source: bytes, pixels, paths."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.image_table import probe_bytes, probe_rows
from lamella.pipeline.corpus.listing import Entry, storable
from lamella.pipeline.corpus.locations import is_s3, named_by
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.resize import look_at, picture_of
from lamella.pipeline.extract.activations import Row
from lamella.pipeline.extract.jpegs import Jpeg
from lamella.pipeline.extract.preprocess import look_of
from lamella.pipeline.extract.work import PictureSource, Seen
from lamella.schemas.corpus import IMAGES
from lamella.schemas.extraction import PreprocessSpec, View

ROOT = "/"
"""Paths are given in full. This folder always answers, so a file that is not there is missing."""


@dataclass(frozen=True, eq=False)
class Given:
    """A picture: the full path or S3 address of a file, the bytes of one, RGB pixels (H, W, 3).

    Or why there is none. `name` is what answers call it.
    """

    name: str
    content: str | bytes | NDArray[np.uint8] | Refused


def full_place(path: str) -> str:
    """Return the full path of a file on this machine, or its address in S3.

    Raises:
        ValueError: neither can be named so; the message names what is allowed.
    """
    place = named_by(ROOT, path)
    return place if is_s3(place) else os.path.abspath(os.path.expanduser(place))


class GivenPictures(PictureSource):
    """Gives what is seen of rows of `rows_of_given`."""

    def __init__(self, limits: DecodeLimits) -> None:
        super().__init__(ROOT, limits, "list")

    def _see(self, row: Row, views: Iterable[View], spec: PreprocessSpec) -> Seen | Jpeg:
        content = row.get("content")
        if content is None:
            return super()._see(row, views, spec)
        if isinstance(content, bytes):
            return self._look(content, row, views, spec)
        height, width = content.shape[:2]
        picture = picture_of(content)
        return [look_at(picture, look_of(height, width, view, spec)) for view in views]


def rows_of_given(pictures: Sequence[Given], limits: DecodeLimits) -> list[dict[str, Any]]:
    """Return the row of an image table for each picture, with what it is in `content`.

    A file is read and its header looked at; a picture that cannot be read keeps its row, with the
    reason as its refusal.

    Raises:
        DecoderUnavailable, StoreUnavailable: this machine cannot read it.
    """
    paths = [storable(each.content) for each in pictures if isinstance(each.content, str)]
    entries = [Entry(name, fault=fault) for name, fault in paths]
    files = iter(probe_rows(ROOT, "list", entries, limits))
    rows = [
        next(files) if isinstance(each.content, str) else _row(each.name, each.content, limits)
        for each in pictures
    ]
    return [row for row in rows if row is not None]  # only in folders and tars is any ignored


def _row(
    name: str, content: bytes | NDArray[np.uint8] | Refused, limits: DecodeLimits
) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(IMAGES.names) | {"name": name, "container": ""}
    row |= {"detail": "", "content": content}
    if isinstance(content, Refused):
        return row | {"refusal": content.reason.value, "detail": content.detail}
    if not isinstance(content, bytes):
        return row | {"height": content.shape[0], "width": content.shape[1]}
    try:
        probe_bytes(row, content, limits)
    except Refused as refused:
        row |= {"refusal": refused.reason.value, "detail": refused.detail}
    return row
