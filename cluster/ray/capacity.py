"""Decide how many workers fit on a cluster, and how many threads each has for a network."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import ray
from ray._private import worker as driver
from ray.exceptions import RayError

from lamella.cluster.ray import lifeline
from lamella.pipeline.errors import EngineLost, one_line
from lamella.pipeline.memory import available_memory

OBJECT_STORE_BYTES = 256 * 1024**2
"""Ray's shared memory on one machine: small, as tasks and results are names and counts."""

MOST_THREADS = 4
"""The most threads of a worker in a stage with a network, on CPUs: they wait for each other at the
end of a shard."""


ANSWER_S = 30.0
"""Within this time the control plane answers, or the lifeline has noticed that it is lost."""


@dataclass(frozen=True)
class Machine:
    """What a machine of the cluster has, and what of it is free, by Ray's names."""

    total: Mapping[str, float]
    free: Mapping[str, float]


def machines() -> list[Machine]:
    """Return the machines of the cluster.

    Ray's own `nodes` and `cluster_resources` would wait for a control plane that is lost, and end
    this process with a trace if another one answers in its place.

    Raises:
        EngineLost: the control plane does not answer, or is another one.
    """
    client = getattr(driver.global_worker, "gcs_client", None)
    if client is None:  # behind Ray's proxy
        return [Machine(node["Resources"], {}) for node in ray.nodes() if node["Alive"]]
    try:
        usage = client.get_all_resource_usage(timeout=ANSWER_S)
    except RayError as error:
        lifeline.check()
        raise EngineLost(
            f"Ray's control plane does not answer as before ({one_line(error, 100)}): what is done "
            "stays done; when it is back, run the same command again"
        ) from error
    return [
        Machine(dict(each.resources_total), dict(each.resources_available))
        for each in usage.resource_usage_data.batch
    ]


def total(machines: list[Machine]) -> Counter[str]:
    """Return what all machines have together."""
    return _sum([each.total for each in machines])


def free(machines: list[Machine]) -> Counter[str]:
    """Return what is free on all machines together."""
    return _sum([each.free for each in machines])


def _sum(each: list[Mapping[str, float]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for resources in each:
        found.update(resources)
    return found


def threads_of_networks() -> int:
    """Return how many threads a worker has in a stage with a network, on this cluster.

    On GPUs these are all CPUs that a node has for each GPU, as they decode for it. On CPUs a few
    threads share a network, so that its weights are in memory and caches fewer times.
    """
    nodes = [machine.total for machine in machines()]
    gpus = [(each.get("CPU", 1.0), each["GPU"]) for each in nodes if each.get("GPU", 0.0) >= 1.0]
    if gpus:
        return min(threads_on(*each) for each in gpus)
    return threads_on(
        min((each["CPU"] for each in nodes if each.get("CPU", 0.0) >= 1.0), default=1)
    )


def threads_on(cpus: float, gpus: float = 0.0) -> int:
    """Return the threads of a worker in a stage with a network, on a node of this size."""
    if gpus >= 1:
        return max(1, int(cpus / gpus))
    return int(cpus) // -(-int(cpus) // MOST_THREADS)


def gpus_here() -> int:
    """Return how many GPUs a Ray would find on this machine."""
    from ray._private.accelerators import get_accelerator_manager_for_resource

    manager = get_accelerator_manager_for_resource("GPU")
    if manager is None:
        return 0
    visible = manager.get_current_process_visible_accelerator_ids()
    found = int(manager.get_current_node_num_accelerators())
    return found if visible is None else min(found, len(visible))


def memory_for_workers() -> int:
    """Return the bytes that all workers of our own Ray on this machine may hold."""
    return max(1, available_memory() - OBJECT_STORE_BYTES)


def workers_for(cpus: float, each: int, most: int | None) -> int:
    """Return how many workers fit on this many CPUs."""
    fit = max(1, int(cpus) // each)
    return min(fit, most or fit)
