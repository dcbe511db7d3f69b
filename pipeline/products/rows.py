"""Products of rows with rows in bfloat16, and their error."""

import numpy as np

from lamella.pipeline.arrays import Float32s, Float64s
from lamella.pipeline.products.codes import BFLOAT16_UNIT, gamma


class BFloat16Rows:
    """Rows (K, D) float32 that others are multiplied with; norms are at most 1e15.

    Args:
        rows: finite.
    """

    def __init__(self, rows: Float32s) -> None:
        import torch

        exact = torch.from_numpy(np.array(rows))
        self._rows = exact.bfloat16()
        lost = torch.linalg.vector_norm(self._rows.double() - exact.double(), dim=1)
        norms = torch.linalg.vector_norm(self._rows.double(), dim=1)
        self._lost, self._longest = float(lost.max()), float(norms.max())

    def multiply(self, rows: Float32s, out: Float32s) -> Float64s:
        """Write the products (n, K) of rows (n, D), and return the error of each row's, (n,).

        With x' and c' the rounded vectors, x.c is within |x - x'| (|c'| + |c - c'|) + |x'| |c - c'|
        of x'.c', by Cauchy and Schwarz. The sum of x'.c' in float32 is off by at most gamma |x'|
        |c'| (see `codes.prepare`), and is rounded to bfloat16. Units that multiply bfloat16 take
        numbers below 2 ** -126 as 0.
        """
        import torch

        exact = torch.from_numpy(np.array(rows))
        rounded = exact.bfloat16()
        out[:] = torch.mm(rounded, self._rows.T).float().numpy()
        wide = rounded.double()
        norms = torch.linalg.vector_norm(wide, dim=1).numpy()
        lost = torch.linalg.vector_norm(wide - exact.double(), dim=1).numpy()
        dimensions = rows.shape[1]
        relative = 1.01 * BFLOAT16_UNIT + gamma(2 * dimensions + 8)
        vanished = dimensions * 2.0**-125 * (1.0 + norms + self._longest)
        error: Float64s = lost * (self._longest + self._lost) + norms * self._lost
        return 1.001 * (error + relative * norms * self._longest) + vanished
