import os
import sys
from pathlib import Path

import pytest
import ray

from lamella.cluster.ray.connect import connected
from lamella.pipeline.errors import InputError
from tests.conftest import RaySwitch


def test_a_ray_of_our_own_ends_with_the_block(ray_switch: RaySwitch) -> None:
    ray_switch.close()
    with connected(cpus=1):
        assert ray.cluster_resources()["CPU"] == 1
        (node,) = ray.nodes()
        assert node["NodeManagerAddress"] == "127.0.0.1"
    assert not ray.is_initialized()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.usefixtures("two_cpus")
def test_a_ray_of_our_own_listens_on_no_other_interface() -> None:
    session = os.path.basename(
        os.path.realpath(ray._private.worker._global_node.get_session_dir_path())
    )
    worker = ray.get(ray.remote(lambda: os.getpid()).remote(), timeout=60)
    ours = [proc for proc in Path("/proc").glob("[0-9]*") if session in _command(proc)]
    ours.append(Path("/proc", str(worker)))  # its command line is a title without the session
    assert _sockets(ours[-1])
    sockets = {name for proc in [*ours, Path("/proc/self")] for name in _sockets(proc)}
    heard = {address for address, inode in _listening() if f"socket:[{inode}]" in sockets}
    assert heard  # the raylet and the control plane at the least
    assert heard <= {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, plain and mapped


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _sockets(process: Path) -> list[str]:
    found = []
    for handle in (process / "fd").glob("*"):
        try:
            found.append(os.readlink(handle))
        except OSError:
            continue
    return found


def _listening() -> list[tuple[str, str]]:
    """Return (address in hex, inode) of every listening TCP socket of this machine."""
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path("/proc/net", table).read_text().splitlines()[1:]
    ]
    return [(fields[1].split(":")[0], fields[9]) for fields in lines if fields[3] == "0A"]


def test_a_cluster_out_of_reach_is_a_wrong_input(
    ray_switch: RaySwitch, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray_switch.close()
    monkeypatch.setenv("RAY_gcs_rpc_server_connect_timeout_s", "1")
    with pytest.raises(InputError, match=r"Ray at no-such-scheme://x cannot be reached"):
        connected("no-such-scheme://x").__enter__()
    assert not ray.is_initialized()
