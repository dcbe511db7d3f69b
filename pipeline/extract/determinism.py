"""Fix the arithmetic of a pass: its precision, and algorithms that repeat their bits."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lamella.pipeline.extract.halves import HALVES, half_of
from lamella.pipeline.products.cpu import cpu_model
from lamella.pipeline.torch_settings import Setting, settings
from lamella.schemas.extraction import Precision

DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "tf32": torch.float32,
    **HALVES,
}
"""The type of weights and activations."""


def kind_of_machine(device: torch.device, precision: Precision = "float32") -> str:
    """Return the kind of machine that decides the bits of features: its CPU or GPU, and PyTorch.

    In half precision a CPU has other bits where another instruction multiplies, so that is named.
    """
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}; torch {torch.__version__}"
    capability = torch.backends.cpu.get_cpu_capability()
    half = f", {by}" if (by := half_of(precision)) else ""
    return f"{cpu_model()}, {capability}{half}; torch {torch.__version__}"


@contextmanager
def fixed_arithmetic(device: torch.device, precision: Precision) -> Iterator[None]:
    """Have a GPU compute in this precision, and in the same way in every process.

    cuDNN has many algorithms for a convolution, which add in different orders. Here it chooses
    among deterministic ones by the shapes alone; with `benchmark` it would choose by timing.
    Splitting sums in half precision is off as well. On a CPU this does nothing.
    """
    if device.type != "cuda":
        yield
        return
    with settings(list(_wanted(precision == "tf32"))):
        yield


def _wanted(tf32: bool) -> Iterator[Setting]:
    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    yield cudnn, "benchmark", False
    yield cudnn, "deterministic", True
    yield matmul, "allow_bf16_reduced_precision_reduction", False
    yield matmul, "allow_fp16_reduced_precision_reduction", False
    if hasattr(matmul, "fp32_precision"):
        yield cudnn.conv, "fp32_precision", "tf32" if tf32 else "ieee"
        yield matmul, "fp32_precision", "tf32" if tf32 else "ieee"
    else:  # PyTorch before 2.9
        yield cudnn, "allow_tf32", tf32
        yield matmul, "allow_tf32", tf32
