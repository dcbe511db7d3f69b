"""A Ray of our own lets in who shows its token; what is joined is asked for its rules first."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import ray

from lamella.cluster.ray import ray_auth
from lamella.cluster.ray.ray_auth import MODE, TOKEN, own_token, users_token
from lamella.cluster.ray.starts import ClusterAway

JOIN = """
import sys
from concurrent.futures import ThreadPoolExecutor
from lamella.cluster.ray.connect import connected
from lamella.cluster.commands.main import main
from lamella.cluster.commands.cli import app

@app.command()
def join(address: str) -> None:
    import ray
    with connected(address):
        print(int(ray.cluster_resources()["CPU"]), "CPUs")

main()
"""


def join(home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Join this process's Ray from another process with other variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    # As our own Ray does: without it, Ray takes another address for that of the loopback.
    kept |= {"HOME": str(home), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    address = ray.get_runtime_context().gcs_address
    return subprocess.run(
        [sys.executable, "-c", JOIN, "join", address],
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.usefixtures("two_cpus")
def test_only_who_shows_the_token_joins_a_ray_of_our_own(tmp_path: Path) -> None:
    token = os.environ[TOKEN]
    none = join(tmp_path)
    assert (none.returncode, none.stdout, none.stderr.count("\n")) == (2, "", 1)
    assert "asks for a token and none is set: give its token in RAY_AUTH_TOKEN" in none.stderr
    wrong = join(tmp_path, RAY_AUTH_TOKEN="f" * 64, RAY_AUTH_MODE="token")
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
    assert "refuses the token given: RAY_AUTH_TOKEN" in wrong.stderr
    assert "f" * 64 not in wrong.stderr
    right = join(tmp_path, RAY_AUTH_TOKEN=token)
    assert (right.returncode, right.stdout, right.stderr) == (0, "2 CPUs\n", "")
    assert list(tmp_path.iterdir()) == []  # nothing in the user's ~/.ray


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.usefixtures("two_cpus")
def test_every_process_of_a_ray_of_our_own_keeps_to_the_token() -> None:
    session = Path(ray._private.worker._global_node.get_session_dir_path()).resolve()
    ours = [
        dict(
            part.partition(b"=")[::2]
            for part in (process / "environ").read_bytes().split(b"\0")
            if part
        )
        for process in Path("/proc").glob("[0-9]*")
        if session.name.encode() in (process / "cmdline").read_bytes()
    ]
    assert len(ours) >= 2  # the control plane and the raylet at the least
    assert {each.get(MODE.encode()) for each in ours} == {b"token"}
    token = os.environ[TOKEN].encode()
    assert {each.get(TOKEN.encode()) for each in ours} == {token}
    in_a_worker = ray.remote(lambda: os.environ.get("RAY_AUTH_MODE")).remote()
    assert ray.get(in_a_worker, timeout=60) == "token"
    files = [path for path in session.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [path for path in files if token in path.read_bytes()] == []


def test_each_token_is_new_and_gone_afterwards() -> None:
    before = os.environ.get(TOKEN), os.environ.get(MODE)
    tokens = []
    for _ in range(2):
        with own_token():
            tokens.append(os.environ[TOKEN])
            assert os.environ[MODE] == "token"
    assert len(set(tokens)) == 2
    assert all(len(token) == 64 for token in tokens)
    assert (os.environ.get(TOKEN), os.environ.get(MODE)) == before


def test_a_port_where_nothing_listens_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamella.cluster.ray.ray_auth.ANSWER_TIMEOUT_S", 0.5)
    with (
        pytest.raises(ClusterAway, match=r"Ray at 127\.0\.0\.1:9 cannot be reached: no answer in"),
        users_token("127.0.0.1:9"),
    ):
        pass


OPEN = """
import os, sys, subprocess
os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
from lamella.cluster.ray.connect import connected
import ray
ray.init(address="local", num_cpus=1, include_dashboard=False, _node_ip_address="127.0.0.1",
         logging_level="ERROR", object_store_memory=10**8)
address = ray.get_runtime_context().gcs_address
from lamella.cluster.ray.ray_auth import users_token
for _ in range(2):
    with users_token(address):
        print(os.environ["RAY_AUTH_MODE"])
ray.shutdown()
"""


@pytest.mark.slow
@pytest.mark.ray
def test_joining_a_ray_without_a_token_warns_once(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OPEN],
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.split() == ["disabled", "disabled"]
    assert done.stderr.count("asks for no token, so whoever reaches its ports can run code") == 1


def test_a_proxy_for_the_web_is_not_asked_for_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    service = "ray.rpc.NodeInfoGcsService"
    answer = grpc.unary_unary_rpc_method_handler(lambda request, context: b"")
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"GetClusterId": answer}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    # Nothing listens there.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    try:
        assert ray_auth._lets_in(f"127.0.0.1:{port}", None, timeout_s=20)
    finally:
        server.stop(None)
