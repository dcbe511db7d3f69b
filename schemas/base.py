"""The ground all stored models stand on: frozen, strict, with a digest of their canonical JSON."""

import hashlib
import json
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

FORMAT_VERSION = 1
"""Version of everything stored. Its history is in FORMAT.md."""

FormatVersion = Annotated[int, Field(ge=1, le=FORMAT_VERSION)]
"""The version a record was written in; a reader refuses one that is newer than itself."""


def canonical_json(value: Any) -> bytes:
    """Return JSON with sorted keys and no spaces, in UTF-8: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest_of(value: Any) -> str:
    """Return the SHA-256, in hex, of a JSON value's canonical form."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


class Stored(BaseModel):
    """A frozen value that refuses unknown fields and knows its digest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> bytes:
        """Return the canonical JSON of this value."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read a value back, checking every field."""
        return cls.model_validate_json(data)

    def digest(self) -> str:
        """Return the SHA-256, in hex, of the canonical JSON."""
        return hashlib.sha256(self.to_json()).hexdigest()
