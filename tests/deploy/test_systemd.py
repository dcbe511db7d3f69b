"""The unit for one machine: systemd takes it, and it heeds the exit codes."""

import configparser
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.command_line import lamella
from tests.deploy.manifests import DEPLOY

UNITS = DEPLOY / "systemd"
SERVICE = UNITS / "lamella-reindex.service"
TIMER = UNITS / "lamella-reindex.timer"
SERVE = UNITS / "lamella-serve.service"
SERVICES = pytest.mark.parametrize("path", [SERVICE, SERVE], ids=lambda path: path.stem)
MOST_EXPOSURE = 2.0


class Unit(configparser.RawConfigParser):
    """A unit; keys keep their case, and of those that are given twice all values are kept."""

    optionxform = staticmethod(str)  # type: ignore[assignment]


def unit(path: Path) -> Unit:
    read = Unit(strict=False, interpolation=None, delimiters=("=",))
    read.read_string(path.read_text())
    return read


def analyze(*arguments: object) -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("systemd-analyze is not installed")
    command = [found, *map(str, arguments)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stderr == ""  # unknown keys and system calls are warnings
    return said.stdout


def test_systemd_takes_services_and_timer(tmp_path: Path) -> None:
    for path in (SERVICE, TIMER, SERVE):
        # The command need not be installed here.
        text = path.read_text().replace("/opt/lamella/bin/lamella", shutil.which("true") or "")
        (tmp_path / path.name).write_text(text)
    analyze("verify", *(tmp_path / each.name for each in (SERVICE, TIMER, SERVE)))


@SERVICES
def test_a_service_is_little_exposed(path: Path) -> None:
    said = analyze("security", "--offline=true", path)
    (exposure,) = re.findall(r"Overall exposure level for .*: ([\d.]+)", said)
    assert float(exposure) <= MOST_EXPOSURE


def test_the_timer_comes_once_a_night_and_catches_up() -> None:
    timer = unit(TIMER)["Timer"]
    assert timer["Unit"] == SERVICE.name
    assert timer["Persistent"] == "true"
    assert "Normalized form" in analyze("calendar", timer["OnCalendar"])


def test_only_a_server_that_is_away_is_tried_again() -> None:
    service = unit(SERVICE)["Service"]
    assert service["Restart"] == "no"
    assert service["RestartForceExitStatus"] == "75"
    assert service["RestartPreventExitStatus"].split() == ["1", "2", "3", "4"]
    # Made and not promoted is told by an alert, and is no failure of the machine's.
    assert service["SuccessExitStatus"] == "3"
    assert service["RestartSec"] == "30min"
    # A command that is told to end does so within 20 s.
    assert int(service["TimeoutStopSec"]) > 20


def test_the_unit_may_write_nothing_but_store_and_caches() -> None:
    service = unit(SERVICE)["Service"]
    assert service["User"] != "root"
    assert service["ProtectSystem"] == "strict"
    assert service["ReadWritePaths"] == "/srv/store"
    assert service["NoNewPrivileges"] == "yes"
    assert service["MemoryMax"]


def test_the_server_may_write_nothing_but_caches_and_comes_back_by_itself() -> None:
    service = unit(SERVE)["Service"]
    assert service["User"] != "root"
    assert service["ProtectSystem"] == "strict"
    assert "ReadWritePaths" not in service
    assert service["NoNewPrivileges"] == "yes"
    assert service["MemoryMax"]
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"].split() == ["2", "4"]
    assert service["SuccessExitStatus"] == "143"
    # Requests have 8 s to end, and a command that is told to end does so within 12 s.
    assert int(service["TimeoutStopSec"]) > 12


@SERVICES
def test_the_command_of_a_unit_can_be_read(path: Path) -> None:
    program, *arguments = shlex.split(unit(path)["Service"]["ExecStart"])
    assert os.path.basename(program) == "lamella"
    said = lamella(*(each.replace("/srv/", "/nowhere/") for each in arguments))
    assert said.returncode == 2
    assert "/nowhere/store" in said.stderr  # a store that is not there, and not a wrong option
