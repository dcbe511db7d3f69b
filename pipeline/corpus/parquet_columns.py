"""Which column of a Parquet file holds the pictures, by its name and type, or as the user says."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.names import closest

PARQUET = "parquet"
MOST_SHOWN = 10
"""Columns that a message names."""

_PATHS = ("uri", "path", "url", "image")
_BYTES = (
    *("bytes", "image", "jpg", "content", "img"),
    *("png", "jpeg", "webp", "picture", "photo", "image_bytes", "image_data", "img_bytes", "data"),
)
_NAMES = ("name", "id", "key")
_SAID_PATHS, _SAID_BYTES = "uri, path or url", "bytes, image, jpg, content or img"


def parquet_kind(column: str | None) -> str:
    """Return the kind of a Parquet source whose pictures are in this column."""
    return PARQUET if column is None else f"{PARQUET}:{column}"


def column_of(kind: str) -> str | None:
    """Return the column that a kind of source names, None where it is found by its name."""
    head, colon, column = kind.partition(":")
    return column if head == PARQUET and colon else None


@dataclass(frozen=True)
class ParquetColumns:
    """Which columns of a Parquet file hold the pictures: `data`, and perhaps their names.

    `embedded` is true for bytes, or a struct of bytes and path; false for a column of paths.
    `is_struct` is true where a struct has a path too.
    """

    data: str
    embedded: bool
    is_struct: bool
    name: str | None

    @classmethod
    def of(cls, schema: Any, container: str, column: str | None = None) -> "ParquetColumns":
        """Choose from a file's Arrow schema.

        Columns of bytes go before columns of text: a caption or an address may stand beside them.

        Args:
            column: the one that the user names, of any name.

        Raises:
            InputError: no column has a name and a type that pictures may have, or the named one is
                not there.
        """
        types = {field.name: field.type for field in schema}
        if len(types) < len(schema):
            raise InputError(f"Parquet {container} has two columns of one name: rename one")
        name = next((name for name in _NAMES if name in types and _names(types[name])), None)
        if column is not None and column not in types:
            raise InputError(_no_such(container, column, types))
        for found in _BYTES if column is None else (column,):
            kind = types.get(found)
            if kind is None:
                continue
            if is_binary(kind):
                paths = (path for path in _PATHS if path in types and is_text(types[path]))
                return cls(found, True, False, name or next(paths, None))
            if pa.types.is_struct(kind):
                fields = {field.name: field.type for field in kind}
                if "bytes" in fields and is_binary(fields["bytes"]):
                    return cls(found, True, "path" in fields, name)
        for found in _PATHS if column is None else (column,):
            if found in types and is_text(types[found]):
                return cls(found, False, False, name)
        raise InputError(_no_pictures(container, column, types))


def _no_such(container: str, column: str, types: Mapping[str, Any]) -> str:
    hint = closest(column, types)
    meant = f": did you mean {_shown(hint)}?" if hint is not None else ""
    return (
        f"Parquet {container} has no column {_shown(column)}{meant or ':'} it has {_listed(types)}"
    )


def _no_pictures(container: str, column: str | None, types: Mapping[str, Any]) -> str:
    if column is not None:
        return (
            f"Parquet {container} has columns {_listed(types)}; {_shown(column)} holds neither "
            "text nor binary values, nor a struct with binary bytes: name another column"
        )
    may = [name for name, kind in types.items() if may_hold_pictures(kind)]
    likely = may[0] if may else closest("image", types)
    if may:
        such = shlex.quote(_shown(may[0]))
        way_out = f"name the column with --column (corpus.column), such as --column {such}"
    elif likely is not None:
        way_out = (
            f"{_shown(likely)} is the nearest, and is {_type(types[likely])}: write it as binary"
        )
    else:
        way_out = "write the pictures into one of these, or name the column with --column"
    return (
        f"Parquet {container} has columns {_listed(types)}; pictures are read from {_SAID_PATHS} "
        f"(text), or {_SAID_BYTES} (binary, or a struct with binary bytes): {way_out}"
    )


def may_hold_pictures(kind: Any) -> bool:
    """Say whether a column of this type can be named as that of the pictures."""
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and is_binary(field.type) for field in kind)
    return is_binary(kind) or is_text(kind)


def _listed(types: Mapping[str, Any]) -> str:
    shown = [f"{_shown(name)} ({_type(kind)})" for name, kind in types.items()][:MOST_SHOWN]
    more = len(types) - len(shown)
    return (", ".join(shown) or "none") + (f" and {more:,} more" if more else "")


def _shown(name: str) -> str:
    return one_line(name, 60)


def _type(kind: Any) -> str:
    return one_line(str(kind), 60)


def _names(kind: Any) -> bool:
    return is_text(kind) or bool(pa.types.is_integer(kind))


def is_binary(kind: Any) -> bool:
    """Say whether a type holds bytes, of any layout."""
    return _is_one(kind, ("is_binary", "is_large_binary", "is_binary_view", "is_fixed_size_binary"))


def is_text(kind: Any) -> bool:
    """Say whether a type holds text, of any layout."""
    return _is_one(kind, ("is_string", "is_large_string", "is_string_view"))


def _is_one(kind: Any, checks: Iterable[str]) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return any(bool(getattr(pa.types, check)(kind)) for check in checks)
