"""What the manifests call is run here for real: on a Ray that is started as they have it."""

import contextlib
import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lamella.cluster.ray.processes import kill_writers
from tests.deploy.exporter import NAMES
from tests.deploy.manifests import (
    KUBERNETES,
    Manifest,
    built,
    compose,
    of_kind,
    settings,
    written,
)
from tests.deploy.test_kubernetes import WORKER_BYTES
from tests.deploy.test_systemd import SERVICE, unit
from tests.pictures import draw_jpegs
from tests.prometheus import running
from tests.s3 import free_ports, weed

COMMAND_S = 300.0
AWS = "AWS_ENDPOINT_URL"
"""Of the settings of a pod the one that is not for here: the store is in a folder."""

Said = subprocess.CompletedProcess[str]


def plain_environment() -> dict[str, str]:
    """Return this environment with this Python's programs first, and nothing of Ray or S3."""
    ours = ("AWS_", "RAY_", "LAMELLA_METRICS", "LAMELLA_PUSH", "LAMELLA_LOG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])}


@dataclass
class Cluster:
    """A head and a worker as the manifests have them, each a node of its own on this machine."""

    folder: Path
    ports: dict[int, int]
    gateway: str
    agents: list[int] = field(default_factory=list)
    token: str = field(default_factory=lambda: secrets.token_hex(32))

    @property
    def spec(self) -> Manifest:
        (cluster,) = of_kind(written(), "RayCluster")
        spec: Manifest = cluster["spec"]
        return spec

    @property
    def head(self) -> str:
        return f"127.0.0.1:{self.ports[6379]}"

    @property
    def environment(self) -> dict[str, str]:
        """Return what a pod has: the settings, with places of this machine, and KubeRay's token."""
        here = {
            "SOURCE_URL": str(self.folder / "pictures"),
            "STORE_URL": str(self.folder / "store"),
            "LAMELLA_PUSH": self.gateway,
            "LAMELLA_CACHE": str(self.folder / "cache"),
        }
        given = {name: value for name, value in settings().items() if name != AWS}
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        return plain_environment() | given | here | token

    def start(self) -> None:
        """Start the head and a worker with the parameters of the manifest."""
        address = ["--head", f"--port={self.ports[6379]}", f"--dashboard-port={self.ports[8265]}"]
        address += [f"--temp-dir={self.folder / 'ray'}", "--node-ip-address=127.0.0.1"]
        self._start_node(self.spec["headGroupSpec"], address, self.ports[52365])
        (group,) = self.spec["workerGroupSpecs"]
        (container,) = group["template"]["spec"]["containers"]
        # As KubeRay takes it from the container.
        cpus = f"--num-cpus={container['resources']['limits']['cpu']}"
        joined = [f"--address={self.head}", "--node-ip-address=127.0.0.1", cpus]
        self._start_node(group, joined, free_ports(1)[0])

    def _start_node(self, group: Manifest, more: list[str], agent: int) -> None:
        parameters = dict(group["rayStartParams"])
        self.agents += free_ports(1)
        parameters["metrics-export-port"] = str(self.agents[-1])
        if "dashboard-host" in parameters:
            parameters["dashboard-host"] = "127.0.0.1"
        options = [f"--{name}={value}" for name, value in parameters.items()]
        command = ["ray", "start", *more, *options, f"--dashboard-agent-listen-port={agent}"]
        said = self._run(command)
        assert said.returncode == 0, said.stdout + said.stderr

    def submit(self, job: Manifest, entrypoint: str) -> Said:
        """Hand a job in as KubeRay's submitter does, whose shell reads the entrypoint first."""
        (container,) = job["spec"]["submitterPodTemplate"]["spec"]["containers"]
        kept = plain_environment()
        if {"configMapRef": {"name": "lamella-settings"}} in container["envFrom"]:
            kept = {name: self.environment[name] for name in (*settings(), *kept) if name != AWS}
        token = {name: self.environment[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
        dashboard = f"http://127.0.0.1:{self.ports[8265]}"
        script = f"ray job submit --address {dashboard} -- {entrypoint}"
        return self._run(["bash", "-ce", "--", script], environment=kept | token)

    def run(self, script: str, more: Mapping[str, str] = {}) -> Said:
        """Run a command of a manifest, as the shell of a container does."""
        return self._run(["bash", "-eu", "-c", script], more)

    def _run(
        self,
        command: list[str],
        more: Mapping[str, str] = {},
        environment: Mapping[str, str] | None = None,
    ) -> Said:
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            # Not pipes: what Ray leaves running would hold them open.
            done = subprocess.run(
                command,
                env={**(environment or self.environment), **more},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=COMMAND_S,
                check=False,
            )
            texts = [(file.seek(0), file.read())[1] for file in (out, err)]
        return Said(command, done.returncode, *texts)

    def stop(self) -> None:
        """End all processes of this Ray, and of no other."""
        deadline = time.monotonic() + 10.0
        while time.monotonic() < deadline:
            kill_writers(self.folder / "ray")
            time.sleep(0.2)
            shutil.rmtree(self.folder, ignore_errors=True)
            if not self.folder.exists():
                return


@pytest.fixture(scope="module")
def gateway() -> Iterator[str]:
    """A push gateway; where there is none, an address where nobody listens: no job fails by it."""
    program = shutil.which("prometheus-pushgateway")
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with contextlib.ExitStack() as stack:
        if program is not None:
            command = [program, f"--web.listen-address={address}"]
            stack.enter_context(running(command, f"http://{address}/-/ready"))
        yield f"http://{address}"


@pytest.fixture(scope="module")
def cluster(gateway: str) -> Iterator[Cluster]:
    """A Ray with a token and pictures in two groups; its folder's path is short, for sockets."""
    ports = dict(zip((6379, 8265, 52365, 8080), free_ports(4), strict=True))
    started = Cluster(Path(tempfile.mkdtemp(prefix="lam-", dir="/tmp")), ports, gateway)
    try:
        for group in ("a", "b"):
            draw_jpegs(started.folder / "pictures" / group, 6, (120, 160))
        started.start()
        yield started
    finally:
        started.stop()


def answer(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=5) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slow
@pytest.mark.ray
def test_probes_are_answered_without_the_token_and_the_jobs_are_not(cluster: Cluster) -> None:
    (container,) = cluster.spec["headGroupSpec"]["template"]["spec"]["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[probe]["httpGet"]
        address = f"http://127.0.0.1:{cluster.ports[asked['port']]}{asked['path']}"
        deadline = time.monotonic() + container["startupProbe"]["failureThreshold"] * 5
        while True:
            try:
                assert answer(address) == 200, probe
                break
            except OSError:
                assert time.monotonic() < deadline, address
                time.sleep(0.2)
    assert answer(f"http://127.0.0.1:{cluster.ports[8265]}/api/jobs/") == 401


@pytest.mark.slow
@pytest.mark.ray
def test_a_job_a_night_and_a_tidying_are_run_as_the_manifests_have_them(cluster: Cluster) -> None:
    job_file = str(KUBERNETES / "base" / "job.toml")
    for name, told in (("index", "snapshot"), ("query", "pairs"), ("evaluate", "mAP")):
        (job,) = built(f"jobs/{name}")
        entrypoint = job["spec"]["entrypoint"].replace("/etc/lamella/job.toml", job_file)
        said = cluster.submit(job, entrypoint)
        assert said.returncode == 0, said.stdout + said.stderr
        assert told in said.stdout + said.stderr
    # Why the nightly job is no RayJob: of a wrong call (2) that tells only that it failed.
    (job,) = built("jobs/index")
    assert cluster.submit(job, 'lamella index /nowhere --into "$STORE_URL"').returncode == 1
    draw_jpegs(cluster.folder / "pictures" / "c", 2, (90, 160))
    assert "snapshot 2" in nightly(cluster, 0).stdout
    assert "Traceback" not in nightly(cluster, 0).stderr  # nothing has changed
    # Half of the pictures are gone: made, and not promoted.
    shutil.rmtree(cluster.folder / "pictures" / "a")
    nightly(cluster, 3)
    if shutil.which("prometheus-pushgateway"):
        codes = metrics_at(cluster.gateway)["lamella_job_exit_code"]
        assert codes == {0.0, 2.0, 3.0}  # of query and evaluate, index, reindex
    served = {name for port in cluster.agents for name in metrics_at(f"http://127.0.0.1:{port}")}
    ours = {name.removeprefix("ray_") for name in served if name.startswith("ray_lamella_")}
    assert "lamella_pictures_total" in ours
    assert ours <= NAMES  # what is left once the rule of prometheus.yml has taken `ray_` off
    tidy = of_cronjob("lamella-tidy")
    said = cluster.run(tidy["args"][0])
    assert said.returncode == 0, said.stderr


@pytest.mark.slow
@pytest.mark.ray
def test_a_night_without_a_head_is_tried_later(cluster: Cluster) -> None:
    nowhere = {"RAY_HEAD": f"127.0.0.1:{free_ports(1)[0]}"}
    script = script_of_the_night()
    assert "timeout 120 " in script
    said = cluster.run(script.replace("timeout 120 ", "timeout 5 "), nowhere)
    assert said.returncode == 75, said.stderr


def metrics_at(address: str) -> dict[str, set[float]]:
    """Return the values of each metric that an address serves."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    found: dict[str, set[float]] = {}
    for line in lines:
        if line and not line.startswith("#"):
            name = re.split(r"[{ ]", line)[0]
            found.setdefault(name, set()).add(float(line.split()[-1]))
    return found


def of_cronjob(name: str) -> Manifest:
    (found,) = (each for each in of_kind(written(), "CronJob") if each["metadata"]["name"] == name)
    (container,) = found["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["bash", "-eu", "-c"]
    assert len(container["args"]) == 1
    value: Manifest = container
    return value


def script_of_the_night() -> str:
    """Return what the nightly pod runs; here its port for metrics may be taken."""
    (script,) = of_cronjob("lamella-nightly")["args"]
    return str(script.replace("=8080", f"={free_ports(1)[0]}"))


def nightly(cluster: Cluster, code: int) -> Said:
    said = cluster.run(script_of_the_night(), {"RAY_HEAD": cluster.head})
    assert said.returncode == code, said.stdout + said.stderr
    return said


@pytest.mark.slow
def test_a_night_of_the_unit_runs_and_fits_the_memory_of_a_pod(tmp_path: Path) -> None:
    """In one process; the planner's figures are those that pods are sized by."""
    draw_jpegs(tmp_path / "pictures", 8, (240, 320))
    environment = plain_environment() | {"LAMELLA_LOG": "json"}

    def run(*command: str) -> str:
        said = subprocess.run(
            command, env=environment, cwd="/", capture_output=True, text=True, check=False
        )
        assert said.returncode == 0, said.stderr
        return said.stdout

    store = str(tmp_path / "store")
    given = (str(tmp_path / "pictures"), "--into", store, "--engine", "serial")
    plan = json.loads(run("lamella", "plan", *given, "--json"))
    workers = [sum(parts.values()) for parts in plan["memory"].values()]
    assert 0 < max(workers) <= WORKER_BYTES
    run("lamella", "index", *given)
    command = unit(SERVICE)["Service"]["ExecStart"]
    _, *arguments = shlex.split(command.replace("/srv/store", store))
    run("lamella", *arguments, "--engine", "serial")


@pytest.mark.slow
def test_the_servers_of_the_trial_start_and_its_index_is_made(tmp_path: Path) -> None:
    """compose.yaml without containers: its S3 server, its bucket, its index."""
    services = compose()["services"]
    s3, master, volume, filer = free_ports(4)
    command = [
        re.sub(r"=s3$|=0\.0\.0\.0$", "=127.0.0.1", each)
        .replace("-dir=/data", f"-dir={tmp_path / 'data'}")
        .replace("/etc/trial/s3.json", str(KUBERNETES.parent / "compose.s3.json"))
        for each in services["s3"]["command"]
    ]
    ports = {"s3": s3, "master": master, "volume": volume, "filer": filer}
    for name, port in ports.items():
        command += [f"-{name}.port={port}", f"-{name}.port.grpc={free_ports(1)[0]}"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    (tmp_path / "data").mkdir()
    environment = plain_environment() | services["index"]["environment"]
    environment |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3}",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "LAMELLA_PUSH": "http://127.0.0.1:9",
        "LAMELLA_METRICS_PORT": str(free_ports(1)[0]),
        "LAMELLA_CACHE": str(tmp_path / "cache"),
    }
    draw_jpegs(tmp_path / "pictures", 6, (120, 160))

    def run(*given: str) -> Said:
        said = subprocess.run(
            given, env=environment, cwd="/", capture_output=True, text=True, check=False
        )
        assert said.returncode == 0, said.stderr
        return said

    with (tmp_path / "log").open("wb") as log:
        server: subprocess.Popen[Any] = subprocess.Popen(
            [weed(), *command], cwd=tmp_path, stdout=log, stderr=log
        )
    try:
        (script,) = services["bucket"]["command"]
        run(sys.executable, "-c", script)
        index = [
            each.replace("/pictures", str(tmp_path / "pictures"), 1)
            if each == "/pictures"
            else each
            for each in services["index"]["command"]
        ]
        run("lamella", *index)
        assert "indexed" in run("lamella", *services["lamella"]["command"]).stdout
    finally:
        server.kill()
        server.wait()
