"""Products of codes of a byte with weights, in float32, bfloat16 or int8, and their error.

They propose only: what they say is kept with a bound of its error, and float64 decides.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lamella.pipeline.arrays import Float32s, Float64s, UInt8s
from lamella.schemas.job import ProductKind

if TYPE_CHECKING:
    from torch import Tensor

UNIT = 2.0**-24
"""Unit roundoff of float32."""

BFLOAT16_UNIT = 2.0**-8
"""Unit roundoff of bfloat16, whose significand has 8 bits with the leading one."""

LARGEST = 63
"""The largest 8-bit weight. Where a CPU has no VNNI, oneDNN adds two products of a code and a
weight in 16 bits: 2 * 255 * 63 is below 2 ** 15."""

MOST_DIMENSIONS = 100_000
"""Longer rows are multiplied in float32: 255 * 63 times this is below 2 ** 31."""

PACKED_FOR = 2_048
"""Rows of codes that 8-bit weights are laid out for; any other number is multiplied too."""


class Weights(Protocol):
    """Q rows of weights, ready to be multiplied with codes; for one thread at a time.

    Attributes:
        held: float64 (Q, d), the weights as they are multiplied.
        relative: the error of a product is at most this times the sum of the sizes of its terms,
            and 1e-13 that numbers too small for float32 may add. Eight roundings in float32 of what
            a caller adds are counted.
    """

    held: Float64s
    relative: float

    def multiply(self, codes: UInt8s, out: Float32s) -> None:
        """Write the products (Q, b) with codes (b, d)."""
        ...


def prepare(weights: Float64s, kind: ProductKind) -> Weights:
    """Return weights (Q, d), of at most 1e6 each, ready for products of a kind.

    A sum of n products in float32 is off by at most gamma_n times the sum of their sizes,
    gamma_n = n u / (1 - n u), in any order (Higham, Accuracy and Stability of Numerical
    Algorithms, 2nd ed., equation 3.5; u = 2 ** -24).
    """
    if kind == "bfloat16":
        return _BFloat16(weights)
    if kind == "int8" and weights.shape[1] <= MOST_DIMENSIONS:
        return _Int8(weights)
    return _Float32(weights)


def gamma(terms: int) -> float:
    """Return Higham's gamma of some terms in float32."""
    return terms * UNIT / (1.0 - terms * UNIT)


@dataclass(eq=False)
class _Float32:
    """Products by BLAS. Of the eight terms more, one is for rounding the weights."""

    held: Float64s
    relative: float = field(init=False)

    def __post_init__(self) -> None:
        self.relative = gamma(self.held.shape[1] + 8)
        self._weights = self.held.astype(np.float32)
        self._wide = np.empty((0, self.held.shape[1]), np.float32)

    def multiply(self, codes: UInt8s, out: Float32s) -> None:
        """See `Weights.multiply`."""
        if len(self._wide) < len(codes):
            self._wide = np.empty(codes.shape, np.float32)
        wide = self._wide[: len(codes)]
        np.copyto(wide, codes)
        np.matmul(self._weights, wide.T, out=out)


class _BFloat16:
    """Products by oneDNN: codes are exact in bfloat16, sums are float32, results bfloat16.

    Units that multiply bfloat16 add products of pairs first, which is another order, and take
    numbers below 2 ** -126 as 0.
    """

    def __init__(self, weights: Float64s) -> None:
        import torch

        self._weights = torch.from_numpy(weights).bfloat16()
        self.held: Float64s = self._weights.double().numpy()
        self.relative = 1.01 * BFLOAT16_UNIT + gamma(2 * weights.shape[1] + 16)
        self._codes = torch.empty((0, weights.shape[1]), dtype=torch.bfloat16)

    def multiply(self, codes: UInt8s, out: Float32s) -> None:
        """See `Weights.multiply`."""
        import torch

        if len(self._codes) < len(codes):
            self._codes = torch.empty(codes.shape, dtype=torch.bfloat16)
        wide = self._codes[: len(codes)].copy_(_tensor_of(codes))
        np.copyto(out, torch.mm(self._weights, wide.T).float().numpy())


class _Int8:
    """Products by oneDNN: codes as they are, sums exact in 32 bits, then scaled in float32.

    That rounds twice, where the sum is converted and where it is scaled.
    """

    def __init__(self, weights: Float64s) -> None:
        import torch

        most = np.abs(weights).max(axis=1, initial=0.0)
        scales = np.where(most > 0.0, most / LARGEST, 1.0).astype(np.float32)
        wide = np.maximum(scales.astype(np.float64), 2.0**-149)[:, None]
        whole = np.clip(np.rint(weights / wide), -LARGEST, LARGEST)
        self.held: Float64s = whole * scales[:, None]
        self.relative = gamma(16)
        self._scales = torch.from_numpy(scales)
        self._zeros = torch.zeros(len(weights), dtype=torch.int32)
        self._packed = torch.ops.onednn.qlinear_prepack(
            torch.from_numpy(whole.astype(np.int8)), [PACKED_FOR, weights.shape[1]]
        )
        self._turned = torch.empty((len(weights), 0))

    def multiply(self, codes: UInt8s, out: Float32s) -> None:
        """See `Weights.multiply`."""
        import torch

        if out.size == 0:
            return
        found: Tensor = torch.ops.onednn.qlinear_pointwise(
            _tensor_of(codes),
            *(1.0, 0),
            self._packed,
            self._scales,
            self._zeros,
            *(None, 1.0, 0, torch.float32, "none", [], ""),
        )
        if self._turned.shape[1] != len(codes):
            self._turned = torch.empty(out.shape)
        # Turned inside a core's cache, then copied: half the time of turning into `out`.
        np.copyto(out, self._turned.copy_(found.T).numpy())


def _tensor_of(codes: UInt8s) -> "Tensor":
    """Return codes as a tensor, which nobody writes to.

    `torch.from_numpy` warns of arrays that may only be read, as mapped files are. Before release
    2.1 NumPy hands none of them on: they are copied.
    """
    import torch
    from torch.utils.dlpack import from_dlpack

    try:
        return from_dlpack(codes)
    except BufferError:
        return torch.from_numpy(codes.copy())
