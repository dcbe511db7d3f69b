"""Which worker gets which GPU; the cards are declared to Ray and need not be there."""

from pathlib import Path
from unittest import mock

import pytest
import torch

from lamella.cluster.ray import actors
from lamella.cluster.ray.actors import check_device
from lamella.cluster.ray.runner import RayRunner
from lamella.cluster.ray.shard_server import RayServers
from lamella.pipeline.errors import InputError
from tests.builders import Scripted, items
from tests.conftest import Indexed

BOTH_AT_ONCE = {"000": ("meet",), "001": ("meet",)}


def every_device(stage: object) -> None:
    """A check that is content with a card that is not there."""


def counts(runner: RayRunner, stage: Scripted, tasks: int) -> list[dict[str, int]]:
    outcomes = list(runner.run(stage, items(tasks)))
    assert [outcome.error for outcome in outcomes] == [None] * tasks
    return [outcome.record.counts for outcome in outcomes if outcome.record is not None]


@pytest.mark.slow
@pytest.mark.usefixtures("two_gpus")
def test_two_workers_at_once_hold_one_gpu_each_and_see_no_other(tmp_path: Path) -> None:
    stage = Scripted(str(tmp_path), BOTH_AT_ONCE, uses_gpu=True)
    with RayRunner(device_check=every_device) as runner:
        found = counts(runner, stage, 2)
    assert sorted(each["gpu"] for each in found) == [0, 1]
    assert [each["gpus"] for each in found] == [1, 1]
    assert [each["visible"] for each in found] == [each["gpu"] for each in found]


@pytest.mark.slow
@pytest.mark.usefixtures("two_gpus")
def test_by_default_there_are_as_many_workers_as_gpus(tmp_path: Path) -> None:
    with RayRunner(device_check=every_device) as runner:
        found = counts(runner, Scripted(str(tmp_path), BOTH_AT_ONCE, uses_gpu=True), 12)
    assert len({each["pid"] for each in found}) == 2  # of 4 CPUs
    assert max(each["at_once"] for each in found) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("two_gpus")
def test_a_stage_for_cpus_gets_no_gpu_and_sees_none(tmp_path: Path) -> None:
    with RayRunner(workers=2) as runner:
        found = counts(runner, Scripted(str(tmp_path), BOTH_AT_ONCE), 2)
    assert [(each["gpus"], each["visible"]) for each in found] == [(0, -1)] * 2


@pytest.mark.slow
@pytest.mark.usefixtures("two_gpus")
def test_a_pool_changes_its_workers_when_the_next_stage_needs_others(tmp_path: Path) -> None:
    with RayRunner(workers=1, device_check=every_device) as runner:
        stages = [Scripted(str(tmp_path), uses_gpu=wants) for wants in (True, False, True)]
        found = [counts(runner, stage, 1)[0]["gpus"] for stage in stages]
    assert found == [1, 0, 1]


@pytest.mark.slow
@pytest.mark.usefixtures("two_cpus")
def test_where_the_cluster_has_no_gpu_the_stage_runs_on_cpus(tmp_path: Path) -> None:
    with RayRunner(workers=1) as runner:
        (found,) = counts(runner, Scripted(str(tmp_path), uses_gpu=True), 1)
    assert (found["gpus"], found["visible"]) == (0, -1)


@pytest.mark.parametrize(
    ("uses_gpu", "lent", "available", "refused"),
    [
        (True, ["1"], False, True),
        (True, ["1"], True, False),
        (True, [], False, False),
        (False, ["1"], False, False),
    ],
)
def test_a_gpu_that_torch_does_not_see_is_refused(
    uses_gpu: bool, lent: list[str], available: bool, refused: bool
) -> None:
    stage = Scripted("", uses_gpu=uses_gpu)
    with (
        mock.patch.object(actors, "lent_gpus", return_value=lent),
        mock.patch("torch.cuda.is_available", return_value=available),
    ):
        if refused:
            with pytest.raises(InputError, match=r"Ray lent GPU 1 .* torch sees no CUDA device"):
                check_device(stage)
        else:
            check_device(stage)


@pytest.mark.slow
@pytest.mark.usefixtures("two_gpus")
def test_a_shard_server_that_shall_use_a_card_says_when_torch_sees_none(indexed: Indexed) -> None:
    with RayServers(str(indexed.store), indexed.snapshot, on_gpus=True) as opened:
        assert len(opened) == 2
        if torch.cuda.is_available():
            assert sum(opened.ask("ready")) == 48
        else:
            with pytest.raises(InputError, match="PyTorch sees no graphics card here"):
                opened.ask("ready")


@pytest.mark.slow
@pytest.mark.usefixtures("two_gpus")
def test_a_card_holds_one_server_and_one_worker_beside_it(indexed: Indexed, tmp_path: Path) -> None:
    stage, again = Scripted(str(tmp_path), BOTH_AT_ONCE, uses_gpu=True), tmp_path / "again"
    with RayRunner(device_check=every_device) as runner:
        counts(runner, stage, 2)  # its workers hold both cards
        runner.share_gpus()
        with RayServers(str(indexed.store), indexed.snapshot, on_gpus=True):
            again.mkdir()
            found = counts(runner, Scripted(str(again), BOTH_AT_ONCE, uses_gpu=True), 2)
    assert sorted(each["gpu"] for each in found) == [0, 1]


@pytest.mark.usefixtures("two_cpus")
def test_cards_that_the_cluster_does_not_have_are_asked_for_in_vain(indexed: Indexed) -> None:
    with pytest.raises(InputError, match=r"the cluster has 2 CPU and 0 GPU: .*search_on"):
        RayServers(str(indexed.store), indexed.snapshot, on_gpus=True)
