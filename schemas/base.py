"""The base of all stored models: frozen, strict, with a digest of their canonical JSON."""

import hashlib
import json
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

FORMAT_VERSION = 2
"""Version of everything stored. Its history is in FORMAT.md."""

FormatVersion = Annotated[int, Field(ge=FORMAT_VERSION, le=FORMAT_VERSION)]
"""The version a record was written in; a reader refuses any other than its own."""


def canonical_json(value: Any) -> bytes:
    """Return JSON with sorted keys and no spaces, in UTF-8: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest_of(value: Any) -> str:
    """Return the SHA-256, in hex, of a JSON value's canonical form."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


class Stored(BaseModel):
    """A frozen value that refuses unknown fields and knows its digest."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def to_json(self) -> bytes:
        """Return the canonical JSON of this value."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read a value back, checking every field."""
        return cls.model_validate_json(data)

    def digest(self) -> str:
        """Return the SHA-256, in hex, of the canonical JSON of the fields."""
        return digest_of(self.model_dump(mode="json"))


class BrokenRecord(ValueError):
    """The bytes of a record are not those that were written."""


class NewerRecord(ValueError):
    """A record of a format version that this reader does not know yet."""


class OlderRecord(ValueError):
    """A record of a format version that this reader does not know any more."""


class Record(Stored):
    """A stored value with a file of its own, whose seal shows a change of any byte.

    In the file it has two keys more: `format_version`, where it is no field, and `seal`, the
    SHA-256 of the canonical JSON of all the others. Neither is part of its digest.
    """

    def to_json(self) -> bytes:
        """Return the canonical JSON of this value with its format version and its seal."""
        value = {"format_version": FORMAT_VERSION} | self.model_dump(mode="json")
        return canonical_json(value | {"seal": digest_of(value)})

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read a record back. Its version is judged first, then its bytes, then its fields.

        Raises:
            NewerRecord, OlderRecord: another version wrote it, whatever else is in it.
            BrokenRecord: the seal is not that of the bytes, or there is none.
            ValueError: what was sealed breaks a rule of this record.
        """
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            raise BrokenRecord("it is no JSON") from None
        if not isinstance(value, dict):
            raise BrokenRecord("it is no JSON object")
        version = value.get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise NewerRecord(
                f"it is in format version {version}, this Lamella reads up to {FORMAT_VERSION}"
            )
        if isinstance(version, int) and version < FORMAT_VERSION:
            raise OlderRecord(
                f"it is in format version {version}, this Lamella reads {FORMAT_VERSION}"
            )
        seal = value.pop("seal", None)
        expected = digest_of(value)
        if seal != expected:
            raise BrokenRecord(
                f"its contents have SHA-256 {expected[:12]}, its seal {_short(seal)}"
            )
        if canonical_json(value | {"seal": seal}) != data:
            # Equal values in other bytes, such as an extra space: Lamella did not write that.
            raise BrokenRecord("it is not in canonical JSON")
        if "format_version" not in cls.model_fields:
            value.pop("format_version", None)
        return super().from_json(canonical_json(value))


def _short(seal: object) -> str:
    return "is missing" if seal is None else f"says {str(seal)[:12]!r}"
