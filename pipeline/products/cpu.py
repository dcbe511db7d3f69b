"""What this CPU has: its vectors, and which numbers it multiplies in hardware."""

import os
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/")

_LIMITS: Mapping[str, frozenset[str]] = {
    name: frozenset(allowed.split())
    for name, allowed in {
        "SSE41": "",
        "AVX": "",
        "AVX2": "avx2",
        "AVX2_VNNI": "avx2 avx_vnni",
        "AVX2_VNNI_2": "avx2 avx_vnni",
        "AVX512_CORE": "avx2 avx512f",
        "AVX512_CORE_VNNI": "avx2 avx512f avx512_vnni",
        "AVX512_CORE_BF16": "avx2 avx512f avx512_vnni avx512_bf16",
        "AVX512_CORE_FP16": "avx2 avx512f avx512_vnni avx512_bf16 avx512_fp16 avx_vnni",
        "AVX10_1_512": "avx2 avx512f avx512_vnni avx512_bf16 avx512_fp16 avx_vnni",
        "AVX512_CORE_AMX": "avx2 avx512f avx512_vnni avx512_bf16 avx512_fp16 avx_vnni "
        "amx_tile amx_bf16 amx_int8",
        "AVX10_1_512_AMX": "avx2 avx512f avx512_vnni avx512_bf16 avx512_fp16 avx_vnni "
        "amx_tile amx_bf16 amx_int8",
    }.items()
}
"""What oneDNN uses under each value of `ONEDNN_MAX_CPU_ISA`; under others all that there is."""

_OF_TORCH = {"avx512_f": "avx512f"}
"""Features that `torch.cpu.get_capabilities` names otherwise than Linux."""

_BEFORE = {
    "_is_avx2_supported": ("avx2",),
    "_is_avx512_supported": ("avx512f",),
    "_is_vnni_supported": ("avx512_vnni",),
    "_is_avx512_bf16_supported": ("avx512_bf16",),
    "_is_amx_tile_supported": ("amx_tile", "amx_bf16", "amx_int8"),
    "_is_amx_fp16_supported": ("amx_fp16",),
}
"""What older releases of PyTorch answer, and the features that a yes stands for."""


@dataclass(frozen=True)
class Cpu:
    """A CPU as oneDNN may use it.

    Attributes:
        model: its name.
        vectors: the widest, "AVX512", "AVX2" or "" for neither.
        bfloat16, float16, int8: whether it multiplies such numbers in hardware.
        amx: whether it has tiles for that.
    """

    model: str
    vectors: str
    bfloat16: bool
    float16: bool
    int8: bool
    amx: bool


def this_cpu(root: Path = _ROOT) -> Cpu:
    """Return what this CPU has, less what `ONEDNN_MAX_CPU_ISA` forbids oneDNN.

    PyTorch is asked if it is imported already; to import it for this would take seconds, and
    Linux names the same features in /proc/cpuinfo.

    Args:
        root: the folder that holds `proc`; another one is for tests, and PyTorch is not asked then.
    """
    known = _by_torch() if root == _ROOT and "torch" in sys.modules else _by_linux(root)
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
    has = known & _LIMITS.get(limit.upper(), known)
    widest = [name for flag, name in (("avx512f", "AVX512"), ("avx2", "AVX2")) if flag in has]
    return Cpu(
        model=cpu_model(root),
        vectors=widest[0] if widest else "",
        bfloat16=not has.isdisjoint({"avx512_bf16", "amx_bf16"}),
        float16=not has.isdisjoint({"avx512_fp16", "amx_fp16"}),
        int8=not has.isdisjoint({"avx512_vnni", "avx_vnni", "amx_int8"}),
        amx="amx_tile" in has,
    )


def cpu_model(root: Path = _ROOT) -> str:
    """Return the name of the CPU's model, or of its kind where Linux does not say it."""
    names = re.findall(r"^model name[^:\n]*:(.*)$", _cpuinfo(root), re.MULTILINE)
    return names[0].strip() if names else platform.processor() or platform.machine()


def _by_torch() -> frozenset[str]:
    import torch

    if hasattr(torch.cpu, "get_capabilities"):
        said = torch.cpu.get_capabilities()
        return frozenset(_OF_TORCH.get(name, name) for name, there in said.items() if there is True)
    answers = {name: getattr(torch.cpu, name, lambda: False) for name in _BEFORE}
    return frozenset(flag for name, ask in answers.items() if ask() for flag in _BEFORE[name])


def _by_linux(root: Path) -> frozenset[str]:
    found = re.search(r"^flags[^:\n]*:(.*)$", _cpuinfo(root), re.MULTILINE)
    return frozenset(found[1].split() if found else ())


def _cpuinfo(root: Path) -> str:
    try:
        return (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
