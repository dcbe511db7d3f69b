"""How a request fails: a status, a word for programs, and the message as commands have it."""

from collections.abc import Mapping
from typing import Any

from starlette.formparsers import MultiPartException

from lamella.pipeline import errors
from lamella.pipeline.errors import InputError, one_line

LONGEST = 2_000
"""The most characters of a message: it may repeat what was asked."""


class Problem(MultiPartException):
    """Why a request is not answered.

    Of the kind that the parser of uploads raises, for that closes what it has open at it alone.

    Attributes:
        status: of HTTP.
        code: a word of a closed set, for programs.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(one_line(message, LONGEST))
        self.status, self.code, self.headers = status, code, dict(headers or {})

    def body(self) -> dict[str, Any]:
        """Return what the client is told."""
        return {"error": self.message, "code": self.code}


def problem_of(error: Exception) -> Problem:
    """Return what a client is told of an error; of one that nobody foresaw, its kind alone."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, MultiPartException):
        return Problem(400, "wrong-request", f"the form cannot be read: {error.message}")
    if isinstance(error, InputError):
        return Problem(400, "wrong-request", str(error))
    if isinstance(error, errors.StoreUnavailable | errors.DecoderUnavailable):
        return Problem(503, "unavailable", str(error), {"Retry-After": "10"})
    if isinstance(error, errors.LamellaError):
        return Problem(500, "failed", str(error))
    return Problem(
        500,
        "failed",
        f"the server failed at this request ({type(error).__name__}); its log has more",
    )
