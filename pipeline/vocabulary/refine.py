"""Products of rows with words that find candidates: float32, or bfloat16 and then float32.

In bfloat16 a product is within a hundredth or so of its size. Words whose score may be among the
best within that are multiplied again, in float32; others cannot be, and their product is -infinity.
So whoever compares scores sees float32 wherever it matters, with the windows of float32.
"""

import numpy as np

from lamella.pipeline.arrays import Float32s, Float64s, UInt32s
from lamella.pipeline.compiled import compiled
from lamella.pipeline.products import choice
from lamella.pipeline.products.rows import BFloat16Rows
from lamella.pipeline.vocabulary.compare import Compared
from lamella.pipeline.vocabulary.ivf_kernels import proposing

WORTH = 1 << 26
"""Multiplications of a product below which float32 is done before bfloat16 has begun: 2 ms."""


class Products:
    """Products with some words, for rows of float32."""

    def __init__(self, words: Compared) -> None:
        self._words = words
        self._rounded: BFloat16Rows | None = None

    def write(
        self,
        rows: Float32s,
        squared_norms: Float64s,
        out: Float32s,
        count: int = 1,
        chosen: UInt32s | None = None,
    ) -> None:
        """Write the products (n, m) of rows (n, D), or -infinity for words that are far.

        Every word that is among the `count` nearest of a row in float64 has its product.

        Args:
            chosen: (m,) which words; all by default.
        """
        words = self._words if chosen is None else self._words.some(chosen)
        multiplications = out.size * words.vectors.shape[1]
        if multiplications < WORTH or choice.for_words(multiplications) == "float32":
            np.matmul(rows, words.vectors.T, out=out)
            return
        if self._rounded is None:
            self._rounded = BFloat16Rows(self._words.vectors)
        rounded = self._rounded if chosen is None else self._rounded.some(chosen)
        errors = rounded.multiply(rows, out)
        windows = 2.0 * errors + words.windows(squared_norms)
        refine(rows, out, words.half_norms, windows, words.vectors, count)


@proposing
def _product(row: Float32s, word: Float32s) -> float:
    """Return the product of a row with a word."""
    total = np.float32(0)
    for axis in range(word.shape[0]):
        total += row[axis] * word[axis]
    return total  # type: ignore[return-value]


@compiled
def refine(
    rows: Float32s,
    products: Float32s,
    half_norms: Float32s,
    windows: Float64s,
    words: Float32s,
    count: int,
) -> None:
    """Compute products anew for words that may be near, and make all others -infinity.

    Args:
        rows: (n, D); products: (n, K) with the words (K, D), written over.
        half_norms: (K,) half the squared norms of the words.
        windows: (n,) how far above the `count`-th least score one of the `count` nearest words may
            score: twice the error of a score.
        count: from 1 to K.
    """
    best = np.empty(count, np.float32)
    lanes = np.empty(32, np.float32)
    whole = words.shape[0] // 32 * 32
    for row in range(rows.shape[0]):
        line = products[row]
        if count == 1:  # 32 minima in parallel take a third of the time
            lanes[:] = np.inf
            for start in range(0, whole, 32):
                for lane in range(32):
                    value = half_norms[start + lane] - line[start + lane]
                    lanes[lane] = value if value < lanes[lane] else lanes[lane]
            for word in range(whole, words.shape[0]):
                lanes[0] = min(lanes[0], half_norms[word] - line[word])
            last = lanes.min()
        else:
            best[:] = np.inf
            for word in range(words.shape[0]):
                value = half_norms[word] - line[word]
                if value < best[count - 1]:
                    place = count - 1
                    while place > 0 and best[place - 1] > value:
                        best[place] = best[place - 1]
                        place -= 1
                    best[place] = value
            last = best[count - 1]
        limit = np.float64(last) + windows[row]
        for word in range(words.shape[0]):
            if np.float64(half_norms[word] - line[word]) <= limit:
                line[word] = _product(rows[row], words[word])
            else:
                line[word] = -np.inf
