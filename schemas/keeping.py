"""Records of what is kept and what is not: tags, expired snapshots, forgotten pictures."""

from typing import Literal

from pydantic import Field

from lamella.schemas.base import FORMAT_VERSION, FormatVersion, Record


class Expired(Record):
    """Says that a snapshot is gone, and keeps its number from being used again.

    Created before the snapshot's file is removed. `reason` is a line for a person.
    """

    format_version: FormatVersion = FORMAT_VERSION
    number: int = Field(ge=1)
    root_digest: str = Field(default="", description="of the snapshot; empty if it is not known")
    expired_at: str
    reason: str


class Tag(Record):
    """A name for a snapshot. A snapshot with a name does not expire."""

    format_version: FormatVersion = FORMAT_VERSION
    name: str = Field(min_length=1)
    snapshot: int = Field(ge=1)
    tagged_at: str


class Forgotten(Record):
    """A picture that must never be indexed again, by its name or by its bytes.

    The record holds neither. `stands_for` is the SHA-256, in hex, of the text `lamella forgotten
    name` or `lamella forgotten sha256`, a line end, and the name in UTF-8 or the SHA-256 of the
    bytes in hex. So whoever knows the name can check it, and nobody can read it here; names that
    are easy to guess can be guessed.
    """

    format_version: FormatVersion = FORMAT_VERSION
    by: Literal["name", "sha256"]
    stands_for: str = Field(pattern=r"^[0-9a-f]{64}$")
    forgotten_at: str
    reason: str
