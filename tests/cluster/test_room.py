"""How many workers are asked for on a cluster that grows, and machines that join and vanish."""

import time
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from lamella.cluster.commands.option_values import engine_overrides
from lamella.cluster.ray.capacity import Machine
from lamella.cluster.ray.room import Room
from lamella.cluster.ray.runner import RayRunner
from lamella.cluster.ray.starts import NoRoom
from lamella.pipeline.errors import InputError
from lamella.pipeline.jobs.settings import load_job
from tests.builders import Scripted, ended, items, tries
from tests.conftest import NODE


def room(monkeypatch: pytest.MonkeyPatch, most: int | None = None, **has: float) -> Room:
    monkeypatch.setattr("lamella.cluster.ray.room.machines", lambda: [Machine(has, {})])
    return Room(cpus=2, on_gpus="GPU" in has, most=most, may_grow=True)


@pytest.mark.parametrize(
    ("most", "standing", "coming", "waiting", "lacking"),
    [
        (None, 0, 0, 9, 4),  # as many as fit on 8 CPUs
        (None, 0, 0, 3, 3),  # and no more than there are tasks
        (None, 2, 2, 9, 1),  # one more, once one stands
        (None, 4, 0, 9, 1),
        (None, 4, 1, 9, 0),  # which is on its way
        (None, 4, 0, 0, 0),  # nothing for it to do
        (None, 7, 0, 9, 1),  # the cluster shrank, and those that stand go on
        (4, 4, 0, 9, 0),  # no more than the settings allow
        (3, 0, 0, 9, 3),
    ],
)
def test_one_worker_more_is_asked_for_than_there_are_places(
    monkeypatch: pytest.MonkeyPatch,
    most: int | None,
    standing: int,
    coming: int,
    waiting: int,
    lacking: int,
) -> None:
    assert room(monkeypatch, most, CPU=8.0).lacking(standing, coming, waiting) == lacking


def test_a_ray_of_our_own_is_asked_for_no_more_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = room(monkeypatch, CPU=8.0)
    ours.may_grow = False
    assert [ours.lacking(each, 0, 9) for each in (0, 3, 4)] == [4, 1, 0]


def test_places_on_graphics_cards_are_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = room(monkeypatch, CPU=8.0, GPU=2.0)
    assert [cards.lacking(each, 0, 9) for each in (0, 2)] == [2, 1]


def machine_of(pid: int, cluster: Cluster) -> Any:
    """Return the machine on which a worker runs."""
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    for machine in cluster.worker_nodes:
        if machine.all_processes["raylet"][0].process.pid == parent:
            return machine
    raise AssertionError(f"process {pid} is on no machine that may go")


def asked_for() -> int:
    """Return how many actors Ray has no room for."""
    states = ray._private.state.actors().values()
    return sum(each["State"] == "PENDING_CREATION" for each in states)


@pytest.mark.slow
def test_a_machine_that_joins_is_used_and_one_that_vanishes_costs_no_attempt(
    cluster: Cluster, tmp_path: Path
) -> None:
    # Two tasks that wait for each other need two machines.
    stage = Scripted(str(tmp_path), {"001": ("meet",), "002": ("meet",), "005": ("hang", "ok")})
    outcomes = {}
    with RayRunner() as runner:
        for outcome in runner.run(stage, items(6)):
            outcomes[outcome.key] = outcome
            if outcome.key == "000":
                cluster.add_node(**NODE)
            if len(outcomes) == 5:
                while not (hanging := list(tmp_path.glob("running.005.*"))):
                    time.sleep(0.01)
                pid = int(hanging[0].suffix[1:])
                cluster.remove_node(machine_of(pid, cluster), allow_graceful=False)
        assert asked_for() == 0
    assert all(each.record is not None for each in outcomes.values())
    assert (outcomes["005"].attempts, tries(tmp_path, "try.005")) == (1, 2)
    assert {each.attempts for each in outcomes.values()} == {1}


@pytest.mark.slow
def test_a_full_cluster_is_waited_for_and_told_so(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr("lamella.cluster.ray.room.TELL_S", 0.5)

    class Other:
        def stands(self) -> None:
            """Do nothing."""

    other = ray.remote(Other).options(num_cpus=1).remote()
    ray.get(other.stands.remote())
    with RayRunner(start_timeout_s=3.0) as runner:
        with pytest.raises(NoRoom, match=r"in 3 s; a worker needs 1 CPU, .* has 1 CPU \(0"):
            ended(runner, Scripted(str(tmp_path)), 2)
        assert "waiting for a worker: a worker needs 1 CPU" in capsys.readouterr().err
        ray.kill(other)
        assert all(each.record for each in ended(runner, Scripted(str(tmp_path)), 2).values())


def test_the_environment_says_how_long_a_full_cluster_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAMELLA_START_TIMEOUT_S", "900")
    assert load_job(None, engine_overrides(None, None, None)).engine.start_timeout_s == 900.0
    monkeypatch.setenv("LAMELLA_START_TIMEOUT_S", "soon")
    with pytest.raises(InputError, match=r"LAMELLA_START_TIMEOUT_S is .* got 'soon'"):
        engine_overrides(None, None, None)
