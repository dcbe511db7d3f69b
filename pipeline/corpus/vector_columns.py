"""Which columns of a table hold names and vectors, by their types and names, or as a user says."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.names import known_names

NAMES = (
    *("name", "file_name", "filename", "image_name", "path", "file_path", "filepath"),
    *("image_path", "key", "__key__", "id", "image_id", "image"),
)
VECTORS = (
    *("vector", "embedding", "feature", "vectors", "embeddings", "features", "emb", "embeds"),
    *("image_embedding", "image_embeddings", "image_embeds", "image_features", "clip"),
)
MOST_SHOWN = 10
"""Columns that a message names."""


def columns_of(schema: Any, place: str, column: str | None = None) -> tuple[str, str]:
    """Return which columns of an Arrow schema hold the names and the vectors.

    Names are in the first column of a usual name, or in the only one of text. Vectors are in the
    only column of lists of numbers, or in the only one of a usual name among several.

    Args:
        place: the file, for messages.
        column: of the vectors, where the user names it.

    Raises:
        InputError: there is none, or it is not clear which; the message lists the columns.
    """
    types = {field.name: field.type for field in schema}
    if len(types) < len(schema):
        raise InputError(f"{place} has two columns of one name: rename one")
    return _names_among(types, place), _vectors_among(types, place, column)


def _names_among(types: Mapping[str, Any], place: str) -> str:
    text = [name for name, kind in types.items() if _is_text(kind)]
    usual = [name for name in NAMES if name in text or _is_whole(types.get(name))]
    if usual or len(text) == 1:
        return (usual or text)[0]
    raise InputError(
        f"{place} has {'no column' if not text else 'several columns'} of text that names could "
        f"be in; its columns are {shown(types)}: call the one with names relative to the source "
        "'name'"
    )


def _vectors_among(types: Mapping[str, Any], place: str, said: str | None) -> str:
    fitting = [name for name, kind in types.items() if is_vector(kind)]
    wanted = "vectors are lists of float16, float32 or float64"
    if said is not None:
        if said in fitting:
            return said
        if said in types:
            raise InputError(f"{place}: {wanted}; column {said!r} is {one_line(types[said], 60)}")
        known = known_names(said, fitting)
        raise InputError(f"{place} has no column {one_line(repr(said), 60)} of vectors: {known}")
    usual = [name for name in VECTORS if name in fitting]
    if len(fitting) == 1 or len(usual) == 1:
        return fitting[0] if len(fitting) == 1 else usual[0]
    if not fitting:
        raise InputError(f"{place} has no column of vectors; {wanted}, and here are {shown(types)}")
    several = ", ".join(map(repr, fitting[:MOST_SHOWN]))
    raise InputError(
        f"{place} has several columns of vectors, {several}: say which one, as in "
        f"--vectors NAME={place}:{fitting[0]}"
    )


def is_vector(kind: Any) -> bool:
    """Say whether an Arrow type is a list of floating-point numbers, of any or of one length."""
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(check(kind) for check in lists) and bool(pa.types.is_floating(kind.value_type))


def _is_text(kind: Any) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(check(kind) for check in checks)


def _is_whole(kind: Any) -> bool:
    return kind is not None and bool(pa.types.is_integer(kind))


def shown(types: Mapping[str, Any]) -> str:
    """Return columns with their types, as a message lists them."""
    listed = [f"{name!r} ({one_line(str(kind), 60)})" for name, kind in types.items()]
    more = len(listed) - MOST_SHOWN
    said = ", ".join(listed[:MOST_SHOWN]) or "none"
    return f"{said} and {more:,} more" if more > 0 else said
