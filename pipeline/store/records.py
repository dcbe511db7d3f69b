"""Read records from a store and check their seals; every error names the file."""

import hashlib
import re
from typing import TypeVar

from pydantic import ValidationError

from lamella.pipeline.errors import CorruptFile, NewerFormat, OlderFormat, one_line
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.record_rules import broken_rule
from lamella.schemas.base import NewerRecord, OlderRecord, Record

RecordT = TypeVar("RecordT", bound=Record)


def read_record(store: Store, path: str, kind: type[RecordT]) -> RecordT:
    """Read and check the record in a file.

    Raises:
        MissingFile: the file is not there.
        NewerFormat, OlderFormat, CorruptFile: as `parse_record`.
    """
    return parse_record(store, path, kind, store.read(path))


def parse_record(store: Store, path: str, kind: type[RecordT], data: bytes) -> RecordT:
    """Check the bytes of a record and return it.

    Args:
        path: where the bytes come from; it must be the record's own path.

    Raises:
        NewerFormat, OlderFormat: another version of this software wrote it.
        CorruptFile: the bytes were changed, they break a rule, or they belong to another path.
    """
    try:
        record = kind.from_json(data)
    except NewerRecord as error:
        raise NewerFormat(f"{path}: {error}: use the newer Lamella that wrote this store") from None
    except OlderRecord as error:
        raise OlderFormat(
            f"{path}: {error}: index the pictures into a new store, or use the older Lamella that "
            "wrote this one"
        ) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        raise CorruptFile(
            f"{path} breaks a rule of its kind: "
            f"{one_line(f'{where}: {what}' if where else what)}; {cure(store)}"
        ) from None
    except ValueError as error:
        raise CorruptFile(
            f"{path} was changed since it was written: {error}; {cure(store)}"
        ) from None
    if problem := broken_rule(path, record):
        raise CorruptFile(f"{path} {problem}; {cure(store)}")
    return record


def cure(store: Store) -> str:
    """Return the end of an error message, which says what to do about damage."""
    return f"`lamella verify {store.url}` names the command that rebuilds it"


def sealed_text(page: str) -> bytes:
    """Return an HTML page as bytes, with its SHA-256 in a comment at the end: its seal."""
    text = page.encode()
    return text + f"<!-- seal {hashlib.sha256(text).hexdigest()} -->\n".encode()


def is_sealed(data: bytes) -> bool:
    """Say whether a page is unchanged since `sealed_text` sealed it."""
    found = _SEAL.search(data)
    return (
        found is not None and hashlib.sha256(data[: found.start()]).hexdigest().encode() == found[1]
    )


_SEAL = re.compile(rb"<!-- seal ([0-9a-f]{64}) -->\n\Z")
