"""The machine: its processor, memory and cards, as this process may use them; and its clock."""

import platform
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lamella.pipeline.cores import available_cores, cores_of_machine
from lamella.pipeline.doctor.findings import Finding
from lamella.pipeline.doctor.imports import DRIVER, Imported
from lamella.pipeline.memory import available_memory
from lamella.pipeline.text import byte_size, counted

UNITS = {
    "AVX2": r"avx2",
    "AVX-512": r"avx512f",
    "AVX-512 VNNI": r"avx512_vnni",
    "AVX-512 BF16": r"avx512_bf16",
    "AMX": r"amx_\w+",
    "NEON": r"asimd",
    "SVE": r"sve",
}
"""Vector units that libraries have code for, and the flags in /proc/cpuinfo that announce them."""

LITTLE_BYTES = 4 * 10**9
"""With less free memory than this a worker with a network and its decoders has little room."""

_CARD_S = 10.0
_ROOT = Path("/")


def processor(root: Path = _ROOT) -> Finding:
    """Return the processor's model, its vector units, and the cores that this process may use.

    Args:
        root: the folder that holds `proc` and `sys`; another one is for tests.
    """
    text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    known = set(flags[1].split()) if flags else set[str]()
    units = [n for n, flag in UNITS.items() if any(re.fullmatch(flag, each) for each in known)]
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    cores, of_machine = available_cores(root), cores_of_machine()
    share = f" of {of_machine}" if cores < of_machine else ""
    said = [model[1] if model else platform.machine(), f"{counted(cores, 'core')}{share}", *units]
    if platform.machine() == "x86_64" and "AVX2" not in units:
        return Finding("processor", "missing", f"{', '.join(said)}; no AVX2: networks run slowly")
    return Finding("processor", "ok", ", ".join(said))


def memory(root: Path = _ROOT) -> Finding:
    """Return the memory that this process may still use."""
    free = available_memory(root)
    said = f"{byte_size(free)} free for this process"
    if free < LITTLE_BYTES:
        said += f"; less than {byte_size(LITTLE_BYTES)} is little for a worker with a network"
        return Finding("memory", "missing", said, "use few --workers, or --engine serial")
    return Finding("memory", "ok", said)


def clock() -> Finding:
    """Check that the clock is not before the time at which this file was installed."""
    now, installed = time.time(), Path(__file__).stat().st_mtime
    said = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now + 86_400 < installed:
        cure = "set the clock: servers refuse requests of another time, and gc goes by ages"
        return Finding("clock", "broken", f"{said}, before Lamella was installed", cure)
    return Finding("clock", "ok", said)


def cards(torch: Imported) -> Finding:
    """Return the cards for CUDA, by their driver, and whether torch can use them.

    Args:
        torch: how its import went.
    """
    built_for, usable = torch.facts.get("cuda"), torch.facts.get("cards", ())
    if usable:
        return Finding("cards", "ok", f"{_named(usable)}; {_driver()}, CUDA {built_for}")
    if not DRIVER.exists():
        with_cuda = f"; this torch brings CUDA {built_for}, which nothing uses" if built_for else ""
        return Finding("cards", "missing", f"no driver of NVIDIA{with_cuda}; CPUs are used")
    if torch.error:
        return Finding("cards", "broken", f"{_driver()}, but torch cannot be imported")
    if not built_for:
        cure = "pip install --force-reinstall torch torchvision, from PyPI"
        return Finding("cards", "broken", f"{_driver()}, but this torch is for CPUs alone", cure)
    cure = f"take a driver for CUDA {built_for} or later, or look at CUDA_VISIBLE_DEVICES"
    return Finding("cards", "broken", f"{_driver()}, but torch sees no card", cure)


def _named(found: Sequence[Mapping[str, Any]]) -> str:
    kinds: dict[str, int] = {}
    for card in found:
        name = f"{card['name']} with {byte_size(card['memory_bytes'])}"
        kinds[name] = kinds.get(name, 0) + 1
    return ", ".join(f"{number} x {name}" for name, number in kinds.items())


def _driver() -> str:
    """Return the version of the driver, as the driver itself says it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "a driver of NVIDIA"
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(
            query, capture_output=True, text=True, timeout=_CARD_S, check=True
        ).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return "a driver of NVIDIA that does not answer"
    return f"driver {said[0]}" if said else "a driver of NVIDIA without a card"
