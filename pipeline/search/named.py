"""The one indexed image that a person means by a name or an id."""

import difflib
import itertools

from lamella.pipeline.errors import InputError
from lamella.pipeline.names import shown
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.text import counted, printable

LOOKED_AT = 20_000
"""Names that are compared with a wrong one letter by letter; of more, the first."""

MOST_NEAR = 3


def image_named(images: ImageTable, name: str) -> int | None:
    """Return the id of the indexed image of a name, None where no picture of the corpus has it.

    Raises:
        InputError: several have it, or only one that was refused.
    """
    ids, refused = images.all_named(name)
    if len(ids) > 1:
        listed = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
        raise InputError(
            f"a name must be that of one picture, and {counted(len(ids), 'indexed picture')} are "
            f"called {shown(name)}: name one by its id with --id ({listed})"
        )
    if not ids and refused:
        raise InputError(
            f"picture {shown(name)} was refused when it was indexed, and no query finds it: "
            "`lamella status` tells why, and `lamella retry` reads it again"
        )
    return ids[0] if ids else None


def image_of_id(images: ImageTable, image_id: int, indexed: int) -> int:
    """Return an id if it is of an indexed image.

    Args:
        indexed: how many images there are, for the message.

    Raises:
        InputError: it is of none.
    """
    # Ids have 63 bits; a greater number would not fit the arrays that are searched.
    if 0 <= image_id < 1 << 63:
        try:
            images.names_of([image_id])
        except KeyError:
            pass
        else:
            return image_id
    raise InputError(
        f"image {image_id} is not in the snapshot, which has {counted(indexed, 'image')}: it was "
        "refused when it was indexed, or there is none of this id; `lamella query --json` prints "
        "ids"
    )


def nearest_names(images: ImageTable, name: str) -> str:
    """Return what a message says of names that are like one that is not known; "" if none is.

    First those with the same last part, then those that have like letters.
    """
    last = name.rpartition("/")[2].casefold()
    same = (other for other, _ in images.names() if other.rpartition("/")[2].casefold() == last)
    near = list(itertools.islice(same, MOST_NEAR)) if last else []
    if not near:
        some = [other for other, _ in itertools.islice(images.names(), LOOKED_AT)]
        near = difflib.get_close_matches(name[:200], some, n=MOST_NEAR)
    listed = ", ".join(printable(other) for other in dict.fromkeys(near))
    return f"; names like it: {listed}" if listed else ""
