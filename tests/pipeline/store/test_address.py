"""Addresses: what is taken, what is refused, and that no secret is repeated."""

import pytest

from lamella.pipeline.errors import InputError
from lamella.pipeline.store.address import S3Address, is_s3, parse_s3
from lamella.pipeline.store.storage import open_store


@pytest.mark.parametrize(
    ("text", "bucket", "prefix"),
    [
        ("s3://pictures", "pictures", ""),
        ("s3://pictures/", "pictures", ""),
        ("s3://my.bucket-1/a/b c", "my.bucket-1", "a/b c"),
        ("S3://pictures/a//", "pictures", "a"),
    ],
)
def test_an_address_is_a_bucket_and_a_prefix(text: str, bucket: str, prefix: str) -> None:
    assert is_s3(text)
    assert parse_s3(text) == S3Address(bucket, prefix)
    assert parse_s3(parse_s3(text).url) == S3Address(bucket, prefix)


@pytest.mark.parametrize(
    "text",
    ["s3://", "s3:///a", "s3://B", "s3://ab/../c", "s3://abc/a//b", "s3://abc/./b", "s3://a_b/c"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="S3"):
        parse_s3(text)


def test_credentials_in_an_address_are_refused_and_not_repeated() -> None:
    for text in ("s3://KEY:hush@bucket/a", "s3://hush@bucket", "https://KEY:hush@host/bucket"):
        with pytest.raises(InputError) as caught:
            open_store(text)
        assert "hush" not in str(caught.value)
        assert "KEY" not in str(caught.value).replace("ACCESS_KEY", "")
