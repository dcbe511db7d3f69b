"""Decide how many workers fit on a cluster, and how many threads each has for a network."""

import ray

MOST_THREADS = 4
"""The most threads of a worker in a stage with a network, on CPUs: they wait for each other at the
end of a shard."""


def threads_of_networks() -> int:
    """Return how many threads a worker has in a stage with a network, on this cluster.

    On GPUs these are all CPUs that a node has for each GPU, as they decode for it. On CPUs a few
    threads share a network, so that its weights are in memory and caches fewer times.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = [(each.get("CPU", 1.0), each["GPU"]) for each in nodes if each.get("GPU", 0.0) >= 1.0]
    if gpus:
        return max(1, int(min(cpus / of_node for cpus, of_node in gpus)))
    cpus = int(min((each["CPU"] for each in nodes if each.get("CPU", 0.0) >= 1.0), default=1))
    return cpus // -(-cpus // MOST_THREADS)


def workers_for(cpus: float, each: int, most: int | None) -> int:
    """Return how many workers fit on this many CPUs."""
    fit = max(1, int(cpus) // each)
    return min(fit, most or fit)
