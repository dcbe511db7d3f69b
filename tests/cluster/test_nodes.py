"""Two Ray nodes on this machine."""

from pathlib import Path

import pytest
import ray

from lamella.cluster.ray.runner import RayRunner
from tests.builders import Scripted, items

pytestmark = pytest.mark.usefixtures("two_nodes")


def test_tasks_run_on_both_nodes(tmp_path: Path) -> None:
    assert len([node for node in ray.nodes() if node["Alive"]]) == 2
    # Each node has one CPU, so two workers that meet are on two nodes.
    with RayRunner() as runner:
        stage = Scripted(str(tmp_path), {"000": ("meet",), "001": ("meet",)})
        outcomes = list(runner.run(stage, items(6)))
    assert all(outcome.record is not None for outcome in outcomes)
    assert len({outcome.record.counts["pid"] for outcome in outcomes if outcome.record}) == 2


def test_a_connection_that_exists_is_used_and_kept() -> None:
    from lamella.cluster.ray.connect import connected

    before = ray.get_runtime_context().gcs_address
    with connected():
        assert ray.get_runtime_context().gcs_address == before
    assert ray.is_initialized()
