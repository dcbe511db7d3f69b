"""What each failure of a request means: try again, or one sentence without the server's words."""

import pytest
from botocore import exceptions as boto

from lamella.pipeline.errors import (
    CommitConflict,
    LoginFailed,
    MissingFile,
    NoAccess,
    NoSuchBucket,
    StoreError,
)
from lamella.pipeline.store.retry import Transient
from lamella.pipeline.store.s3_errors import meaning


def refused(status: int, code: str) -> boto.ClientError:
    """Return a refusal as the library raises it, with a secret in the server's words."""
    error = {"Code": code, "Message": "the key hush is not right"}
    reply = {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}
    return boto.ClientError(reply, "PutObject")


def told(error: Exception) -> Exception:
    return meaning(error, "write", "s3://bucket/a", "bucket")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "InternalError"),
        (503, "SlowDown"),
        (503, "503"),
        (502, "BadGateway"),
        (429, "TooManyRequests"),
        (408, "x"),
        (409, "ConditionalRequestConflict"),
        (400, "RequestTimeout"),
        (400, "IncompleteBody"),
        (400, "BadDigest"),
    ],
)
def test_these_refusals_are_worth_another_try(status: int, code: str) -> None:
    found = told(refused(status, code))
    assert isinstance(found, Transient)
    assert str(status) in str(found)


@pytest.mark.parametrize(
    ("status", "code", "kind", "why"),
    [
        (400, "ExpiredToken", LoginFailed, "has expired .* run the same command again"),
        (403, "SignatureDoesNotMatch", LoginFailed, "the secret key is wrong"),
        (403, "InvalidAccessKeyId", LoginFailed, "not known there"),
        (403, "RequestTimeTooSkewed", LoginFailed, "the clock of this machine is wrong"),
        (403, "AccessDenied", NoAccess, "no right to write s3://bucket/a"),
        (401, "Unauthorized", NoAccess, "no right to write"),
        (404, "NoSuchBucket", NoSuchBucket, "there is no bucket bucket: make it"),
        (404, "NoSuchKey", MissingFile, "is not there"),
        (412, "PreconditionFailed", CommitConflict, "exists already"),
        (501, "NotImplemented", StoreError, "cannot write it this way"),
        (301, "PermanentRedirect", StoreError, "AWS_DEFAULT_REGION"),
    ],
)
def test_these_refusals_are_final(status: int, code: str, kind: type[Exception], why: str) -> None:
    found = told(refused(status, code))
    assert type(found) is kind
    with pytest.raises(kind, match=why):
        raise found


def test_no_sentence_repeats_what_the_server_said() -> None:
    for status in (301, 400, 403, 404, 412, 500, 501):
        for code in ("hu sh", "AccessDenied", "hush\x1b[2J\n"):
            assert "the key" not in str(told(refused(status, code)))
            assert "\x1b" not in str(told(refused(status, code)))


@pytest.mark.parametrize(
    "error",
    [
        boto.EndpointConnectionError(endpoint_url="http://host", error="refused"),
        boto.ConnectTimeoutError(endpoint_url="http://host"),
        boto.ReadTimeoutError(endpoint_url="http://host"),
        boto.ConnectionClosedError(endpoint_url="http://host"),
        boto.IncompleteReadError(actual_bytes=1, expected_bytes=2),
        boto.FlexibleChecksumError(error_msg="crc"),
        TimeoutError(),
        ConnectionResetError(),
    ],
)
def test_a_broken_connection_or_body_is_worth_another_try(error: Exception) -> None:
    assert isinstance(told(error), Transient)


def test_a_certificate_that_is_not_accepted_is_told_at_once() -> None:
    found = told(boto.SSLError(endpoint_url="https://host", error="self-signed"))
    assert type(found) is StoreError
    assert "certificate" in str(found)


def test_what_is_no_failure_of_a_request_stays_itself() -> None:
    error = KeyError("a defect")
    assert told(error) is error
