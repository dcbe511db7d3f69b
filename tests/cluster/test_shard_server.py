"""Shard servers on a real Ray answer as one searcher in this process does, or not at all."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import ray

from lamella.cluster.ray import shard_server
from lamella.cluster.ray.shard_server import RayServers
from lamella.pipeline.errors import CorruptFile, InputError, ShardUnavailable
from lamella.pipeline.search.coordinator import Coordinator, LocalServers
from lamella.pipeline.search.searcher import SegmentSearcher
from lamella.pipeline.search.segment import Answer, QueryBatch
from lamella.schemas.query import SearchMode
from tests.conftest import Indexed, RaySwitch

pytestmark = pytest.mark.usefixtures("two_cpus")
LAYERS = ["head", "p15"]


@pytest.fixture(scope="module")
def local(indexed: Indexed) -> Coordinator:
    searcher = SegmentSearcher(str(indexed.store), indexed.snapshot)
    return Coordinator(LocalServers(searcher), indexed.snapshot.indexed)


@pytest.fixture(scope="module")
def asked(local: Coordinator) -> list[int]:
    """The ids of four images, of more than one segment."""
    ids = local.image_ids().tolist()
    return [ids[row] for row in (0, 5, 17, 40)]


@pytest.fixture(scope="module")
def queries(local: Coordinator, asked: list[int]) -> QueryBatch:
    return local.features(asked, LAYERS)


@pytest.fixture(scope="module")
def open_servers(ray_switch: RaySwitch, indexed: Indexed) -> Iterator[RayServers]:
    ray_switch.use("two cpus")
    with RayServers(str(indexed.store), indexed.snapshot, servers=2) as opened:
        yield opened


@pytest.fixture
def servers(two_cpus: None, open_servers: RayServers) -> RayServers:
    """Two servers that the tests of this file share; one that is killed is opened again."""
    return open_servers


def equal(one: Answer, other: Answer) -> bool:
    """Whether two answers are the same to the last bit."""
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("image_ids", "scores", "similarities", "certified")
    )


def kill(servers: RayServers, number: int) -> None:
    ray.kill(servers._actors[number])


@pytest.mark.parametrize("mode", ["exact", "candidates", "paper"])
def test_answers_are_those_of_one_process(
    servers: RayServers,
    local: Coordinator,
    queries: QueryBatch,
    indexed: Indexed,
    asked: list[int],
    mode: SearchMode,
) -> None:
    spread = Coordinator(servers, indexed.snapshot.indexed)
    assert len(servers._actors) == 2
    fusion = indexed.snapshot.fusion
    mine = spread.answer(queries, fusion, 10, mode=mode, candidates=12)
    assert equal(mine, local.answer(queries, fusion, 10, mode=mode, candidates=12))
    assert mine.image_ids[:, 0].tolist() == asked  # each is nearest to itself


@pytest.mark.parametrize("mode", ["exact", "candidates", "paper"])
@pytest.mark.parametrize("where", ['matches(name, "[02468][.]jpg$") or width == 1', "width < 0"])
def test_filtered_answers_are_those_of_one_process(
    servers: RayServers,
    local: Coordinator,
    queries: QueryBatch,
    indexed: Indexed,
    mode: SearchMode,
    where: str,
) -> None:
    spread, fusion = Coordinator(servers, indexed.snapshot.indexed), indexed.snapshot.fusion
    expected = local.answer(queries, fusion, 10, mode=mode, where=where)
    assert equal(spread.answer(queries, fusion, 10, mode=mode, where=where), expected)
    assert (expected.image_ids[:, 0] >= 0).any() == where.startswith("matches")
    mine = spread.expanded(queries, fusion, 3, where)
    theirs = local.expanded(queries, fusion, 3, where)
    np.testing.assert_array_equal(mine.layers["head"], theirs.layers["head"])
    with pytest.raises(InputError, match=r"no column .wdth.*did you mean width\?"):
        spread.answer(queries, fusion, 10, where="wdth > 3")


def test_features_and_similarities_are_those_of_one_process(
    servers: RayServers,
    local: Coordinator,
    queries: QueryBatch,
    indexed: Indexed,
    asked: list[int],
) -> None:
    spread = Coordinator(servers, indexed.snapshot.indexed)
    ids = [asked[3], asked[0], asked[2], asked[0]]  # from both servers, out of order, one twice
    segments = [segment.image_ids for segment in local._servers._searcher.segments]  # type: ignore[attr-defined]
    assert len({number for number, held in enumerate(segments) if np.isin(ids, held).any()}) > 1
    mine, theirs = spread.features(ids, LAYERS), local.features(ids, LAYERS)
    np.testing.assert_array_equal(mine.layers["head"], theirs.layers["head"])
    np.testing.assert_array_equal(mine.layers["p15"].words, theirs.layers["p15"].words)  # type: ignore[union-attr]
    np.testing.assert_array_equal(mine.layers["p15"].offsets, theirs.layers["p15"].offsets)  # type: ignore[union-attr]
    for one, other in zip(
        spread.similarities(queries, LAYERS), local.similarities(queries, LAYERS), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_queries_are_expanded_as_in_one_process(
    servers: RayServers, local: Coordinator, queries: QueryBatch, indexed: Indexed
) -> None:
    spread, fusion = Coordinator(servers, indexed.snapshot.indexed), indexed.snapshot.fusion
    mine, theirs = spread.expanded(queries, fusion, 3), local.expanded(queries, fusion, 3)
    np.testing.assert_array_equal(mine.layers["head"], theirs.layers["head"])
    np.testing.assert_array_equal(mine.layers["p15"].counts, theirs.layers["p15"].counts)  # type: ignore[union-attr]
    assert equal(spread.answer(mine, fusion, 10), local.answer(theirs, fusion, 10))


def test_a_server_that_dies_is_opened_again_and_the_batch_answered_whole(
    servers: RayServers, local: Coordinator, queries: QueryBatch, indexed: Indexed
) -> None:
    spread = Coordinator(servers, indexed.snapshot.indexed)
    fusion = indexed.snapshot.fusion
    expected = local.answer(queries, fusion, 48)
    for number in (0, 1):
        kill(servers, number)
        assert equal(spread.answer(queries, fusion, 48), expected)
    assert equal(spread.answer(queries, fusion, 48), expected)


def test_a_server_that_dies_twice_fails_the_batch_and_names_its_segments(
    servers: RayServers, queries: QueryBatch, indexed: Indexed
) -> None:
    spread = Coordinator(servers, indexed.snapshot.indexed)
    start = servers._start

    def stillborn(server: int) -> object:
        actor = start(server)
        ray.kill(actor)
        return actor

    keys = ", ".join(servers._keys[1])
    kill(servers, 1)
    with (
        mock.patch.object(servers, "_start", stillborn),
        pytest.raises(
            ShardUnavailable, match=rf"segments {keys} did not answer, twice .*not answered"
        ),
    ):
        spread.answer(queries, indexed.snapshot.fusion, 3)


def test_a_wrong_question_arrives_as_the_error_that_the_server_raised(
    servers: RayServers, queries: QueryBatch, indexed: Indexed, asked: list[int]
) -> None:
    spread = Coordinator(servers, indexed.snapshot.indexed)
    with pytest.raises(InputError, match="the index has no layer conv4: it has head, p15"):
        spread.features(asked[:1], ["conv4"])
    with pytest.raises(InputError, match="image 48 is not in the snapshot"):
        spread.features([asked[0], 48], LAYERS)
    # The servers are none the worse for it.
    assert len(spread.answer(queries, indexed.snapshot.fusion, 3)) == 4


def _ask_until_it_fails(actor: Any) -> None:
    for _ in range(10_000):
        ray.get(actor.ask.remote("ready"), timeout=30)


def test_servers_end_with_their_block(indexed: Indexed) -> None:
    with RayServers(str(indexed.store), indexed.snapshot, servers=1) as opened:
        assert opened.ask("ready") == [48]
        (actor,) = opened._actors
    # An end is asked for and not waited for, so a question or two may still be answered.
    with pytest.raises(ray.exceptions.RayActorError):
        _ask_until_it_fails(actor)


def test_a_damaged_segment_fails_the_batch_with_the_error_of_one_process(
    indexed: Indexed, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(indexed.store, store)
    segment = indexed.snapshot.segments[0]
    path = store / segment.files["head.dense"].path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with (
        RayServers(str(store), indexed.snapshot, servers=2) as opened,
        pytest.raises(CorruptFile, match=r"head/.*dense.arrow has SHA-256 .*lamella verify"),
    ):
        opened.ask("ready")


@pytest.mark.slow
def test_there_are_no_more_servers_than_segments(indexed: Indexed) -> None:
    sizes = [segment.images for segment in indexed.snapshot.segments]
    assert len(sizes) == 4
    with RayServers(str(indexed.store), indexed.snapshot, servers=9) as opened:
        assert sorted(opened.ask("ready")) == sorted(sizes)
    assert shard_server.ATTEMPTS == 2
