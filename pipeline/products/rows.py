"""Products of rows with rows in bfloat16, and their error."""

from copy import copy
from typing import TYPE_CHECKING

import numpy as np

from lamella.pipeline.arrays import Float32s, Float64s, UInt32s
from lamella.pipeline.products.codes import BFLOAT16_UNIT, gamma

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_ROWS = 16_384
"""Rows that are rounded at a time."""


class BFloat16Rows:
    """Rows (K, D) float32 that others are multiplied with; norms are at most 1e15.

    Args:
        rows: finite.
    """

    def __init__(self, rows: Float32s) -> None:
        import torch

        self._rows = torch.empty(rows.shape, dtype=torch.bfloat16)
        self._lost = self._longest = 0.0
        for start in range(0, len(rows), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            self._rows[block], norms, lost = _rounded(rows[block])
            self._longest = max(self._longest, float(norms.max()))
            self._lost = max(self._lost, float(lost.max()))

    def some(self, chosen: UInt32s) -> "BFloat16Rows":
        """Return some of the rows, (m,), with the bounds of all."""
        import torch

        part = copy(self)
        part._rows = self._rows[torch.from_numpy(chosen.astype(np.int64))]
        return part

    def multiply(self, rows: Float32s, out: Float32s) -> Float64s:
        """Write the products (n, K) of rows (n, D), and return the error of each row's, (n,).

        With x' and c' the rounded vectors, x.c is within |x - x'| (|c'| + |c - c'|) + |x'| |c - c'|
        of x'.c', by Cauchy and Schwarz. The sum of x'.c' in float32 is off by at most gamma |x'|
        |c'| (see `codes.prepare`), and is rounded to bfloat16. Units that multiply bfloat16 take
        numbers below 2 ** -126 as 0.
        """
        import torch

        rounded, norms, lost = _rounded(rows)
        out[:] = torch.mm(rounded, self._rows.T).float().numpy()
        dimensions = rows.shape[1]
        relative = 1.01 * BFLOAT16_UNIT + gamma(2 * dimensions + 8)
        vanished = dimensions * 2.0**-125 * (1.0 + norms + self._longest)
        error = lost * (self._longest + self._lost) + norms * self._lost
        errors: Float64s = 1.001 * (error + relative * norms * self._longest) + vanished
        return errors


def _rounded(rows: Float32s) -> tuple["Tensor", Float64s, Float64s]:
    """Return rows in bfloat16, their lengths, and how far they are from what they were."""
    import torch

    exact = torch.from_numpy(np.array(rows))
    rounded = exact.bfloat16()
    wide = rounded.float()
    # The difference of a number and its rounding is exact in float32.
    lengths = [
        torch.linalg.vector_norm(each, dim=1, dtype=torch.float64).numpy()
        for each in (wide, exact - wide)
    ]
    return rounded, lengths[0], lengths[1]
