"""What is said of processor, memory, cards and clock."""

import platform
import time
from pathlib import Path

import pytest

from lamella.pipeline.doctor import machine
from lamella.pipeline.doctor.imports import Imported

CARD = {"name": "NVIDIA H200", "memory_bytes": 150_000_000_000}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("fpu avx2 avx512f avx512_vnni amx_tile amx_bf16", "AVX2, AVX-512, AVX-512 VNNI, AMX"),
        ("fpu avx2", "AVX2"),
        ("fpu avx2x", "no AVX2: networks run slowly"),
    ],
)
def test_vector_units_are_read_from_the_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, said: str
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"model name\t: A CPU\nflags\t\t: {flags}\n\n" * 2)
    found = machine.processor(tmp_path)
    assert found.says.startswith("A CPU, ")
    assert found.says.endswith(said)
    assert found.state == ("missing" if "slowly" in said else "ok")


def test_an_arm_processor_has_no_model_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd sve\n")
    found = machine.processor(tmp_path)
    assert found.says.startswith("aarch64, ")
    assert found.says.endswith("NEON, SVE")
    assert found.state == "ok"


def test_a_quota_is_what_counts(tmp_path: Path) -> None:
    """A container of one core on a machine of more, by version 2 of control groups."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/cpuinfo").write_text("model name : A CPU\nflags : avx2\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "proc/self/mountinfo").write_text("1 2 0:1 / /sys/fs/cgroup rw - cgroup2 none rw\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("50000 100000\n")
    assert machine.processor(tmp_path).says.startswith("A CPU, 1 core")


def test_little_memory_is_told(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemAvailable:    1000000 kB\n")
    found = machine.memory(tmp_path)
    assert found.state == "missing"
    assert found.says.startswith("1.02 GB free for this process; less than 4 GB")
    assert machine.memory().says.endswith("free for this process")


def test_a_clock_before_the_installation_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.clock().state == "ok"
    monkeypatch.setattr(time, "time", lambda: 1_000.0)
    found = machine.clock()
    assert (found.state, found.says) == (
        "broken",
        "1970-01-01 00:16:40 UTC, before Lamella was installed",
    )


def test_a_machine_without_a_driver_uses_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "DRIVER", tmp_path / "none")
    found = machine.cards(Imported(facts={"cuda": "13.2", "cards": []}))
    assert found.state == "missing"
    assert "brings CUDA 13.2, which nothing uses" in found.says
    assert "CUDA" not in machine.cards(Imported(facts={"cuda": None, "cards": []})).says


@pytest.mark.parametrize(
    ("torch", "state", "said"),
    [
        (Imported(facts={"cuda": "13.2", "cards": [CARD, CARD]}), "ok", "2 x NVIDIA H200 with 150"),
        (Imported(facts={"cuda": "13.2", "cards": []}), "broken", "torch sees no card"),
        (Imported(facts={"cuda": None, "cards": []}), "broken", "this torch is for CPUs alone"),
        (Imported("libcudart.so"), "broken", "torch cannot be imported"),
    ],
)
def test_a_card_must_be_one_that_torch_can_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torch: Imported, state: str, said: str
) -> None:
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(machine, "DRIVER", tmp_path / "nvidiactl")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = machine.cards(torch)
    assert found.state == state
    assert said in found.says


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 580.82.07; echo 580.82.07", "driver 580.82.07, but"),
        ("exit 9", "a driver of NVIDIA that does not answer, but"),
        ("true", "a driver of NVIDIA without a card, but"),
    ],
)
def test_the_driver_says_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(machine, "DRIVER", program)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.cards(Imported(facts={"cuda": "13.2"})).says.startswith(said)
