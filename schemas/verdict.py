"""A costly verdict on a picture, kept until its shard is done."""

from typing import Annotated

from pydantic import Field

from lamella.schemas.base import Record, digest_of
from lamella.schemas.refusals import RefusalReason

DEAR = (
    RefusalReason.DECODER_CRASHED,
    RefusalReason.TOO_SLOW,
    RefusalReason.TOO_MUCH_MEMORY,
)
"""Reasons that cost two processes, and perhaps minutes."""


class Verdict(Record):
    """Why a picture of these bytes is refused under these limits on decoding it.

    Written create-only by the attempt that met the picture, for the attempts after it.
    """

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    max_seconds: float
    max_memory: int
    reason: RefusalReason
    detail: str


def verdict_name(sha256: str, max_seconds: float, max_memory: int) -> str:
    """Return a verdict's name: a digest of the picture's bytes and the limits."""
    return digest_of([sha256, max_seconds, max_memory])[:32]
