"""How many workers fit on a cluster, and how many threads each has for a network."""

import ray

MOST_THREADS = 4
"""Threads of a worker in a stage with a network, on CPUs, at most: they wait for each other at the
end of a shard."""


def threads_of_networks() -> int:
    """Return how many threads a worker has in a stage with a network, on the cluster at hand.

    On GPUs that is all CPUs that a node has for each of its own, as they decode for it. On CPUs a
    few threads share a network: its weights are then in fewer caches, and fewer times in memory.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = [(each.get("CPU", 1.0), each["GPU"]) for each in nodes if each.get("GPU", 0.0) >= 1.0]
    if gpus:
        return max(1, int(min(cpus / of_node for cpus, of_node in gpus)))
    cpus = int(min((each["CPU"] for each in nodes if each.get("CPU", 0.0) >= 1.0), default=1))
    return cpus // -(-cpus // MOST_THREADS)


def workers_for(cpus: float, each: int, most: int | None) -> int:
    """Return how many workers stand where there are so many CPUs."""
    fit = max(1, int(cpus) // each)
    return min(fit, most or fit)
