"""Start a local Ray, or join a cluster, and leave it as it was found."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

# Ray reads these when it is imported: no usage reports leave the machine.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray

from pipeline.errors import InputError

OBJECT_STORE_BYTES = 256 * 1024**2
"""Ray's shared memory on one machine: tasks and results are names and counts, so little will do."""


@contextmanager
def connected(address: str | None = None, *, cpus: int | None = None) -> Iterator[None]:
    """Be connected to Ray inside the block.

    Args:
        address: of a running cluster; None starts a Ray of our own on this machine's loopback,
            which ends with the block. A connection that exists already is used and kept.
        cpus: how many cores a Ray of our own offers; all by default.

    Raises:
        InputError: the cluster cannot be reached.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=OBJECT_STORE_BYTES,
                _node_ip_address="127.0.0.1",
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"Ray at {address or 'this machine'} cannot be reached: {reason}"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
