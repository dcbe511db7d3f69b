"""Many seeds of a bad network, and many races of processes for one name, on a real S3 server."""

import multiprocessing
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from lamella.pipeline.errors import CommitConflict
from lamella.pipeline.store.storage import open_store
from tests.end_to_end.test_s3_journey import TEN_AND_ONE
from tests.faults import Fault, faulty, shares
from tests.s3 import S3Server, upload
from tests.tiny import tiny_index, tiny_pictures

pytestmark = pytest.mark.slow
SEEDS = 20
ROUNDS = 50


def test_twenty_seeds_of_a_bad_network_give_the_digest_of_a_folder(
    bucket: str, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = tiny_pictures(tmp_path / "pictures", 12)
    here = tiny_index(tmp_path / "store", pictures)
    source = upload(pictures, f"s3://{bucket}/twelve")
    nothing: dict[Fault, float] = {}
    seconds: dict[str, list[float]] = {"plain": [], "faulty": []}
    for seed in range(SEEDS):
        for name, faults in (("plain", nothing), ("faulty", TEN_AND_ONE)):
            monkeypatch.setenv("LAMELLA_CACHE", str(tmp_path / f"{name}-{seed}"))
            began = time.monotonic()
            with faulty(s3_server.endpoint, shares(faults, seed)):
                there = tiny_index(f"s3://{bucket}/{name}-{seed}", source)
            seconds[name].append(time.monotonic() - began)
            assert there.root_digest == here.root_digest, f"seed {seed}"
    ratios = [bad / plain for plain, bad in zip(seconds["plain"], seconds["faulty"], strict=True)]
    means = {name: f"{sum(each) / SEEDS:.2f} s" for name, each in seconds.items()}
    print(f"{SEEDS} of {SEEDS} seeds, the same digest: {means}, at worst {max(ratios):.1f} times")


def race(url: str, start: Barrier, number: int, won: "Queue[tuple[int, int]]") -> None:
    """Try to create every name of all rounds, together with the other racers."""
    store = open_store(url)
    for turn in range(ROUNDS):
        start.wait()
        try:
            store.create(f"race/{turn}", b"%d" % number)
        except CommitConflict:
            continue
        won.put((turn, number))


@pytest.mark.parametrize("racers", [2, 3, 4])
def test_of_processes_that_race_for_a_name_one_wins(bucket: str, racers: int) -> None:
    store = open_store(f"s3://{bucket}/races-{racers}", create=True)
    spawn = multiprocessing.get_context("spawn")
    start, won = spawn.Barrier(racers), spawn.Queue()
    processes = [
        spawn.Process(target=race, args=(store.url, start, number, won)) for number in range(racers)
    ]
    for process in processes:
        process.start()
    winners = [won.get(timeout=300) for _ in range(ROUNDS)]
    for process in processes:
        process.join(timeout=60)
    assert won.empty()
    assert sorted(turn for turn, _ in winners) == list(range(ROUNDS))
    assert all(store.read(f"race/{turn}") == b"%d" % number for turn, number in winners)
