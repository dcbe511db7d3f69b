"""Half precision on CPUs: a check that what multiplies is right."""

from functools import cache

import torch
import torch.nn.functional as functional
from torch import Tensor

from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.products.cpu import this_cpu
from lamella.schemas.extraction import Precision

HALVES: dict[Precision, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}

ROUNDINGS = 4
"""How many roundings a number of a check may be off, of its own size or of the usual one: products
are summed in float32 and rounded once, and some kernels round parts of a sum. PyTorch's emulation
on AVX2 is off by 0.72 at most, in both types."""


def half_of(precision: Precision) -> str:
    """Return what tells CPUs apart in a half precision: what multiplies; empty in others."""
    if precision not in HALVES:
        return ""
    return f"{precision} by {this_cpu().multiplies(precision) or 'emulation'}"


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
        by = this_cpu().multiplies(precision)
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
