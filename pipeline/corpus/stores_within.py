"""Stores that lie in a source: their files are not its pictures, and change with every run."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from lamella.pipeline.corpus.locations import is_s3, named_by
from lamella.pipeline.errors import InputError
from lamella.pipeline.store.address import parse_s3
from lamella.pipeline.store.tree import MARKER, MARKER_BYTES, tops

MARKED = MARKER.partition("/")[0]
"""The folder in a store that holds its marker."""


def is_store(folder: str) -> bool:
    """Say whether a local folder has the marker of a store."""
    try:
        with open(os.path.join(folder, MARKER), "rb") as file:
            return file.read(len(MARKER_BYTES) + 1) == MARKER_BYTES
    except OSError:
        return False


def is_own(top: str) -> bool:
    """Say whether a store has a folder of this name right below its root."""
    return top == MARKED or top in tops()


def marked(names: Iterable[str]) -> list[str]:
    """Return the prefixes of the stores among names of objects, "" for that of all of them."""
    return [name.removesuffix(MARKER) for name in names if f"/{name}".endswith(f"/{MARKER}")]


def is_within(name: str, prefixes: Iterable[str]) -> bool:
    """Say whether an object belongs to one of the stores with these prefixes."""
    return any(
        name.startswith(prefix) and (prefix != "" or is_own(name.partition("/")[0]))
        for prefix in prefixes
    )


def check_apart(source: str, into: str) -> None:
    """Check, before anything is written, that a source is not the store itself.

    Args:
        source: as `sources.plain_source` gives it.
        into: the store, as the user names it.

    Raises:
        InputError: it is.
    """
    with contextlib.suppress(ValueError):
        source = source if is_s3(source) else named_by("/", source)
    if is_s3(source) and is_s3(into):
        same = parse_s3(source) == parse_s3(into)
    elif is_s3(source) or is_s3(into) or "\0" in source + into or not into:
        return  # what cannot be is said where it is opened
    else:
        same = Path(source).resolve() == Path(into).expanduser().resolve()
        same = same and os.path.isdir(source)
    if same:
        raise InputError(
            f"the store {into} would lie among the pictures of the source {source} itself: give it "
            f"a folder of its own, such as --into {into.rstrip('/')}/index"
        )
