"""Translate errors of S3 requests: retry, or one sentence that says what to do.

Messages have only the codes of the server and the library, never their text: it may hold secrets.
"""

import re
from typing import Any

from lamella.pipeline.errors import (
    CommitConflict,
    LoginFailed,
    MissingFile,
    NoAccess,
    NoSuchBucket,
    StoreError,
)
from lamella.pipeline.store.retry import Transient

_AGAIN = {
    "SlowDown",
    "RequestTimeout",
    "InternalError",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    # Another writer was writing the same key at the same moment: AWS says to retry.
    "ConditionalRequestConflict",
    "OperationAborted",
    # The body was damaged in transfer; the bytes here are right.
    "IncompleteBody",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "XAmzContentChecksumMismatch",
}
_LOGIN = {
    "ExpiredToken": "the session token has expired",
    "ExpiredTokenException": "the session token has expired",
    "TokenRefreshRequired": "the session token has expired",
    "InvalidToken": "the session token is not valid",
    "InvalidAccessKeyId": "the access key is not known there",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
    "RequestExpired": "the clock of this machine is wrong",
}
_HOW_TO_LOG_IN = (
    "renew the credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN or "
    "AWS_PROFILE) and run the same command again"
)


def meaning(error: Exception, doing: str, url: str, bucket: str) -> Exception:
    """Return the exception to raise for an error of a request.

    Args:
        doing: read, write, list or remove, for the message.
        url: the object or prefix.
        bucket: its bucket.

    Returns:
        Transient if a retry may succeed; else MissingFile, CommitConflict (a conditional request
        failed), NoSuchBucket, NoAccess, LoginFailed or StoreError; the error itself if it is of a
        type that requests are not known to raise.
    """
    import aiohttp
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError

    if isinstance(error, boto.ClientError):
        return _refused(error, doing, url, bucket)
    if isinstance(
        error,
        boto.NoCredentialsError
        | boto.PartialCredentialsError
        | boto.CredentialRetrievalError
        | boto.TokenRetrievalError
        | boto.SSOError
        | boto.ProfileNotFound,
    ):
        name = type(error).__name__
        return LoginFailed(f"{url}: no credentials to use ({name}): {_HOW_TO_LOG_IN}")
    if isinstance(error, boto.SSLError):
        return StoreError(
            f"{url}: the server's certificate is not accepted: check AWS_ENDPOINT_URL, or set "
            "AWS_CA_BUNDLE"
        )
    if isinstance(
        error,
        boto.HTTPClientError
        | boto.ConnectionError
        | boto.IncompleteReadError
        | boto.ResponseStreamingError
        | ResponseParserError
        | boto.FlexibleChecksumError
        | aiohttp.ClientError
        | TimeoutError
        | ConnectionError,
    ):
        return Transient(type(error).__name__)
    if isinstance(error, boto.BotoCoreError | ValueError):
        return StoreError(
            f"{url}: the request cannot be made ({type(error).__name__}): check AWS_ENDPOINT_URL "
            "and AWS_DEFAULT_REGION"
        )
    return error


def _refused(error: Any, doing: str, url: str, bucket: str) -> Exception:
    code = re.sub(r"[^A-Za-z0-9]", "", str(error.response.get("Error", {}).get("Code", "")))[:60]
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _AGAIN or status in (408, 429) or (status >= 500 and status != 501):
        named = "" if code == str(status) else f" {code}"  # a HEAD is answered without a code
        return Transient(f"HTTP {status}{named}")
    if code in _LOGIN:
        return LoginFailed(f"{url}: {_LOGIN[code]} ({code}): {_HOW_TO_LOG_IN}")
    if code == "NoSuchBucket":
        return NoSuchBucket(
            f"there is no bucket {bucket}: make it, or check the name and AWS_ENDPOINT_URL"
        )
    if status in (401, 403):
        return NoAccess(
            f"the credentials in use have no right to {doing} {url} ({code}): "
            "give it to them, or use others"
        )
    if status == 404:
        return MissingFile(f"{url} is not there")
    if status == 412:
        return CommitConflict(f"{url} exists already")
    if status == 501:
        return StoreError(f"{url}: the server cannot {doing} it this way ({code}): use another")
    return StoreError(
        f"{url}: the server refused the request ({code}, HTTP {status}): check "
        "AWS_ENDPOINT_URL and AWS_DEFAULT_REGION"
    )
