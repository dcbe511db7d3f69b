"""Our own Ray starts when there is work, and is done without where nobody asked for it."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from lamella.cluster.ray import private_folder
from lamella.cluster.ray.address import given_address
from lamella.cluster.ray.engine import engine
from lamella.cluster.ray.own_ray import OwnRay
from lamella.cluster.ray.starts import ClusterAway, NotStarted, NoWorkers
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.run.step import Outcome, Runner
from lamella.pipeline.search.coordinator import Servers
from lamella.schemas.job import EngineSettings
from tests.builders import Scripted, ended, items
from tests.conftest import RaySwitch


@pytest.fixture
def no_ray(ray_switch: RaySwitch, monkeypatch: pytest.MonkeyPatch) -> None:
    """No Ray can start on this machine: no folder has a path that is short enough."""
    ray_switch.close()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(private_folder, "LONGEST_BYTES", 0)


@pytest.mark.usefixtures("no_ray")
def test_without_tasks_nothing_is_started(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with engine(EngineSettings(workers=1), quiet=False) as opened:
        assert opened.threads >= 1
        assert opened.runner.threads == 1
        assert opened.runner.memory_per_worker() > 0
        assert list(opened.runner.run(Scripted(str(tmp_path)), [])) == []
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("no_ray")
def test_where_ray_does_not_start_this_process_does_the_work(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with engine(EngineSettings()) as opened:
        found = ended(opened.runner, Scripted(str(tmp_path)), 3)
        assert all(outcome.record is not None for outcome in found.values())
        assert opened.threads == opened.runner.threads == SerialRunner().threads
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("lamella: warning: Ray needs a folder for its sockets")
    assert line.endswith("this process does the work itself, as with --engine serial")


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize("told", [{"kind": "ray"}, {"workers": 2}, {"cpus_per_worker": 1}])
def test_who_asks_for_ray_is_told_that_it_does_not_start(
    told: dict[str, Any], tmp_path: Path
) -> None:
    wanted = pytest.raises(NotStarted, match="TMPDIR, or run with --engine serial")
    with wanted, engine(EngineSettings(**told)) as opened:
        ended(opened.runner, Scripted(str(tmp_path)), 1)


class NoMoreWorkers(SerialRunner):
    """Ends one task, and then no worker starts; a real one dies of a broken installation."""

    def run(self, step: Any, tasks: Sequence[Any]) -> Iterator[Outcome]:
        yield next(iter(super().run(step, tasks)))
        raise NoWorkers("no worker starts (ImportError: libx.so)", "mend that")


def without_workers(monkeypatch: pytest.MonkeyPatch, settings: EngineSettings) -> OwnRay:
    monkeypatch.setattr(OwnRay, "_start", lambda self: NoMoreWorkers())
    return OwnRay(settings, ExitStack(), quiet=True)


def test_tasks_that_no_worker_takes_are_done_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    runner = without_workers(monkeypatch, EngineSettings())
    outcomes = list(runner.run(Scripted(str(tmp_path)), items(4)))
    assert len({outcome.key for outcome in outcomes}) == len(outcomes) == 4
    assert "warning: no worker starts (ImportError: libx.so): this" in capfd.readouterr().err
    runner = without_workers(monkeypatch, EngineSettings(workers=2))
    with pytest.raises(NoWorkers, match=r"libx\.so"):
        list(runner.run(Scripted(str(tmp_path)), items(4)))


def test_servers_open_with_ray_and_before_its_first_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    class Runs(SerialRunner):
        def run(self, step: Any, tasks: Sequence[Any]) -> Iterator[Outcome]:
            order.append("run")
            return super().run(step, tasks)

    class Two:
        def __len__(self) -> int:
            return 2

        def ask(self, question: str, *arguments: Any) -> list[Any]:
            return [question]

    @contextmanager
    def opened(runner: Runner) -> Iterator[Servers]:
        order.append("open")
        yield Two()
        order.append("close")

    monkeypatch.setattr(OwnRay, "_start", lambda self: Runs())
    runner = OwnRay(EngineSettings(), ExitStack(), quiet=True)
    with runner.serving(opened):
        pass
    assert order == []  # never asked
    with runner.serving(opened) as servers:
        list(runner.run(Scripted(str(tmp_path)), items(1)))
        assert (len(servers), servers.ask("x")) == (2, ["x"])
    assert order == ["open", "run", "close"]
    with runner.serving(opened) as servers:
        assert servers.ask("y") == ["y"]
    assert order == ["open", "run", "close", "open", "close"]


def test_an_address_out_of_the_environment_is_told_as_such(
    ray_switch: RaySwitch, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray_switch.close()
    monkeypatch.setattr("lamella.cluster.ray.ray_auth.ANSWER_TIMEOUT_S", 0.1)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ClusterAway, match=r"127\.0\.0\.1:1 cannot.*variable RAY_ADDRESS: unset it"):
        engine(EngineSettings()).__enter__()
    with pytest.raises(ClusterAway, match=r"127\.0\.0\.1:2 cannot be reached") as raised:
        engine(EngineSettings(address="127.0.0.1:2")).__enter__()
    assert "RAY_ADDRESS" not in str(raised.value)
    assert given_address("local") is None
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert given_address(None) is None
