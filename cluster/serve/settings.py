"""What `lamella serve` is told when it starts, checked before anything is opened."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from lamella.pipeline.errors import InputError, one_line

MB = 1_000_000
LEAST_TOKEN = 16
"""Characters: of fewer, a token could be guessed by asking."""


@dataclass(frozen=True)
class ServeSettings:
    """How a store is served.

    Attributes:
        snapshot: a number or a tag that is served whatever is promoted; None for the promoted one.
        weights: a local file of the network's weights, where the index was made with such a one.
        pictures: where the indexed pictures lie now; None for where they were.
        token: what every request must show; None on an address of this machine alone.
        urls: what the address of a picture that is to be fetched must begin with.
        queue: requests that wait, beside those that are being answered.
        max_upload: bytes of the body of a request, and of a fetched picture.
        follow_s: how often the promoted snapshot is looked up; None where it is not followed.
        chunk_s, body_s: for the next bytes of a body, and for all of it.
        fetch_s: for a picture that is fetched, with redirects.
        stop_s: for requests that are under way when the server is stopped.
    """

    store: str
    snapshot: int | str | None = None
    weights: Path | None = None
    pictures: str | None = None
    threads: int = 1
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    urls: tuple[str, ...] = ()
    queue: int = 64
    max_upload: int = 32 * MB
    follow_s: float | None = 5.0
    chunk_s: float = 10.0
    body_s: float = 120.0
    fetch_s: float = 15.0
    stop_s: float = 8.0

    def __post_init__(self) -> None:
        """Check what decides who may ask.

        Raises:
            InputError: an address that others reach and no token, a token that is too short or has
                other characters, or an allowed address that is none.
        """
        if self.token is None and not is_loopback(self.host):
            raise InputError(
                f"--host {one_line(repr(self.host), 100)} may be reached by others, and they must "
                "then show a token: set LAMELLA_TOKEN, for example to what `openssl rand -hex 16` "
                "prints, or leave --host out, to serve this machine alone"
            )
        if self.token is not None and not re.fullmatch(r"[A-Za-z0-9._~+/=-]*", self.token):
            raise InputError(
                "a token travels in headers and links, so it has letters, digits and ._~+/=- "
                "alone; this one has others: take what `openssl rand -hex 16` prints"
            )
        if self.token is not None and len(self.token) < LEAST_TOKEN:
            raise InputError(
                f"a token has at least {LEAST_TOKEN} characters, or it could be guessed; this one "
                f"has {len(self.token)}: take what `openssl rand -hex 16` prints"
            )
        for prefix in self.urls:
            if not re.match(r"https?://[^/?#@\\\s]+/", prefix):
                raise InputError(
                    "--allow-url takes the beginning of addresses, with a whole host and the slash "
                    f"behind it, such as https://pictures.example/; got {one_line(prefix, 200)}"
                )


def is_loopback(host: str) -> bool:
    """Say whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
