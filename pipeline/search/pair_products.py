"""Products of chosen pairs of query and row: codes of a byte times weights of 16 bits.

They add two products of 16 bits at once, which vector units have had for long, where float32 takes
a conversion and a sum for each: a product of 1,280 dimensions took .6 of the time of one in float32
on AVX2.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float32s, Float64s, Int32s, Int64s, UInt8s
from lamella.pipeline.compiled import compiled, numba
from lamella.pipeline.products.codes import gamma
from lamella.pipeline.search.prefetch import fetch

NEAR_ROWS = 256
"""Rows whose codes all queries use before the next rows: 330 kB at 1,280 dimensions."""

PAIRS_AHEAD = 4
"""How many pairs ahead of the product codes are prefetched."""

TOGETHER = 64
"""Dimensions that a turn of the loop multiplies."""


@dataclass(frozen=True, eq=False)
class PairWeights:
    """Q rows of weights, rounded to 16 bits with a scale a row.

    Attributes:
        whole: int16 (Q, d).
        scales: float32 (Q,): the weights are whole times scales.
        held: float64 (Q, d), the weights as they are multiplied.
        relative: as of `products.codes.Weights`: converted and scaled, a sum is rounded twice.
    """

    whole: NDArray[np.int16]
    scales: Float32s
    held: Float64s
    relative: float = gamma(16)


def prepare_pairs(weights: Float64s) -> PairWeights:
    """Return weights (Q, d), of at most 1e6 each, as large whole numbers as sums in 32 bits allow:
    of at most d times 255 times the largest.
    """
    largest = min(2**15 - 1, (2**31 - 1) // (255 * max(weights.shape[1], 1)))
    most = np.abs(weights).max(axis=1, initial=0.0)
    scales = np.where(most > 0.0, most / largest, 1.0).astype(np.float32)
    wide = np.maximum(scales.astype(np.float64), 2.0**-149)[:, None]
    whole = np.clip(np.rint(weights / wide), -largest, largest)
    return PairWeights(whole.astype(np.int16), scales, whole * scales[:, None])


@numba.extending.intrinsic  # type: ignore[untyped-decorator]
def _sum_of(typing: Any, codes: Any, code: Any, weights: Any, weight: Any, count: Any) -> Any:
    """Return the sum of codes[code + i] * weights[weight + i] for i below count, as int32.

    LLVM makes no such loop of Python's: it takes eight dimensions at a time, by half a register.

    Args:
        codes: uint8 (n,).
        weights: int16 (m,).
        count: a multiple of `TOGETHER`.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        one, whole = ir.IntType(32), ir.IntType(64)
        wide, half = ir.VectorType(one, TOGETHER), ir.VectorType(one, TOGETHER // 2)
        zeros = ir.Constant(half, [0] * (TOGETHER // 2))
        even, odd = (ir.Constant(half, list(range(first, TOGETHER, 2))) for first in (0, 1))
        sums = numba.core.cgutils.alloca_once_value(builder, zeros)

        def load(array: int, start: Any, bits: int) -> Any:
            data = context.make_array(signature.args[array])(context, builder, args[array]).data
            address = builder.gep(data, [builder.add(args[array + 1], start)])
            kind = ir.VectorType(ir.IntType(bits), TOGETHER).as_pointer()
            return builder.load(builder.bitcast(address, kind), align=bits // 8)

        with numba.core.cgutils.for_range_slice(
            builder, whole(0), args[4], whole(TOGETHER), intp=whole
        ) as (start, _):
            products = builder.mul(
                builder.zext(load(0, start, 8), wide), builder.sext(load(2, start, 16), wide)
            )
            pairs = builder.add(
                builder.shuffle_vector(products, products, even),
                builder.shuffle_vector(products, products, odd),
            )
            builder.store(builder.add(builder.load(sums), pairs), sums)
        kind = ir.FunctionType(one, [half])
        name = f"llvm.vector.reduce.add.v{TOGETHER // 2}i32"
        add = numba.core.cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(add, [builder.load(sums)])

    number = numba.types.int64
    return numba.types.int32(codes, number, weights, number, number), generate


@compiled
def multiply(
    offsets: Int64s,
    rows: Int32s,
    codes: UInt8s,
    whole: NDArray[np.int16],
    scales: Float32s,
    bases: Float32s,
    out: Float32s,
) -> None:
    """Write the products (m,) of queries with the codes (b, d) of their rows, and add the bases.

    A run of rows for all queries, then the next run: its codes stay in a core's own cache.

    Args:
        offsets, rows: pairs, flat by query; see `bound_kernels.Flat`.
        whole, scales: of `PairWeights`.
    """
    flat, weights, width = codes.reshape(-1), whole.reshape(-1), codes.shape[1]
    even = width - width % TOGETHER
    places = offsets[:-1].copy()
    for stop in range(NEAR_ROWS, len(codes) + NEAR_ROWS, NEAR_ROWS):
        for query in range(len(places)):
            place = places[query]
            while place < offsets[query + 1] and rows[place] < stop:
                if place + PAIRS_AHEAD < offsets[query + 1]:
                    ahead = np.int64(rows[place + PAIRS_AHEAD]) * width
                    for line in range(ahead, ahead + width, 64):
                        fetch(flat, line)
                code, weight = np.int64(rows[place]) * width, query * width
                total = np.int64(_sum_of(flat, code, weights, weight, even))
                for axis in range(even, width):
                    total += np.int64(flat[code + axis]) * np.int64(weights[weight + axis])
                out[place] = np.float32(total) * scales[query] + bases[query]
                place += 1
            places[query] = place
