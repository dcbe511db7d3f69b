"""The one exception that refuses an image."""

import re

from lamella.pipeline.errors import LamellaError
from lamella.schemas.refusals import RefusalReason

DETAIL_CHARACTERS = 200


class Refused(LamellaError):
    """An image that gives no pixels: a reason from the closed set, and a line that says more.

    The detail is cleaned of what differs between attempts.
    """

    def __init__(self, reason: RefusalReason, detail: str = "") -> None:
        """Keep the reason and a detail without addresses, line ends or excess length."""
        # Messages of decoders hold object addresses and, for hostile files, raw bytes.
        text = re.sub(r" at 0x[0-9a-f]+", "", detail)
        text = text.encode("ascii", "backslashreplace").decode()
        text = " ".join(text.split())[:DETAIL_CHARACTERS]
        super().__init__(reason, text)
        self.reason = reason
        self.detail = text

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail or self.reason.meaning}"
