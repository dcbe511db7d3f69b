"""What this CPU has: its vectors, and which numbers it multiplies in hardware."""

import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Number = Literal["bfloat16", "float16", "int8"]

BY: dict[Number, dict[str, str]] = {
    "bfloat16": {
        "amx_bf16": "AVX512_CORE_AMX",
        "avx512_bf16": "AVX512_CORE_BF16",
        "sve_bf16": "",
        "bf16": "",
    },
    "float16": {
        "amx_fp16": "AVX512_CORE_AMX_FP16",
        "avx512_fp16": "AVX512_CORE_FP16",
        "fp16_arith": "",
    },
    "int8": {
        "amx_int8": "AVX512_CORE_AMX",
        "avx512_vnni": "AVX512_CORE_VNNI",
        "avx_vnni": "AVX2_VNNI",
    },
}
"""What multiplies such numbers, the fastest first, and the least limit of oneDNN that lets it be
used; none on ARM."""

_VECTORS = {"AVX512": ("avx512f", "AVX512_CORE"), "AVX2": ("avx2", "AVX2")}

_LIMITS = (
    *("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"),
    *("AVX512_CORE_BF16", "AVX10_1_512", "AVX512_CORE_FP16", "AVX512_CORE_AMX"),
    *("AVX10_1_512_AMX", "AVX512_CORE_AMX_FP16", "AVX10_1_512_AMX_FP16"),
)
"""Values of `ONEDNN_MAX_CPU_ISA`, each with all that those before it have; of others none limits.
AVX10_1_512 has what AVX512_CORE_FP16 has."""

_OF_TORCH = {"avx512_f": "avx512f"}
"""Features that `torch.cpu.get_capabilities` names otherwise than Linux."""

_BEFORE = {
    "_is_avx2_supported": ("avx2",),
    "_is_avx512_supported": ("avx512f",),
    "_is_vnni_supported": ("avx512_vnni",),
    "_is_avx512_bf16_supported": ("avx512_bf16",),
    "_is_amx_tile_supported": ("amx_bf16", "amx_int8"),
    "_is_amx_fp16_supported": ("amx_fp16",),
}
"""What older releases of PyTorch answer, and the features that a yes stands for."""

_ROOT = Path("/")


@dataclass(frozen=True)
class Cpu:
    """A CPU as oneDNN may use it.

    Attributes:
        model: its name.
        vectors: the widest, "AVX512", "AVX2" or "" for neither.
        bfloat16, float16, int8: what multiplies such numbers in hardware, as `BY` names it; ""
            where nothing does.
    """

    model: str
    vectors: str
    bfloat16: str = ""
    float16: str = ""
    int8: str = ""

    def multiplies(self, number: str) -> str:
        """Return what multiplies some numbers; "" for others than these three."""
        return {"bfloat16": self.bfloat16, "float16": self.float16, "int8": self.int8}.get(
            number, ""
        )


def this_cpu(root: Path = _ROOT) -> Cpu:
    """Return what this CPU has, less what `ONEDNN_MAX_CPU_ISA` forbids oneDNN.

    PyTorch is asked if it is imported already; to import it for this would take seconds, and
    Linux names the same features in /proc/cpuinfo.

    Args:
        root: the folder that holds `proc`; another one is for tests, and PyTorch is not asked then.
    """
    has = _by_torch() if root == _ROOT and "torch" in sys.modules else _by_linux(root)
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""

    def first(named: dict[str, tuple[str, str]]) -> str:
        allowed = (
            name for name, (flag, least) in named.items() if flag in has and _allows(limit, least)
        )
        return next(allowed, "")

    def best(number: Number) -> str:
        return first({name: (name, least) for name, least in BY[number].items()})

    return Cpu(
        model=cpu_model(root),
        vectors=first(_VECTORS),
        bfloat16=best("bfloat16"),
        float16=best("float16"),
        int8=best("int8"),
    )


def cpu_model(root: Path = _ROOT) -> str:
    """Return the name of the CPU's model, or of its kind where Linux does not say it."""
    names = re.findall(r"^model name[^:\n]*:(.*)$", _cpuinfo(root), re.MULTILINE)
    return names[0].strip() if names else platform.processor() or platform.machine()


def _allows(limit: str, least: str) -> bool:
    limit = limit.upper()
    return not least or limit not in _LIMITS or _LIMITS.index(limit) >= _LIMITS.index(least)


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
