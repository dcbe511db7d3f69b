"""Start a local Ray, or join a cluster, and leave it as it was found."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

# Ray reads these when it is imported: no usage reports leave the machine.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Workers would run at niceness 15, behind everything else on the machine.
os.environ.setdefault("RAY_worker_niceness", "0")

import ray
from ray._private import ray_constants as constants
from ray.exceptions import AuthenticationError

from cluster.trust import own_token, users_token
from pipeline.errors import InputError

OBJECT_STORE_BYTES = 256 * 1024**2
"""Ray's shared memory on one machine: tasks and results are names and counts, so little will do."""


@contextmanager
def connected(address: str | None = None, *, cpus: int | None = None) -> Iterator[None]:
    """Be connected to Ray inside the block.

    Args:
        address: of a running cluster; None starts a Ray of our own on this machine's loopback,
            behind a token of its own, which ends with the block. A connection that exists
            already is used and kept.
        cpus: how many cores a Ray of our own offers; all by default.

    Raises:
        InputError: the cluster cannot be reached, or does not let us in.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    with users_token(address) if address else own_token():
        try:
            if address:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            else:
                with _loopback_kept():
                    ray.init(
                        address="local",
                        num_cpus=cpus,
                        include_dashboard=False,
                        log_to_driver=False,
                        logging_level=logging.ERROR,
                        object_store_memory=OBJECT_STORE_BYTES,
                        _node_ip_address="127.0.0.1",
                    )
        except (ConnectionError, RuntimeError, ValueError, AuthenticationError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"Ray at {address or 'this machine'} cannot be reached: {reason}"
            ) from error
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _loopback_kept() -> Iterator[None]:
    """Let Ray start on the loopback address alone.

    On Linux it puts an address that others can reach in the place of 127.0.0.1, and then listens,
    without a password, on all interfaces. What turns that off is read from the environment when
    Ray is imported, which is before it is known that no cluster is to be joined.
    """
    before = getattr(constants, "ENABLE_RAY_CLUSTER", True)
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before
