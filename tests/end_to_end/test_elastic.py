"""A cluster whose machines join and vanish while a job runs: the same bytes, and what joined did.

python -m pytest -m slow -s tests/end_to_end/test_elastic.py
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from lamella.cluster.ray.runner import RayRunner
from lamella.pipeline.run.step import Outcome, Step, TaskT
from tests.builders import Scripted, index_into, items, small_job
from tests.conftest import NODE, Indexed

pytestmark = [pytest.mark.slow, pytest.mark.ray]


class Changing:
    """A runner on a cluster that has a machine more and one less by turns, every third task."""

    def __init__(self, cluster: Cluster, runner: RayRunner) -> None:
        self.cluster, self.runner, self.ended, self.changes = cluster, runner, 0, 0
        self.threads = 1

    def memory_per_worker(self) -> int:
        return self.runner.memory_per_worker()

    def run(self, step: Step[TaskT], tasks: Sequence[TaskT]) -> Iterator[Outcome]:
        for outcome in self.runner.run(step, tasks):
            self.ended += 1
            if self.ended % 3 == 0 and self.changes < 6:
                self.changes += 1
                if self.changes % 2:
                    self.cluster.add_node(**NODE)
                else:
                    first = min(self.cluster.worker_nodes, key=lambda node: node.unique_id)
                    self.cluster.remove_node(first, allow_graceful=bool(self.changes % 4))
            yield outcome


def test_machines_that_join_and_vanish_change_no_byte(
    cluster: Cluster, indexed: Indexed, tmp_path: Path
) -> None:
    with RayRunner() as runner:
        changing = Changing(cluster, runner)
        found = index_into(tmp_path / "store", indexed.source, changing, job=small_job(), threads=1)
    assert changing.changes == 6
    assert found.root_digest == indexed.snapshot.root_digest


def test_what_a_machine_that_joins_does(cluster: Cluster, tmp_path: Path) -> None:
    count = 24
    stage = Scripted(str(tmp_path), {item.key: ("slow",) for item in items(count)})
    first, joined, used = 0, 0.0, 0.0
    done: dict[int, int] = {}
    with RayRunner() as runner:
        for outcome in runner.run(stage, items(count)):
            assert outcome.record is not None
            pid: Any = outcome.record.counts["pid"]
            done[pid] = done.get(pid, 0) + 1
            if not joined:
                first = pid
                cluster.add_node(**NODE)
                joined = time.monotonic()
            elif pid != first and not used:
                used = time.monotonic()
    print(
        f"the machine that joined did {count - done[first]} of {count} tasks; its first one had "
        f"ended {used - joined:.1f} s after it joined"
    )
    assert used
