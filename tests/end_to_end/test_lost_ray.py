"""A process that Ray cannot do without is killed or stopped under a running command."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from lamella.cluster.ray.connect import connected
from lamella.cluster.ray.private_folder import PREFIX
from lamella.cluster.ray.ray_auth import own_token
from lamella.cluster.ray.runner import RayRunner
from lamella.pipeline.errors import EngineLost
from tests.builders import Scripted, items
from tests.conftest import Indexed, RaySwitch
from tests.s3 import free_ports

pytestmark = pytest.mark.ray
BOUND_S = 40.0
"""Some 20 s on a quiet machine; this one may have other work."""

SMALL = """
[corpus]
shard_images = 16
[vocabulary]
words = 64
rounds = 6
[index]
segment_images = 20
"""


@dataclass
class Running:
    """A command that runs, what it has said so far, and the folder of its Ray."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def said(self) -> str:
        return (self.folder / "err").read_text()

    def descendants(self) -> dict[int, str]:
        """Return the processes below it, with their names."""
        parents, names = {}, {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                before, _, after = path.read_text(errors="replace").rpartition(")")
                number = int(path.parent.name)
                parents[number] = int(after.split()[1])
                names[number] = before.partition("(")[2]

        def is_below(number: int) -> bool:
            while number in parents and number != self.process.pid:
                number = parents[number]
            return number == self.process.pid

        return {
            number: name
            for number, name in names.items()
            if number != self.process.pid and is_below(number)
        }

    def find(self, name: str) -> int:
        """Wait for a process of its Ray, and return its id."""
        while True:
            for number, found in self.descendants().items():
                if found == name:
                    return number
            assert self.process.poll() is None, self.said
            time.sleep(0.02)

    def wait_for(self, text: str) -> None:
        """Wait until it has said something."""
        while text not in self.said:
            assert self.process.poll() is None, self.said
            time.sleep(0.02)


@contextlib.contextmanager
def running(folder: Path, *arguments: object) -> Iterator[Running]:
    """Run a command whose Ray lies in a folder."""
    with (
        (folder / "err").open("wb") as err,
        (folder / "out").open("wb") as out,
        subprocess.Popen(
            [sys.executable, "-m", "lamella", *map(str, arguments)],
            env=os.environ | {"TMPDIR": str(folder)},
            stdout=out,
            stderr=err,
        ) as process,
    ):
        try:
            yield Running(process, folder)
        finally:
            process.kill()


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path is short enough for Ray."""
    with tempfile.TemporaryDirectory(prefix="lm", dir="/tmp") as folder:
        (Path(folder) / "job.toml").write_text(SMALL)
        yield Path(folder)


def gone(number: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def hit(
    command: Running,
    name: str,
    what: signal.Signals,
    *,
    moment: float = 0.0,
    as_json: bool = False,
) -> None:
    """Send a signal to a process of Ray; the command must end as it is promised."""
    victim = command.find(name)
    time.sleep(moment)
    below = command.descendants()
    os.kill(victim, what)
    began = time.monotonic()
    assert command.process.wait(BOUND_S + 60) == 75, command.said
    assert time.monotonic() - began < BOUND_S
    done = r"listing the pictures of .*|starting Ray on .*|[^:]* done .*"
    lines = [line for line in command.said.splitlines() if not re.fullmatch(done, line)]
    assert len(lines) == 1, command.said
    how = (
        "was ended by SIGKILL" if what == signal.SIGKILL else "has been stopped (SIGSTOP) for 10 s"
    )
    assert re.fullmatch(
        rf"lamella: Ray's [a-z ]+\({name}\), process {victim}, {re.escape(how)}: "
        "what is done stays done; run the same command again",
        lines[0],
    )
    said = (command.folder / "out").read_text()
    if as_json:
        error = json.loads(said)["error"]
        assert (error["code"], error["kind"]) == (75, "EngineLost")
    else:
        assert said == ""
    deadline = time.monotonic() + 30
    while left := {each: below[each] for each in below if not gone(each)}:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.1)
    assert list(command.folder.glob(f"{PREFIX}*")) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_command_whose_ray_is_killed_says_so_in_a_line_and_continues(
    short: Path, planted: Path, name: str
) -> None:
    job = ("--job", short / "job.toml", "--words", "32", "--workers", "2")
    with running(short, "index", planted, "--into", short / "store", *job) as command:
        command.wait_for("corpus done")
        hit(command, name, signal.SIGKILL)
    if name == "raylet":
        again = ("index", planted, "--into", short / "store", *job, "--engine", "serial")
        with running(short, *again) as command:
            assert command.process.wait(300) == 0, command.said


@pytest.mark.slow
def test_a_program_of_its_own_is_told_by_an_error_and_may_start_another_ray(
    ray_switch: RaySwitch, tmp_path: Path
) -> None:
    def run_and_kill() -> None:
        with connected(cpus=1), RayRunner(workers=1) as runner:
            node = ray._private.worker._global_node
            raylet = node.all_processes["raylet"][0].process.pid
            for _ in runner.run(Scripted(str(tmp_path), {"001": ("hang",)}), items(2)):
                os.kill(raylet, signal.SIGKILL)

    ray_switch.close()
    with pytest.raises(
        EngineLost, match=r"scheduler \(raylet\), process \d+, was ended by SIGKILL"
    ):
        run_and_kill()
    with connected(cpus=1), RayRunner(workers=1) as runner:
        assert all(each.record for each in runner.run(Scripted(str(tmp_path)), items(1)))


@pytest.mark.slow
@pytest.mark.parametrize("what", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
@pytest.mark.parametrize("moment", [0.3, 0.8, 6.0])
def test_whenever_it_is_hit_the_command_ends_in_bounded_time(
    short: Path, planted: Path, name: str, what: signal.Signals, moment: float
) -> None:
    with running(short, "index", planted, "--into", short / "store", "--workers", "1") as command:
        hit(command, name, what, moment=moment)


@pytest.mark.slow
@pytest.mark.parametrize("what", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_query_whose_ray_is_hit_ends_in_bounded_time(
    short: Path, indexed: Indexed, name: str, what: signal.Signals
) -> None:
    asked = ("query", indexed.store, "--queries", indexed.source, "--json", "--workers", "1")
    with running(short, *asked) as command:
        command.find("ray::ShardServe")  # as much of its name as the kernel keeps
        hit(command, name, what, as_json=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (
            "gcs_server",
            r"(has not answered for 20 s|does not answer as before \(.*\)): what is done stays",
        ),
        ("raylet", r"Ray's scheduler \(raylet\), process \d+, was ended by SIGKILL: what is done"),
    ],
)
def test_a_cluster_that_was_joined_and_is_lost_is_told_too(
    ray_switch: RaySwitch, short: Path, planted: Path, name: str, wanted: str
) -> None:
    ray_switch.close()
    with own_token():
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 10**8}
        )
        try:
            joined = ("--into", short / "store", "--address", cluster.address)
            with running(short, "index", planted, *joined) as command:
                command.wait_for("corpus done")
                os.kill(cluster.head_node.all_processes[name][0].process.pid, signal.SIGKILL)
                assert command.process.wait(BOUND_S + 60) == 75
                assert re.search(wanted, command.said)
                assert "Traceback" not in command.said
        finally:
            cluster.shutdown()


@pytest.mark.slow
def test_a_command_whose_head_node_restarts_says_so_and_continues_on_the_new_one(
    ray_switch: RaySwitch, short: Path, planted: Path
) -> None:
    ray_switch.close()
    head = {"num_cpus": 0, "object_store_memory": 10**8, "gcs_server_port": free_ports(1)[0]}
    with own_token():
        first = Cluster(initialize_head=True, head_node_args=head)
        second = None
        try:
            first.add_node(num_cpus=1, object_store_memory=10**8)
            call = ("index", planted, "--into", short / "store", "--job", short / "job.toml")
            joined = (*call, "--address", first.address)
            with running(short, *joined) as command:
                command.wait_for("corpus done")
                first.head_node.kill_all_processes(
                    check_alive=False, allow_graceful=False, wait=True
                )
                second = Cluster(initialize_head=True, head_node_args=head)
                assert command.process.wait(BOUND_S + 60) == 75, command.said
                (line,) = [each for each in command.said.splitlines() if "lamella: " in each]
                assert line.endswith("run the same command again")
                assert "Trace" not in command.said
            second.add_node(num_cpus=1, object_store_memory=10**8)
            with running(short, *joined) as command:
                assert command.process.wait(300) == 0, command.said
        finally:
            for each in (second, first):
                if each is not None:
                    each.shutdown()
