"""Half precision on CPUs: what a CPU has in hardware, and a check that what it has is right."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as functional
from torch import Tensor

from lamella.pipeline.errors import InputError, one_line
from lamella.schemas.extraction import Precision

HALVES: dict[Precision, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}

BY: dict[Precision, dict[str, str]] = {
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
}
"""What multiplies in half precision, the fastest first, as `torch.cpu.get_capabilities` calls it,
and the least limit of oneDNN that lets it be used; none on ARM."""

LIMITS = (
    *("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"),
    *("AVX512_CORE_BF16", "AVX10_1_512", "AVX512_CORE_FP16", "AVX512_CORE_AMX"),
    *("AVX10_1_512_AMX", "AVX512_CORE_AMX_FP16", "AVX10_1_512_AMX_FP16"),
)
"""Values of ONEDNN_MAX_CPU_ISA, each with all that those before it have; of others none limits.
AVX10_1_512 has what AVX512_CORE_FP16 has."""

ROUNDINGS = 4
"""How many roundings a number of a check may be off, of its own size or of the usual one: products
are summed in float32 and rounded once, and some kernels round parts of a sum. PyTorch's emulation
on AVX2 is off by 0.72 at most, in both types."""


@dataclass(frozen=True)
class HalfHardware:
    """What a CPU has for half precision: the names of `BY`, empty where PyTorch emulates it."""

    bfloat16: str
    float16: str

    def of(self, precision: Precision) -> str:
        """Return what multiplies in a precision; empty in those that are no half precision."""
        return {"bfloat16": self.bfloat16, "float16": self.float16}.get(precision, "")


def hardware_of_cpu() -> HalfHardware:
    """Return what this CPU has, and oneDNN may use: ONEDNN_MAX_CPU_ISA limits it."""
    # An older PyTorch does not tell.
    has: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA", "")

    def best(precision: Precision) -> str:
        return next(
            (
                name
                for name, least in BY[precision].items()
                if has.get(name) and _allows(limit, least)
            ),
            "",
        )

    return HalfHardware(best("bfloat16"), best("float16"))


def _allows(limit: str, least: str) -> bool:
    limit = limit.upper()
    return not least or limit not in LIMITS or LIMITS.index(limit) >= LIMITS.index(least)


def half_of(precision: Precision) -> str:
    """Return what tells CPUs apart in a half precision: what multiplies; empty in others."""
    if precision not in HALVES:
        return ""
    return f"{precision} by {hardware_of_cpu().of(precision) or 'emulation'}"


@cache
def check_half(precision: Precision) -> None:
    """Check a convolution and a product of a half precision on this CPU, once in a process.

    Raises:
        InputError: they fail, or are not what they are in float32.
    """
    if precision not in HALVES:
        return
    try:
        fault = _fault(HALVES[precision])
    except RuntimeError as error:
        fault = f"it fails: {one_line(error, 200)}"
    if fault:
        by = hardware_of_cpu().of(precision)
        claim = (
            f"has {by}" if by else f"has no instructions for {precision}, which PyTorch emulates"
        )
        raise InputError(
            f"this CPU says that it {claim}, and in {precision} {fault}: set "
            'network.precision = "float32", which is another extraction'
        )


def _fault(dtype: torch.dtype) -> str:
    """Return what is wrong with a convolution or a product; empty if nothing is."""
    generator = torch.Generator().manual_seed(1)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    picture, kernels = drawn(1, 64, 14, 14), drawn(64, 64, 3, 3)
    rows, columns = drawn(64, 256), drawn(64, 256)
    picture = picture.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        half = functional.conv2d(picture, kernels, padding=1)
        full = functional.conv2d(picture.double(), kernels.double(), padding=1)
        products = (
            functional.linear(rows, columns),
            functional.linear(rows.double(), columns.double()),
        )
    for what, mine, right in (("a convolution", half, full), ("a product", *products)):
        allowed = (
            ROUNDINGS * torch.finfo(dtype).eps / 2 * (right.abs() + right.square().mean().sqrt())
        )
        off = (mine.double() - right).abs()
        if mine.dtype != dtype or mine.shape != right.shape or not bool((off <= allowed).all()):
            at = int((off / allowed).nan_to_num(nan=torch.inf).argmax())
            got, exact = float(mine.flatten()[at]), float(right.flatten()[at])
            return (
                f"{what} gives {got:.6g} where float32 gives {exact:.6g}, more than "
                f"{float(allowed.flatten()[at]):.2g} apart"
            )
    return ""
