"""Start a local Ray, or join a cluster, and leave it as it was found."""

import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Ray reads these when it is imported: no usage reports leave the machine.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Workers would run at niceness 15, behind everything else on the machine.
os.environ.setdefault("RAY_worker_niceness", "0")
# Under `uv run` Ray would send the current folder to the workers and put it first on their path.
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"

# Ray waits this long for its control plane, even a dead one; the default is twice as long.
os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "15")

import ray
from ray._private import ray_constants as constants
from ray._private import worker as driver
from ray.job_config import JobConfig

from lamella.cluster.ray import lifeline
from lamella.cluster.ray.private_folder import private_folder, remove
from lamella.cluster.ray.processes import kill_writers, killed_after, with_argument
from lamella.cluster.ray.ray_auth import how_to_ask, own_token, users_token
from lamella.pipeline.errors import EngineLost, InputError, one_line

OBJECT_STORE_BYTES = 256 * 1024**2
"""Ray's shared memory on one machine: small, as tasks and results are names and counts."""

END_S = 10.0
"""How long Ray may take to end: usually a second or two, but for ever with a stopped process."""

CLEAR_S = 2.0
"""How long to retry removing the folder of a Ray that has ended."""


@contextmanager
def connected(address: str | None = None, *, cpus: int | None = None) -> Iterator[None]:
    """Connect to Ray inside the block.

    Args:
        address: of a running cluster; None starts our own Ray on this machine's loopback, in a
            private folder and with its own token, and ends it with the block. An existing
            connection is used and kept.
        cpus: how many cores our own Ray offers; all by default.

    Raises:
        InputError: the cluster cannot be reached, or refuses us; or there is no folder for our own
            Ray.
        EngineLost: a process that Ray needs ended while the block ran.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    with _joined(address) if address and address != "local" else _started(cpus):
        yield


@contextmanager
def _started(cpus: int | None) -> Iterator[None]:
    with (
        own_token(),
        private_folder() as folder,
        lifeline.watched(lambda: _clear(folder)) as line,
    ):
        try:
            with _told(line):
                with _loopback_kept():
                    _init(
                        address="local",
                        num_cpus=cpus,
                        include_dashboard=False,
                        object_store_memory=OBJECT_STORE_BYTES,
                        _node_ip_address="127.0.0.1",
                        _temp_dir=str(folder),
                        job_config=_job(),
                    )
                yield
                line.settle()
        finally:
            line.leave()
            if line.lost or line.is_stopped:
                kill_writers(folder)
            if not (line.lost and lifeline.in_command):  # otherwise this process ends right away
                with killed_after(END_S, folder):
                    ray.shutdown()
            _clear(folder)


def _clear(folder: Path) -> None:
    """Remove the folder of our own Ray, and end its remaining processes.

    The folder goes first: while the main thread waits for Ray, this process ends when Ray does. It
    is tried more than once, as processes being killed may still be writing.
    """
    until = time.monotonic() + CLEAR_S
    while True:
        remove(folder.parent)
        kill_writers(folder)
        if not folder.parent.exists() or time.monotonic() > until:
            return
        time.sleep(0.02)


@contextmanager
def _joined(address: str) -> Iterator[None]:
    through_proxy = "://" in address
    with users_token(address), lifeline.watched() as line, _told(line):
        try:
            _init(address=address, job_config=None if through_proxy else _job())
            if not through_proxy:
                node = driver._global_node
                raylets = with_argument(f"--raylet_socket_name={node.raylet_socket_name}")
                line.watch_joined(address, raylets, how_to_ask(node.gcs_address))
            yield
            line.settle()
        finally:
            line.leave()
            if not (line.lost and lifeline.in_command):
                ray.shutdown()


def _init(*, address: str, **settings: Any) -> None:
    """Start or join a Ray that prints nothing.

    Raises:
        InputError: there is none to join.
        EngineLost: Ray does not start here.
    """
    listen = driver.listen_error_messages
    # Ray would print events of other processes to standard output.
    driver.listen_error_messages = lambda worker, stopped: None
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **settings)
    except Exception as error:  # Ray raises plain ones too
        reason = one_line(error, 200)
        if address == "local":
            raise EngineLost(
                f"Ray did not start on this machine: {reason}; run the same command again, or "
                "with --engine serial"
            ) from error
        raise InputError(f"Ray at {address} cannot be reached: {reason}") from error
    finally:
        driver.listen_error_messages = listen


@contextmanager
def _told(line: lifeline.Lifeline) -> Iterator[None]:
    """Raise EngineLost if Ray was lost, whatever error that led to."""
    try:
        yield
    except Exception as error:
        if (lost := line.look()) is None:
            raise
        raise EngineLost(lost) from error


class _Fixed(list[str]):
    """A list that Ray cannot extend by the current folder and the script's."""

    def extend(self, more: Iterable[str], /) -> None:
        """Leave it as it is."""


def _job() -> JobConfig:
    """Return the Ray job of this process, whose workers import from the installed package."""
    job = JobConfig()
    job._py_driver_sys_path = _Fixed()
    return job


@contextmanager
def _loopback_kept() -> Iterator[None]:
    """Let Ray start on the loopback address alone.

    On Linux Ray replaces 127.0.0.1 by an address that others can reach, and then listens on all
    interfaces without a password. The variable that turns this off is read when Ray is imported,
    before we know that no cluster is to be joined.
    """
    before = getattr(constants, "ENABLE_RAY_CLUSTER", True)
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before
