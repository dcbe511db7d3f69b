"""What a store in S3 makes of a server and a network that fail, through a real proxy."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lamella.pipeline.errors import CommitUnknown, StoreUnavailable
from lamella.pipeline.store import s3
from lamella.pipeline.store.commit import create_once
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.retry import Patience
from lamella.pipeline.store.storage import open_store
from tests.faults import DELAY_S, Fault, Request, faulty, shares
from tests.s3 import S3Server

QUICK = Patience(tries=4, first_s=0.001)


@pytest.fixture
def server(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, and a client that waits little."""
    monkeypatch.setattr(s3, "PATIENT", Patience(total_s=20.0, first_s=0.001))
    return s3_server


def at_once(work: Callable[[int], bytes], count: int) -> list[bytes]:
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(work, range(count)))


@pytest.mark.parametrize("fault", ["lost reply", "reset", "error"])
def test_of_100_commits_that_fail_once_all_end_as_success(
    server: S3Server, bucket: str, fault: Fault
) -> None:
    """Lost reply: the second try meets the first one's object and must not take it for another's.
    The others fail before the store acted."""
    hit: set[str] = set()

    def rule(request: Request) -> Fault | None:
        if "/snapshots/" in request.path and request.conditional and request.path not in hit:
            hit.add(request.path)
            return fault
        return None

    with faulty(server.endpoint, rule) as proxy:
        store = open_store(f"s3://{bucket}/{fault.replace(' ', '-')}", create=True)

        def commit(number: int) -> bytes:
            return create_once(store, f"snapshots/{number:06d}.json", b"mine %d" % number)

        assert at_once(commit, 100) == [b"mine %d" % number for number in range(100)]
        assert proxy.done[fault] == 100
        assert len(store.names("snapshots")) == 100


def test_a_lost_reply_does_not_make_the_loser_a_winner(server: S3Server, bucket: str) -> None:
    def rule(request: Request) -> Fault | None:
        return "lost reply" if request.conditional and request.path.endswith("/one") else None

    url = f"s3://{bucket}/race"
    open_store(url, create=True).create("one", b"theirs")
    with faulty(server.endpoint, rule), pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3, "PATIENT", QUICK)
        assert create_once(open_store(url), "one", b"mine") == b"theirs"


def test_of_50_commits_of_unknown_outcome_none_deletes_anything(
    server: S3Server, bucket: str, tmp_path: Path
) -> None:
    def rule(request: Request) -> Fault | None:
        if "/done/" not in request.path:
            return None
        return "error" if request.method == "GET" else "lost reply"

    store = open_store(f"s3://{bucket}/unknown", create=True)
    data = tmp_path / "data"
    data.write_bytes(b"of the record")
    with faulty(server.endpoint, rule) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3, "PATIENT", QUICK)
        away = open_store(store.url, create=True)

        def commit(number: int) -> bytes:
            away.put(f"data/{number}", data)
            with pytest.raises(CommitUnknown, match="nothing was deleted; run the same command"):
                create_once(away, f"done/{number:02d}", b"mine")
            return b""

        at_once(commit, 50)
        assert proxy.seen["DELETE"] == 0
    # Each had in fact been done, and a later try finds its own.
    assert [create_once(store, f"done/{n:02d}", b"mine") for n in range(50)] == [b"mine"] * 50
    assert len(store.names("data")) == 50


@pytest.mark.slow
def test_everything_is_right_behind_a_bad_network(
    server: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of all requests fail, in every way there is."""
    monkeypatch.setattr(s3, "PART_BYTES", 5 * 1024**2)
    monkeypatch.setenv("LAMELLA_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "source"
    source.write_bytes(hashlib.sha256(b"").digest() * 350_000)  # 11 MB: three parts
    kinds: tuple[Fault, ...] = ("error", "slow down", "reset", "lost reply", "cut body")
    wanted: dict[Fault, float] = dict.fromkeys(kinds, 0.09) | {"delay": 0.02, "slow body": 0.02}
    with faulty(server.endpoint, shares(wanted, seed=7)) as proxy:
        store = open_store(f"s3://{bucket}/bad-network", create=True)
        use(store, source)
        assert {kind for kind in kinds if not proxy.done[kind]} == set()


def use(store: Store, source: Path) -> None:
    """Do all that a store can, and check what it says."""
    store.put("large", source)
    assert store.local_path("large").read_bytes() == source.read_bytes()
    assert b"".join(store.chunks("large")) == source.read_bytes()
    for number in range(40):
        mine = f"record {number}".encode()
        assert create_once(store, f"done/{number:02d}", mine) == mine
        assert store.read(f"done/{number:02d}") == mine
        assert store.size_bytes(f"done/{number:02d}") == len(mine)
        assert not store.exists(f"done/{number + 1:02d}")
    assert store.names("done") == [f"{number:02d}" for number in range(40)]
    assert store.folders("done") == []
    met = {each.path for each in store.walk()} - {"probe/create-only"}
    assert met == {"large", *(f"done/{number:02d}" for number in range(40))}
    store.discard("large")
    assert not store.exists("large")


@pytest.mark.parametrize("fault", ["silence", "slow body"])
def test_a_server_that_falls_silent_is_asked_again(
    server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr(s3, "SILENCE_S", DELAY_S / 3)
    hit: set[tuple[str, str]] = set()

    def rule(request: Request) -> Fault | None:
        which = (request.method, request.path)
        if request.path.endswith("/quiet") and which not in hit:
            hit.add(which)
            return fault
        return None

    with faulty(server.endpoint, rule) as proxy:
        store = open_store(f"s3://{bucket}/silent-{fault.replace(' ', '-')}", create=True)
        assert create_once(store, "quiet", b"mine") == b"mine"
        assert store.read("quiet") == b"mine"
        assert proxy.done[fault] == 2


def test_a_store_that_stays_away_is_told_and_nothing_is_half_done(
    server: S3Server, bucket: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    with faulty(server.endpoint) as proxy, pytest.MonkeyPatch.context() as patch:
        store = open_store(f"s3://{bucket}/away", create=True)
        patch.setattr(s3, "PATIENT", QUICK)
        proxy.rule = lambda request: "slow down"
        for call in (
            lambda: store.read("a"),
            lambda: store.exists("a"),
            lambda: store.put("a", source),
            lambda: store.names("a"),
            lambda: list(store.walk()),
            lambda: store.discard("a"),
        ):
            with pytest.raises(StoreUnavailable, match=r"4 tries in .* HTTP 503"):
                call()
        proxy.rule = lambda request: None
        assert [each.path for each in store.walk()] == ["probe/create-only"]


def test_a_server_that_is_killed_and_started_again_is_waited_for(
    server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The requests of the time between fail by refused connections and by half-started parts."""
    monkeypatch.setattr(s3, "PATIENT", Patience(total_s=120, tries=10_000, longest_s=0.2))
    store = open_store(f"s3://{bucket}/killed", create=True)
    before = [create_once(store, f"done/{number}", b"mine") for number in range(20)]
    server.kill()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(create_once, store, "done/20", b"mine")
        server.start()
        assert waiting.result() == b"mine"
    assert [store.read(f"done/{number}") for number in range(20)] == before
