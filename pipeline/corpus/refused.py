"""The one exception that refuses an image, and what is said of many that were."""

import re
from collections.abc import Mapping

from lamella.pipeline.errors import LamellaError
from lamella.schemas.refusals import RefusalReason

DETAIL_CHARACTERS = 200
TOP_REASONS = 3


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


def top_reasons(reasons: Mapping[str, int]) -> str:
    """Return the commonest reasons of refusals with their counts, for a message; "" for none.

    >>> top_reasons({"missing": 2, "truncated": 1200, "corrupt": 1, "too-slow": 1})
    '1,200 truncated, 2 missing, 1 corrupt and 1 for other reasons'
    """
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{count:,} {reason}" for reason, count in ordered[:TOP_REASONS])
    others = sum(count for _, count in ordered[TOP_REASONS:])
    return f"{listed} and {others:,} for other reasons" if others else listed
