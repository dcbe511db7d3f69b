"""The identity of a picture: a number made from its name and its bytes."""

import hashlib

from lamella.schemas.base import canonical_json


def image_id_of(container: str, name: str, sha256: bytes | None, occurrence: int = 0) -> int:
    """Return the id of an image, 63 bits.

    The same id in two snapshots means the same name and the same bytes. A picture whose bytes
    change, or which gets another name, gets another id; where it stands in the corpus is not in it.

    Args:
        sha256: of its bytes, None where they cannot be read.
        occurrence: how many entries of this container and name stand before it.
    """
    said = [container, name, sha256.hex() if sha256 else "", occurrence]
    return int.from_bytes(hashlib.sha256(canonical_json(said)).digest()[:8]) >> 1
