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

# Ray waits for its control plane, twice as long by default, without a look at whether it lives.
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
"""Ray's shared memory on one machine: tasks and results are names and counts, so little will do."""

END_S = 10.0
"""How long Ray may take to end. It takes a second or two, or for ever beside a stopped process."""

CLEAR_S = 2.0
"""How long to go on removing the folder of a Ray that has ended."""


@contextmanager
def connected(address: str | None = None, *, cpus: int | None = None) -> Iterator[None]:
    """Be connected to Ray inside the block.

    Args:
        address: of a running cluster; None starts a Ray of our own on this machine's loopback,
            in a private folder and behind a token of its own, which ends with the block. A
            connection that exists already is used and kept.
        cpus: how many cores a Ray of our own offers; all by default.

    Raises:
        InputError: the cluster cannot be reached, or does not let us in; or there is no folder
            for a Ray of our own.
        EngineLost: a process that Ray cannot do without ended while the block ran.
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
            if not (line.lost and lifeline.in_command):  # else this process ends right away
                with killed_after(END_S, folder):
                    ray.shutdown()
            _clear(folder)


def _clear(folder: Path) -> None:
    """Remove the folder of a Ray of our own, and end what is left of it.

    The folder first: while the main thread waits for Ray, this process ends when Ray does. And more
    than once: processes that are killed may be in the midst of writing.
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
        EngineLost: it does not start here.
    """
    listen = driver.listen_error_messages
    # It would print what happens to other processes, to standard output.
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
    """Tell a loss of Ray as what it is, whatever error it led to."""
    try:
        yield
    except Exception as error:
        if (lost := line.look()) is None:
            raise
        raise EngineLost(lost) from error


class _Fixed(list[str]):
    """A list to which Ray cannot add the current folder and the script's."""

    def extend(self, more: Iterable[str], /) -> None:
        """Leave it as it is."""


def _job() -> JobConfig:
    """Return the job of this process: its workers import from where they are installed."""
    job = JobConfig()
    job._py_driver_sys_path = _Fixed()
    return job


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
