"""Addresses of stores and sources in S3: `s3://bucket/prefix`. Anything else is a local folder."""

import re
from dataclasses import dataclass

from lamella.pipeline.errors import InputError

S3 = "s3://"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True)
class S3Address:
    """A bucket and a prefix in it; the prefix "" is the whole bucket."""

    bucket: str
    prefix: str = ""

    @property
    def url(self) -> str:
        return f"{S3}{self.bucket}/{self.prefix}" if self.prefix else f"{S3}{self.bucket}"

    def key(self, path: str) -> str:
        """Return the key of a file under the prefix."""
        return f"{self.prefix}/{path}" if self.prefix else path


def is_s3(text: str) -> bool:
    """Say whether a text is meant as an address in S3."""
    return text[: len(S3)].lower() == S3


def parse_s3(text: str) -> S3Address:
    """Return the bucket and the prefix of an address; slashes at its end are ignored.

    Raises:
        InputError: it has no valid bucket, it has credentials, or a part is empty, `.` or `..`.
    """
    bucket, _, prefix = text[len(S3) :].partition("/")
    if "@" in bucket or ":" in bucket:
        # The message does not repeat the text: what is before the @ may be a secret.
        raise InputError(
            "an S3 address is s3://bucket/prefix, without credentials or a host: set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, and AWS_ENDPOINT_URL"
        )
    if not is_s3(text) or not _BUCKET.fullmatch(bucket):
        raise InputError(f"an S3 address is s3://bucket/prefix; got {text!r}")
    prefix = prefix.rstrip("/")
    if prefix and any(part in ("", ".", "..") for part in prefix.split("/")):
        raise InputError(f"a prefix in S3 has no empty parts, no . and no ..; got {text!r}")
    return S3Address(bucket, prefix)
