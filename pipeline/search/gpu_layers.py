"""A segment's layers on a graphics card, and how near queries are to its images, within bounds.

Sums and products are in float32; what they may be off is part of the answer.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.index.bags import select
from pipeline.search.matched import DenseMatch, LocalMatch
from pipeline.search.segment import DenseLayer, LocalLayer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

POSTINGS = 1 << 25
"""Postings added at a time: some 50 bytes each, while they are."""

WIDENED = 1e-6
"""Added to a similarity before f in float32: more than t and the similarity lose there."""

SMALLEST_NORM = 1e-12
"""Of a bag that holds anything, and 1 over the largest: nothing over- or underflows in float32."""


@dataclass(frozen=True, eq=False)
class Near:
    """Similarities of some queries with all images of a segment, float32 (Q, n).

    The true one is within `slacks` + `lengths` * `errors` of it.
    """

    values: "Tensor"
    slacks: "Tensor"  # float32 (Q, 1)
    lengths: "Tensor | None" = None  # float32 (Q, 1)
    errors: "Tensor | None" = None  # float32 (n,)

    def highest(self, block: slice) -> "Tensor":
        """Return upper bounds for a block of images, float32 (Q, b), a little widened."""
        values = self.values[:, block] + (self.slacks + WIDENED)
        if self.errors is not None and self.lengths is not None:
            values.addcmul_(self.lengths, self.errors[block])
        return values.clamp_(0.0, 1.0)

    def ends(self, query_of: "Tensor", rows: "Tensor") -> tuple["Tensor", "Tensor"]:
        """Return lower and upper bounds of some pairs, float64 (m,)."""
        values = self.values[query_of, rows].double()
        reach = self.slacks[query_of, 0].double()
        if self.errors is not None and self.lengths is not None:
            reach = reach + self.lengths[query_of, 0].double() * self.errors[rows].double()
        return (values - reach).clamp_(0.0, 1.0), (values + reach).clamp_(0.0, 1.0)


class Vectors:
    """The codes of a dense layer, as bfloat16, which holds a byte exactly."""

    def __init__(self, layer: DenseLayer, device: "torch.device") -> None:
        import torch

        codes = layer.sketch.whole
        lows = codes.lows.astype(np.float64)
        self._codes = _send(codes.codes, device).to(torch.bfloat16)
        self._errors = _send(codes.errors, device)
        self._lows = _send(lows, device)
        self._steps = _send(codes.steps.astype(np.float64), device)
        # No row of lows + codes * steps is longer, nor one of codes * steps.
        furthest = float(codes.errors.max(initial=0.0))
        self._longest = 1.01 + 2.0 * float(np.linalg.norm(lows)) + furthest

    def near(self, match: DenseMatch, group: slice) -> Near:
        """Return the products of some queries with all codes.

        With v a query of unit length, u = lows + codes * steps + e a vector and w = v * steps,
        v.u = v.lows + codes.w + v.e. w is written as two numbers of bfloat16 and what remains, r;
        products of bfloat16 are exact in float32. A sum of D of them is off by at most gamma S,
        as `vocabulary.on_gpu.score_errors` says of tensor cores, with u = 2**-22; S is at most
        |v| |codes * steps|, and codes.r at most |codes| |r|, both by Cauchy and Schwarz.
        """
        import torch

        norms = match.norms[group]
        rows = match.vectors[group] / np.where(norms > 0.0, norms, 1.0)[:, None]
        units = torch.from_numpy(rows).to(self._codes.device)
        weights = units * self._steps
        high = weights.bfloat16()
        low = (weights - high.double()).bfloat16()
        rest = torch.linalg.vector_norm(weights - high.double() - low.double(), dim=1)
        twice = product(torch.cat([high, low]), self._codes)
        lengths = torch.linalg.vector_norm(units, dim=1)
        dimensions = units.shape[1]
        terms = (dimensions + 8) * 2.0**-22
        gamma = 1.02 * terms / (1.0 - terms)
        slacks = lengths * (gamma * self._longest) + rest * (255.0 * dimensions**0.5) + 1e-12
        values = twice[: len(units)].add_(twice[len(units) :])
        values.add_((units @ self._lows).float()[:, None])
        return Near(values, _up(slacks)[:, None], _up(lengths)[:, None], self._errors)


class Words:
    """The posting lists of a local layer, one after the other.

    Raises:
        ValueError: norms of bags are so small or large that float32 does not hold what is added.
    """

    def __init__(self, layer: LocalLayer, device: "torch.device") -> None:
        positive = layer.norms > 0.0
        norms = layer.norms[positive]
        if norms.min(initial=1.0) < SMALLEST_NORM or norms.max(initial=1.0) > 1 / SMALLEST_NORM:
            raise ValueError(
                f"norms of bags are {SMALLEST_NORM:g} to {1 / SMALLEST_NORM:g}; got "
                f"{norms.min():g} to {norms.max():g}"
            )
        counts = layer.postings.counts
        inverse = np.divide(1.0, layer.norms, out=np.zeros(len(layer)), where=positive)
        self._rows = _send(layer.postings.rows.view(np.int32), device)
        self._counts = _send(counts if _narrow(layer) else counts.astype(np.int32), device)
        self._inverse_norms = _send(inverse.astype(np.float32), device)

    def near(self, match: LocalMatch, group: slice) -> Near:
        """Return the cosines of some queries' bags, their posting lists added up.

        No term is negative, so a sum of m terms is off by at most (m - 1) 2**-24 of itself, in any
        order (Higham, equation 4.4 of the 2nd edition); eight more roundings stand for factors,
        counts and norms.
        """
        import torch

        layer, device = match.layer, self._rows.device
        bags = select(match.bags, np.arange(group.start, group.stop))
        norms = match.norms[group]
        weights = layer.weights[bags.words]
        lists = np.diff(bags.offsets)
        inverse = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0.0)
        factors = bags.counts * weights * weights * np.repeat(inverse, lists)
        starts = layer.postings.offsets[bags.words]
        sizes = layer.postings.offsets[bags.words.astype(np.int64) + 1] - starts
        images = len(layer)
        bases = np.repeat(np.arange(len(norms), dtype=np.int64) * images, lists)
        values = torch.zeros(len(norms) * images, device=device)
        for run in _runs(sizes):
            ends = np.cumsum(sizes[run])
            shifts = starts[run] - (ends - sizes[run])
            table = torch.from_numpy(np.stack([sizes[run], shifts, bases[run]])).to(device)
            factor = torch.from_numpy(factors[run].astype(np.float32)).to(device)
            total = int(ends[-1])
            term = torch.repeat_interleave(table[0], output_size=total)
            place = torch.arange(total, device=device).add_(table[1][term])
            added = factor[term].mul_(self._counts[place])
            values.index_add_(0, table[2][term].add_(self._rows[place]), added)
        values = values.view(len(norms), images).mul_(self._inverse_norms)
        slacks = torch.from_numpy((lists + 8) * (1.01 * 2.0**-24) + 1e-12).to(device)
        return Near(values, _up(slacks)[:, None])


def bytes_of(layer: DenseLayer | LocalLayer) -> int:
    """Return what a layer takes on a card."""
    if isinstance(layer, LocalLayer):
        return len(layer.postings.rows) * (5 if _narrow(layer) else 8) + 4 * len(layer)
    return layer.vectors.size * 2 + 4 * len(layer)


def product(left: "Tensor", right: "Tensor") -> "Tensor":
    """Return left @ right.T of bfloat16 in float32."""
    import torch

    if left.device.type == "cuda":
        return torch.mm(left, right.T, out_dtype=torch.float32)
    return left.float() @ right.float().T


def _narrow(layer: LocalLayer) -> bool:
    return bool(layer.postings.counts.dtype == np.uint8)


def _runs(sizes: NDArray[np.int64]) -> Iterator[slice]:
    """Yield runs of posting lists of about `POSTINGS` postings together, none without any."""
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.searchsorted(ends, np.arange(POSTINGS, total, POSTINGS)) + 1
    edges = np.unique(np.concatenate([[0], cuts, [len(sizes)]]))
    for start, stop in pairwise(edges.tolist()):
        if ends[stop - 1] > (ends[start - 1] if start else 0):
            yield slice(start, stop)


def _send(array: NDArray[Any], device: "torch.device") -> "Tensor":
    import torch

    return torch.from_numpy(np.array(array)).to(device)


def _up(values: "Tensor") -> "Tensor":
    """Return float64 as float32, rounded up."""
    import torch

    return torch.nextafter(values.float(), torch.tensor(torch.inf, device=values.device))
