"""Expire, gc and forget on a real S3 server; and local copies of its files are forgotten too."""

from pathlib import Path

import pytest

from lamella.pipeline.index.expired import snapshot_numbers
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.upkeep.expire import expire_snapshots
from lamella.pipeline.upkeep.forget import forget_picture
from lamella.pipeline.upkeep.forgotten_check import check_forgotten
from lamella.pipeline.upkeep.gc import collect_garbage
from lamella.pipeline.upkeep.verify import verify_store
from tests.pipeline.upkeep.nights import OPEN, bytes_of, grow, settle
from tests.tiny import tiny_index, tiny_pictures


@pytest.mark.slow
def test_a_store_in_s3_expires_and_forgets_with_its_local_copies(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, url = tmp_path / "cache", f"s3://{bucket}/store"
    monkeypatch.setenv("LAMELLA_CACHE", str(cache))
    pictures = tiny_pictures(tmp_path / "pictures", 8)
    settle(pictures)
    first = tiny_index(url, pictures, **OPEN)
    grow(pictures, 1)
    tiny_index(url, pictures, **OPEN)
    store = open_store(url)
    assert expire_snapshots(store, keep_last=1, keep_days=0).expired == (1,)
    collect_garbage(store, older_than_s=-60.0, forced=True)
    assert verify_store(store).damage == ()
    again = tiny_index(url, pictures, **OPEN)
    assert (first.number, again.number) == (1, 2)
    name = b"05.png"
    assert name in tables_in(cache)
    done = forget_picture(
        open_store(url),
        SerialRunner(),
        by="name",
        value=name.decode(),
        reason="asked",
        threads=1,
        pictures=str(pictures),
    )
    assert (done.expired, done.current) == ((2,), 3)
    assert name not in tables_in(cache)
    assert check_forgotten(store, name=name.decode()) == []
    assert snapshot_numbers(store) == [3]
    assert verify_store(store).damage == ()


def tables_in(cache: Path) -> bytes:
    """Return the copies in a cache, with tables decoded."""
    for path in [each for each in cache.rglob("*") if each.is_file()]:
        kind = {b"PAR1": ".parquet", b"ARRO": ".arrow"}.get(path.read_bytes()[:4], "")
        if kind and not path.suffix:
            path.with_suffix(kind).write_bytes(path.read_bytes())
    found = bytes_of(cache)
    for path in [each for each in cache.rglob("*") if each.suffix in (".parquet", ".arrow")]:
        path.unlink()
    return found
