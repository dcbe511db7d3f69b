"""What a person reads when S3 does not admit them: one sentence each, at once, without secrets."""

import time
from pathlib import Path

import pytest

from lamella.pipeline.errors import (
    InputError,
    LoginFailed,
    NoAccess,
    NoSuchBucket,
    StoreError,
    StoreUnavailable,
)
from lamella.pipeline.store import s3
from lamella.pipeline.store.commit import create_once
from lamella.pipeline.store.retry import Patience
from lamella.pipeline.store.storage import open_store, probe_create_only
from tests.s3 import READER_KEY, READER_SECRET, S3Server, environ, environment, free_ports


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many times requests were tried again."""
    again: list[int] = []

    def delay_s(patience: Patience, failures: int) -> float:
        again.append(failures)
        return 0.0

    monkeypatch.setattr(Patience, "delay_s", delay_s)
    return again


def test_a_bucket_that_is_not_there(s3_server: S3Server, tries: list[int]) -> None:
    for create in (False, True):
        with pytest.raises(NoSuchBucket, match=r"there is no bucket no-such-bucket: make it"):
            open_store("s3://no-such-bucket/store", create=create)
    assert tries == []


def test_a_prefix_without_a_store(bucket: str) -> None:
    with pytest.raises(InputError, match=r"there is no store at s3://.*: make one with"):
        open_store(f"s3://{bucket}/nothing-here")


@pytest.mark.parametrize(
    ("key", "secret", "why"),
    [
        ("testkey", "wrong-secret", "the secret key is wrong"),
        ("nobody", "wrong-secret", "the access key is not known there"),
    ],
)
def test_credentials_that_are_not_accepted(
    s3_server: S3Server, bucket: str, tries: list[int], key: str, secret: str, why: str
) -> None:
    with environ(environment(s3_server.endpoint, key, secret)):
        with pytest.raises(LoginFailed, match=why) as caught:
            open_store(f"s3://{bucket}/store", create=True)
        assert secret not in str(caught.value)
        assert "renew the credentials" in str(caught.value)
    assert tries == []


def test_no_credentials_at_all(s3_server: S3Server, bucket: str, tries: list[int]) -> None:
    with (
        environ(environment(s3_server.endpoint)),
        pytest.MonkeyPatch.context() as patch,
    ):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.delenv(name)
        with pytest.raises(LoginFailed, match="no credentials to use"):
            open_store(f"s3://{bucket}/store")
    assert tries == []


def test_a_reader_may_open_and_read_but_not_write(
    s3_server: S3Server, bucket: str, tries: list[int]
) -> None:
    url = f"s3://{bucket}/read-only"
    open_store(url, create=True).create("a", b"1")
    with environ(environment(s3_server.endpoint, READER_KEY, READER_SECRET)):
        store = open_store(url)
        assert store.read("a") == b"1"
        sentence = r"no right to write s3://.*/b \(AccessDenied\): give it to them, or use others"
        with pytest.raises(NoAccess, match=sentence):
            create_once(store, "b", b"2")
        with pytest.raises(NoAccess, match="no right to write"):
            open_store(url, create=True)
        with pytest.raises(NoAccess, match="no right to remove"):
            store.discard("a")
    assert tries == []


def test_a_server_that_is_away_is_told_after_a_short_while(tries: list[int]) -> None:
    (port,) = free_ports(1)
    with environ(environment(f"http://127.0.0.1:{port}")):
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"does not answer \(.*run the same command"):
            open_store("s3://bucket/store")
        assert time.monotonic() - began < 60  # a bound, not a speed
    assert len(tries) == s3.FIRST.tries


def test_a_store_that_ignores_the_condition_is_refused(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(f"s3://{bucket}/lax", create=True)
    monkeypatch.setattr(s3.S3Client, "create", s3.S3Client.put)
    with pytest.raises(StoreError, match="lets a second writer replace a file"):
        probe_create_only(store)


def test_large_files_go_and_come_in_parts(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PART_BYTES", 5 * 1024**2)
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 4 * 1024 * 11 + b"end")
    store = open_store(f"s3://{bucket}/large", create=True)
    store.put("data.bin", source)
    assert store.size_bytes("data.bin") == source.stat().st_size
    assert store.local_path("data.bin").read_bytes() == source.read_bytes()
    assert b"".join(store.chunks("data.bin")) == source.read_bytes()
