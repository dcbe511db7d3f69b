"""The whole journey in S3: the same root digest as in a folder, whatever the network does."""

import os
import threading
import time
from pathlib import Path

import pytest

from lamella.cluster.commands.evaluate import Asked, evaluate_store
from lamella.cluster.ray.engine import engine
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.upkeep.gc import collect_garbage
from lamella.pipeline.upkeep.verify import verify_store
from lamella.schemas.snapshot import IndexSnapshot
from tests.builders import index_into, small_job
from tests.conftest import Indexed
from tests.faults import Fault, Request, faulty, shares
from tests.s3 import S3Server, upload
from tests.tiny import tiny_index, tiny_pictures

TEN_AND_ONE: dict[Fault, float] = {
    **dict.fromkeys(("error", "slow down", "reset", "lost reply"), 0.025),
    "cut body": 0.01,
}
"""10 % of requests fail, 1 % are cut short."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pictures(tmp_path_factory.mktemp("tiny") / "pictures")


@pytest.fixture(scope="module")
def here(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> IndexSnapshot:
    return tiny_index(tmp_path_factory.mktemp("here") / "store", pictures)


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMELLA_CACHE", str(tmp_path / "cache"))


def test_source_and_store_may_each_lie_in_a_folder_or_in_s3(
    pictures: Path, here: IndexSnapshot, bucket: str, tmp_path: Path
) -> None:
    source = upload(pictures, f"s3://{bucket}/pictures")
    for number, (into, given) in enumerate(
        [
            (f"s3://{bucket}/a", str(pictures)),
            (f"s3://{bucket}/b", source),
            (str(tmp_path / "c"), source),
        ]
    ):
        there = tiny_index(into, given)
        assert there.root_digest == here.root_digest, number
        assert there.root == given
        again = tiny_index(into, given)
        assert again == there  # everything is found done


def test_verify_reads_s3_itself_and_gc_removes_only_what_is_loose(
    pictures: Path, bucket: str, tmp_path: Path
) -> None:
    store = open_store(f"s3://{bucket}/cared-for", create=True)
    tiny_index(store.url, pictures)
    before = {each.path for each in store.walk()}
    loose = tmp_path / "loose"
    loose.write_bytes(b"of an attempt that died")
    store.put("bags/p15-0123456789ab/p15/00000.aaaaaaaaaaaa.arrow", loose)
    found = verify_store(store)
    assert (found.damage, len(found.orphans)) == ((), 1)
    collect_garbage(store, older_than_s=-1.0, forced=True)
    kept = {each.path for each in store.walk()}
    assert kept <= before
    assert verify_store(store).damage == ()

    hurt = next(path for path in sorted(kept) if path.startswith("segments/") and "dense" in path)
    damaged = tmp_path / "damaged"
    damaged.write_bytes(store.read(hurt)[:-1] + b"!")  # copies of the whole one are at hand
    store.put(hurt, damaged)
    assert [each.path for each in verify_store(store).damage] == [hurt]


def test_a_tenth_of_all_requests_failing_changes_nothing(
    pictures: Path, here: IndexSnapshot, bucket: str, s3_server: S3Server
) -> None:
    source = upload(pictures, f"s3://{bucket}/faulty-pictures")
    with faulty(s3_server.endpoint, shares(TEN_AND_ONE, seed=1)) as proxy:
        there = tiny_index(f"s3://{bucket}/faulty", source)
        assert set(proxy.done) >= set(TEN_AND_ONE) - {"cut body"}
    assert there.root_digest == here.root_digest


def test_an_evaluation_reads_and_writes_s3(indexed: Indexed, bucket: str, tmp_path: Path) -> None:
    """A store is the same wherever it lies: a copy in S3 of one that was made in a folder."""
    store = upload(indexed.store, f"s3://{bucket}/copied")
    asked = Asked(protocol="groups", metric="N-S")
    job = small_job(engine__kind="serial")
    with engine(job.engine) as serial:
        here, _ = evaluate_store(serial, str(indexed.store), job, asked, quiet=True)
        there, page = evaluate_store(serial, store, job, asked, quiet=True)
    assert there.rows == here.rows
    assert "<html" in page.path.read_text()


@pytest.mark.slow
def test_a_larger_journey_survives_a_bad_network_and_a_killed_server(
    indexed: Indexed, bucket: str, s3_server: S3Server, tmp_path: Path
) -> None:
    """48 pictures: undisturbed, with 10 % and 1 % of faults, and with the server killed twice."""
    source = upload(indexed.source, f"s3://{bucket}/planted")
    seconds: dict[str, float] = {}

    def journey(name: str) -> None:
        os.environ["LAMELLA_CACHE"] = str(tmp_path / name)
        began = time.monotonic()
        snapshot = index_into(f"s3://{bucket}/large-{name}", source, threads=1)
        seconds[name] = time.monotonic() - began
        assert snapshot.root_digest == indexed.snapshot.root_digest, name

    with faulty(s3_server.endpoint) as proxy:
        journey("undisturbed")
        requests = sum(proxy.seen.values())
    with faulty(s3_server.endpoint, shares(TEN_AND_ONE, seed=2)) as proxy:
        journey("ten-and-one")
        done = dict(proxy.done)
    crashes: list[threading.Thread] = []

    def crash() -> None:
        s3_server.kill()
        s3_server.start()

    def rule(request: Request) -> Fault | None:
        if request.number in (requests // 3, 2 * requests // 3):
            crashes.append(threading.Thread(target=crash))
            crashes[-1].start()
        return None

    with faulty(s3_server.endpoint, rule):
        journey("killed")
    for thread in crashes:
        thread.join()
    assert len(crashes) == 2
    print({name: f"{value:.1f} s" for name, value in seconds.items()}, requests, "requests", done)
