"""Which pictures a person means by QUERY and RESULT of an explanation."""

import os
from typing import TYPE_CHECKING

from lamella.pipeline.corpus.listing import storable
from lamella.pipeline.errors import InputError
from lamella.pipeline.names import shown
from lamella.pipeline.search.named import image_named, image_of_id, nearest_names
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.store.address import is_s3
from lamella.schemas.snapshot import IndexSnapshot

if TYPE_CHECKING:
    from lamella.pipeline.extract.given import Given


def chosen_query(
    images: ImageTable, snapshot: IndexSnapshot, text: str, *, by_id: bool = False
) -> "int | Given":
    """Return the indexed image that is meant, by its name or its id, or else a picture file.

    The name of an indexed picture goes before a file; with `by_id` a whole number is an id.

    Raises:
        InputError: it is neither; or a name of several pictures, or of one that was refused.
    """
    from lamella.pipeline.extract.given import Given, full_place

    image_id = _chosen(images, snapshot, text, by_id)
    if image_id is not None:
        return image_id
    try:
        place = full_place(text)
    except ValueError as error:
        raise InputError(f"the query picture cannot be read from {shown(text)}: {error}") from None
    if not is_s3(place) and not os.path.exists(place):
        raise InputError(
            f"QUERY is the name of an indexed picture or a picture file; {shown(text)} is neither"
            f"{nearest_names(images, text)}"
        )
    if os.path.isdir(place):
        raise InputError(f"QUERY is one picture, and {shown(text)} is a folder: name a file in it")
    return Given(storable(text)[0], place)


def chosen_result(
    images: ImageTable, snapshot: IndexSnapshot, text: str, *, by_id: bool = False
) -> int:
    """Return the indexed image that is meant, by its name, or with `by_id` by its id.

    Raises:
        InputError: there is none; or it is a name of several pictures, or of one that was refused.
    """
    image_id = _chosen(images, snapshot, text, by_id)
    if image_id is None:
        raise InputError(
            f"RESULT is the name of an indexed picture, relative to the source; snapshot "
            f"{snapshot.number} has none called {shown(text)}{nearest_names(images, text)}"
        )
    return image_id


def _chosen(images: ImageTable, snapshot: IndexSnapshot, text: str, by_id: bool) -> int | None:
    if by_id and text.isascii() and text.isdecimal():
        return image_of_id(images, int(text), snapshot.indexed)
    return image_named(images, text)
