"""Start a local Ray, or join a cluster, and leave it as it was found."""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants as constants
from ray._private import worker as driver
from ray.job_config import JobConfig

from lamella.cluster.ray import handlers, lifeline
from lamella.cluster.ray.address import given_address, origin_of
from lamella.cluster.ray.capacity import OBJECT_STORE_BYTES, memory_for_workers
from lamella.cluster.ray.private_folder import private_folder
from lamella.cluster.ray.processes import kill_writers, killed_after, with_argument
from lamella.cluster.ray.ray_auth import how_to_ask, own_token, users_token
from lamella.cluster.ray.starts import OR_SERIAL, ClusterAway, NotStarted
from lamella.pipeline.cores import available_cores, leave_to_children
from lamella.pipeline.errors import EngineLost, InputError, one_line
from lamella.pipeline.scratch import remove, remove_left_overs

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
        cpus: how many cores our own Ray offers; by default all that this process may use.

    Raises:
        InputError: the cluster cannot be joined, or refuses us.
        ClusterAway: it does not answer.
        NotStarted: our own Ray does not start on this machine.
        EngineLost: a process that Ray needs ended while the block ran.
    """
    if ray.is_initialized():
        yield
        return
    found = given_address(address)
    with _started(cpus) if found is None else _joined(found, origin_of(address)):
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
                leave_to_children()
                with _loopback_kept():
                    _init(
                        address="local",
                        # Ray itself would look at the limits of a container, but not of Slurm.
                        num_cpus=cpus or available_cores(),
                        _memory=memory_for_workers(),
                        include_dashboard=False,
                        object_store_memory=OBJECT_STORE_BYTES,
                        _node_ip_address="127.0.0.1",
                        _temp_dir=str(folder),
                        job_config=_job(),
                    )
                yield
                line.settle()
        finally:
            with lifeline.held():
                line.leave()
                if line.lost or line.is_stopped:
                    kill_writers(folder)
                # Otherwise this process ends right away.
                if not (line.lost and lifeline.in_command):
                    with killed_after(END_S, folder), handlers.kept_at_end():
                        ray.shutdown()
                _clear(folder)
                remove_left_overs()  # of its workers, which were killed


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
def _joined(address: str, origin: str) -> Iterator[None]:
    through_proxy = "://" in address
    with ExitStack() as stack:
        with _with_origin(origin):
            stack.enter_context(users_token(address))
        line = stack.enter_context(lifeline.watched())
        stack.enter_context(_told(line))
        try:
            with _with_origin(origin):
                _init(address=address, job_config=None if through_proxy else _job())
            if not through_proxy:
                node = driver._global_node
                raylets = with_argument(f"--raylet_socket_name={node.raylet_socket_name}")
                line.watch_joined(address, raylets, how_to_ask(node.gcs_address))
            yield
            line.settle()
        finally:
            with lifeline.held():
                line.leave()
                if not (line.lost and lifeline.in_command):
                    with handlers.kept_at_end():
                        ray.shutdown()


@contextmanager
def _with_origin(origin: str) -> Iterator[None]:
    """Add to the message of a wrong address where it comes from."""
    try:
        yield
    except (InputError, ClusterAway) as error:
        raise type(error)(f"{error}{origin}") from error


def _init(*, address: str, **settings: Any) -> None:
    """Start or join a Ray that prints nothing.

    Raises:
        InputError: there is none to join.
        NotStarted: Ray does not start here.
    """
    try:
        with (
            # Stopped half-way it would leave processes that nobody knows.
            lifeline.held(),
            handlers.kept_at_start(),
            # Ray would print events of other processes to standard output.
            handlers.replaced(driver, "listen_error_messages", lambda worker, stopped: None),
        ):
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **settings)
    except Exception as error:  # Ray raises plain ones too
        reason = one_line(error, 200)
        if address == "local":
            raise NotStarted(
                f"Ray did not start on this machine ({reason})",
                f"run the same command again, {OR_SERIAL}",
            ) from error
        raise InputError(f"Ray at {address} cannot be reached: {reason}") from error


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
