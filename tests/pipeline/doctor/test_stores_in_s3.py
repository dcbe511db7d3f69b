"""A place in S3 is tried with real requests, and left as it was."""

import pytest

from lamella.pipeline.doctor.findings import caught
from lamella.pipeline.doctor.stores import of_store
from lamella.pipeline.store.s3 import client
from lamella.pipeline.store.storage import open_store
from tests.s3 import READER_KEY, READER_SECRET, S3Server, environ, environment


def keys(bucket: str) -> list[str]:
    return [file.key for page in client().pages(bucket, "", deep=True) for file in page.files]


@pytest.mark.slow
def test_a_place_in_s3_is_tried_and_left_as_it_was(bucket: str) -> None:
    assert {each.state for each in of_store(f"s3://{bucket}/new")} == {"ok"}
    assert keys(bucket) == []
    open_store(f"s3://{bucket}/store", create=True)
    before = keys(bucket)
    first, *others = of_store(f"s3://{bucket}/store")
    assert "no limit is known" in first.says
    assert {each.state for each in others} == {"ok"}
    assert keys(bucket) == before != []


def test_a_right_that_is_missing_is_told(s3_server: S3Server, bucket: str) -> None:
    with environ(environment(s3_server.endpoint, READER_KEY, READER_SECRET)):
        (found,) = caught("store", lambda: of_store(f"s3://{bucket}/new"), needed=True)
    assert (found.state, found.needed) == ("broken", True)
    assert "have no right to" in found.says


@pytest.mark.parametrize("url", ["s3://", "s3://UPPER/x", "s3://key:secret@bucket/x", "http://x/y"])
def test_an_address_that_is_none_is_told(url: str) -> None:
    (found,) = caught("store", lambda: of_store(url), needed=True)
    assert found.state == "broken"
    assert "secret" not in found.says
