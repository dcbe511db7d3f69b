"""Pictures by their address, from places that whoever started the server has allowed."""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from lamella.cluster.serve.problems import Problem
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.errors import one_line
from lamella.pipeline.text import counted
from lamella.schemas.refusals import RefusalReason

MOST_REDIRECTS = 3
CHUNK = 1 << 16


def check_url(url: str, allowed: Sequence[str]) -> None:
    """Check that a picture may be fetched from an address.

    The host and the path are compared as they are written, so what other programs read in another
    way, such as `..`, a backslash or a name before an `@`, is in no allowed place.

    Raises:
        Problem: it may not; with the rule.
    """
    rest = unquote(url.partition("://")[2])
    odd = not url.isprintable() or " " in url or "\\" in rest or "@" in rest.partition("/")[0]
    if odd or ".." in rest.split("/") or not any(url.startswith(each) for each in allowed):
        listed = " or ".join(allowed) or "nothing, for the server was started without --allow-url"
        raise Problem(
            403,
            "url-not-allowed",
            f"the address of a picture must begin with {listed}; got {one_line(url, 300)}: upload "
            "the picture, or have the server allow its place",
        )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves redirects to `fetch`, which checks where they lead."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """See urllib."""


_opener = urllib.request.build_opener(_NoRedirects)


def fetch(url: str, allowed: Sequence[str], most_bytes: int, seconds: float) -> bytes:
    """Return the picture at an address.

    Args:
        seconds: for all of it, with redirects.

    Raises:
        Problem: it, or a place that it leads to, is not allowed.
        Refused: it cannot be had, or is too large or too slow.
    """
    end = time.monotonic() + seconds
    for _ in range(MOST_REDIRECTS + 1):
        check_url(url, allowed)
        try:
            with _opener.open(url, timeout=max(0.1, end - time.monotonic())) as answer:
                return _body(answer, most_bytes, end, seconds)
        except urllib.error.HTTPError as error:
            with error:
                place = error.headers.get("Location")
                if error.code not in (301, 302, 303, 307, 308) or not place:
                    raise _failed(f"its server answers {error.code}") from None
            url = urljoin(url, place)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _failed(one_line(getattr(error, "reason", error))) from None
    raise _failed(f"it leads on more than {counted(MOST_REDIRECTS, 'time')}")


def _body(answer: Any, most_bytes: int, end: float, seconds: float) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := answer.read1(CHUNK):
        parts.append(part)
        size += len(part)
        if size > most_bytes:
            raise Refused(
                RefusalReason.TOO_LARGE_FILE, f"more than {most_bytes:,} bytes, which is the limit"
            )
        if time.monotonic() > end:
            raise _failed(f"it takes more than {seconds:g} s")
    return b"".join(parts)


def _failed(why: str) -> Refused:
    return Refused(RefusalReason.UNREADABLE, why)


def name_of(url: str) -> str:
    """Return what an answer calls a picture: its address, without what may be a key to it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"
