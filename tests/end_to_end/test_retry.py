"""Pictures that could not be had are tried again, they alone, and are then as any others."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

from lamella.pipeline.errors import InputError, NotPromoted, StageFailed
from lamella.pipeline.extract.stage import ExtractWork
from lamella.pipeline.index.promotions import current_snapshot, promote
from lamella.pipeline.jobs.status import store_status
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.stages import Watch
from lamella.pipeline.store.local import LocalStore
from lamella.pipeline.upkeep.retry_refused import WORTH_RETRYING, Retried, retry_store
from lamella.pipeline.upkeep.verify import verify_store
from lamella.schemas.refusals import RefusalReason
from tests.end_to_end.commands import COMMANDS, Stores, shard_of
from tests.faulty import away
from tests.tiny import tiny_index

FETCH = RefusalReason.FETCH_FAILED


@contextmanager
def extracted() -> Iterator[list[str]]:
    """Note the shards that are sent through the network."""
    original = ExtractWork._extract
    keys: list[str] = []

    def extract(work, backbone, sink_of, task, *rest):  # type: ignore[no-untyped-def]
        keys.append(task.key)
        return original(work, backbone, sink_of, task, *rest)

    with mock.patch.object(ExtractWork, "_extract", extract):
        yield keys


def retry(store: Path, *states: RefusalReason) -> Retried:
    wanted = set(states or WORTH_RETRYING)
    return retry_store(LocalStore(store), SerialRunner(), wanted, threads=1, watch=Watch())


def files(store: Path) -> set[str]:
    return {str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()}


@pytest.mark.parametrize("first_reads", [0, 1], ids=["when listed", "when extracted"])
def test_what_can_be_had_again_is_indexed_as_if_it_had_never_been_away(
    first_reads: int, stores: Stores, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    with away("02.png", first_reads=first_reads):
        first = tiny_index(store, stores.pictures)
    assert first.refused_by_reason == {"fetch-failed": 1, "truncated": 1}
    with away() as reads, extracted() as shards:
        done = retry(store)
    assert (done.tried, done.became) == (1, {"readable": 1})
    # 02.png is of the first of two shards, and no other picture is even read.
    assert shards == [shard_of(store, "02.png").key]
    assert shard_of(store, "02.png") != shard_of(store, "04.png")
    assert set(reads) == {"02.png"}
    assert done.snapshot.number == 2
    assert done.snapshot.refused_by_reason == {"truncated": 1}
    whole = current_snapshot(LocalStore(stores.one))
    assert whole is not None
    assert done.snapshot.root_digest == whole.root_digest
    assert verify_store(LocalStore(store)).damage == ()
    (account,) = store_status(LocalStore(store))["corpora"]
    assert account["states"] == {"indexed": 5, "refused: truncated": 1}
    # The job itself finds all of it done.
    before = files(store)
    assert tiny_index(store, stores.pictures) == done.snapshot
    assert files(store) == before


@pytest.mark.parametrize("first_reads", [0, 1], ids=["when listed", "when extracted"])
def test_what_is_still_away_changes_nothing(
    first_reads: int, stores: Stores, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    with away("02.png", "05.png", first_reads=first_reads):
        first = tiny_index(store, stores.pictures)
    before = files(store)
    with away("02.png", "05.png"), extracted() as shards:
        done = retry(store, FETCH)
    assert (done.tried, done.became) == (2, {"fetch-failed": 2})
    assert shards == []
    assert done.snapshot == first
    assert files(store) == before


def test_only_the_states_that_were_asked_for_are_tried(stores: Stores, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with away("02.png"):
        tiny_index(store, stores.pictures)
    with away() as reads:
        assert retry(store, RefusalReason.UNREADABLE).tried == 0
    assert reads == []
    assert RefusalReason.TRUNCATED not in WORTH_RETRYING


def test_a_job_that_stopped_for_too_many_refusals_goes_on(stores: Stores, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with (
        away("00.png", "01.png", "02.png", "03.png"),
        pytest.raises(StageFailed, match="4 of 6 pictures were refused"),
    ):
        tiny_index(store, stores.pictures)
    assert retry(store).became == {"readable": 4}
    assert (
        COMMANDS["query ids"].run(stores, store)[2]
        == (
            COMMANDS["query ids"].run(stores, Path(shutil.copytree(stores.one, tmp_path / "one")))[
                2
            ]
        )
    )


def test_a_retry_is_promoted_past_a_hold_by_force_alone(stores: Stores, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    with away("02.png"):
        tiny_index(store.root, stores.pictures)
        tiny_index(store.root, stores.pictures, fusion__weights=[1.0, 2.0])
    promote(store, 1)  # a rollback, which holds
    with pytest.raises(NotPromoted, match="the same command with --force promotes it all the same"):
        retry(store.root)
    held = current_snapshot(store)
    assert held is not None
    assert held.number == 1
    done = retry_store(store, SerialRunner(), {FETCH}, threads=1, watch=Watch(), force=True)
    assert (done.tried, done.snapshot.number, done.snapshot.refused) == (0, 3, 1)
    assert current_snapshot(store) == done.snapshot


def test_a_store_without_a_job_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 0 jobs on record and no current snapshot"):
        retry(tmp_path)
