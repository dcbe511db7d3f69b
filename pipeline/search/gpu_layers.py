"""Layers of many images on a GPU, and their similarities to queries with error bounds.

Sums and products are float32 and come with bounds of their error. Segments lie together in slabs,
for a GPU is fast at large operations and slow to start each one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.index.bags import select
from lamella.pipeline.index.sketch import ROUNDING, unit_rows
from lamella.pipeline.search.query_layers import DenseMatch, LocalMatch
from lamella.pipeline.search.segment import DenseLayer, LocalLayer, inverse_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

POSTINGS = 1 << 25
"""Postings added at a time; each takes some 50 bytes meanwhile."""

WIDENED = 1e-6
"""Added to a similarity before f in float32: above the rounding errors of t and the similarity."""

SENT_ROWS = 16_384
"""Vectors sent to the card at a time."""

SMALLEST_NORM = 1e-12
"""The least norm of a non-empty bag, and 1 over the greatest: float32 then holds all sums."""


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


@dataclass(frozen=True, eq=False)
class AskedVectors:
    """Unit queries v as a sum of two bfloat16 vectors, and the length of what is left.

    Attributes:
        both: bfloat16 (2 Q, D).
        lengths: |v|, float32 (Q, 1), rounded up: 1, or 0.
        slacks: float32 (Q, 1).
    """

    both: "Tensor"
    lengths: "Tensor"
    slacks: "Tensor"


def ask_vectors(match: DenseMatch, group: slice, device: "torch.device") -> AskedVectors:
    """Return a group of queries prepared for products with vectors on a GPU.

    Products of bfloat16 are exact in float32. A sum of D of them is off by at most gamma S, as
    `vocabulary.on_gpu.score_errors` says of tensor cores, with u = 2**-22; by Cauchy and Schwarz S
    is at most the product of the lengths; the same bounds what the rest of the query adds.
    """
    import torch

    norms = match.norms[group]
    rows = match.vectors[group] / np.where(norms > 0.0, norms, 1.0)[:, None]
    units = torch.from_numpy(rows).to(device)
    high = units.bfloat16()
    low = (units - high.double()).bfloat16()
    rests = torch.linalg.vector_norm(units - high.double() - low.double(), dim=1)
    lengths = torch.linalg.vector_norm(units, dim=1)
    terms = (units.shape[1] + 8) * 2.0**-22
    slacks = 1.05 * (lengths * (terms / (1.0 - terms)) + rests) + 1e-12
    return AskedVectors(torch.cat([high, low]), _up(lengths)[:, None], _up(slacks)[:, None])


class Vectors:
    """Unit vectors as bfloat16, and the measured rounding error of each."""

    def __init__(self, layers: Sequence[DenseLayer], device: "torch.device") -> None:
        import torch

        images = sum(map(len, layers))
        self._units = torch.empty(
            (images, layers[0].vectors.shape[1]), dtype=torch.bfloat16, device=device
        )
        self._errors = torch.empty(images, device=device)
        at = 0
        for layer in layers:
            for start in range(0, len(layer), SENT_ROWS):
                stop = min(start + SENT_ROWS, len(layer))
                units = _send(unit_rows(layer.vectors[start:stop], layer.norms[start:stop]), device)
                kept = units.bfloat16()
                lost = torch.linalg.vector_norm(units.double() - kept.double(), dim=1)
                self._units[at : at + len(units)] = kept
                self._errors[at : at + len(units)] = _up(lost * 1.001 + ROUNDING)
                at += len(units)

    def near(self, asked: AskedVectors) -> Near:
        """Return the products of queries with all vectors."""
        twice = product(asked.both, self._units)
        count = len(asked.lengths)
        values = twice[:count].add_(twice[count:])
        return Near(values, asked.slacks, asked.lengths, self._errors)


@dataclass(frozen=True, eq=False)
class AskedWords:
    """The words of queries, concatenated.

    Attributes:
        words: int64 (m,).
        query_of: int64 (m,).
        factors: float32 (m,): what each count of the word is multiplied by.
        slacks: float32 (Q, 1).
    """

    words: NDArray[np.int64]
    query_of: NDArray[np.int64]
    factors: NDArray[np.float32]
    slacks: "Tensor"


def ask_words(match: LocalMatch, group: slice, device: "torch.device") -> AskedWords:
    """Return the words of some queries.

    No term is negative, so a sum of m terms is off by at most (m - 1) 2**-24 of itself, in any
    order (Higham, equation 4.4 of the 2nd edition); eight more roundings cover factors, counts and
    norms.
    """
    import torch

    bags = select(match.bags, np.arange(group.start, group.stop))
    norms = match.norms[group]
    weights = match.layer.weights[bags.words]
    lists = np.diff(bags.offsets)
    factors = bags.counts * weights * weights * np.repeat(inverse_of(norms), lists)
    slacks = torch.from_numpy((lists + 8) * (1.01 * 2.0**-24) + 1e-12).to(device)
    return AskedWords(
        words=bags.words.astype(np.int64),
        query_of=np.repeat(np.arange(len(norms), dtype=np.int64), lists),
        factors=factors.astype(np.float32),
        slacks=_up(slacks)[:, None],
    )


class Words:
    """The posting lists of all images of a slab, concatenated.

    Raises:
        ValueError: norms of bags are too small or large for sums in float32, or the layers weight
            words differently.
    """

    def __init__(self, layers: Sequence[LocalLayer], device: "torch.device") -> None:
        import torch

        rows, words, counts, inverse = [], [], [], []
        starts = np.cumsum([0, *map(len, layers)])
        for layer, start in zip(layers, starts.tolist(), strict=False):
            if not np.array_equal(layer.weights, layers[0].weights):
                raise ValueError("words of one layer have one weight in all segments")
            postings = layer.postings
            lists = _send(np.diff(postings.offsets), device)
            words.append(torch.repeat_interleave(lists).to(torch.int32))
            rows.append(_send(postings.rows.view(np.int32), device) + start)
            kept = postings.counts if _narrow(layer) else postings.counts.astype(np.int32)
            counts.append(_send(kept, device))
            inverse.append(_inverse_norms(layer.norms))
        order = torch.sort(torch.cat(words)).indices
        self._rows = torch.cat(rows)[order]
        self._counts = torch.cat(counts)[order]
        self._inverse_norms = _send(np.concatenate(inverse), device)
        self._offsets = np.sum([layer.postings.offsets for layer in layers], axis=0)

    def near(self, asked: AskedWords) -> Near:
        """Return the cosines of queries with all images, summed over posting lists."""
        import torch

        device, images = self._rows.device, len(self._inverse_norms)
        starts = self._offsets[asked.words]
        sizes = self._offsets[asked.words + 1] - starts
        bases = asked.query_of * images
        values = torch.zeros(len(asked.slacks) * images, device=device)
        for run in _runs(sizes):
            ends = np.cumsum(sizes[run])
            shifts = starts[run] - (ends - sizes[run])
            table = torch.from_numpy(np.stack([sizes[run], shifts, bases[run]])).to(device)
            factor = torch.from_numpy(asked.factors[run]).to(device)
            total = int(ends[-1])
            term = torch.repeat_interleave(table[0], output_size=total)
            place = torch.arange(total, device=device).add_(table[1][term])
            added = factor[term].mul_(self._counts[place])
            values.index_add_(0, table[2][term].add_(self._rows[place]), added)
        values = values.view(len(asked.slacks), images).mul_(self._inverse_norms)
        return Near(values, asked.slacks)


def near_to(held: Vectors | Words, asked: AskedVectors | AskedWords) -> Near:
    """Return the similarities of queries with all images, in one layer."""
    if isinstance(held, Vectors):
        assert isinstance(asked, AskedVectors)
        return held.near(asked)
    assert isinstance(asked, AskedWords)
    return held.near(asked)


def bytes_of(layer: DenseLayer | LocalLayer) -> int:
    """Return what a layer takes on a card."""
    if isinstance(layer, LocalLayer):
        return len(layer.postings.rows) * (5 if _narrow(layer) else 8) + 4 * len(layer)
    return layer.vectors.size * 2 + 4 * len(layer)


def _inverse_norms(norms: NDArray[np.float64]) -> NDArray[np.float32]:
    positive = norms > 0.0
    least, most = norms.min(initial=1.0, where=positive), norms.max(initial=1.0, where=positive)
    if least < SMALLEST_NORM or most > 1 / SMALLEST_NORM:
        raise ValueError(
            f"norms of bags are {SMALLEST_NORM:g} to {1 / SMALLEST_NORM:g}; "
            f"got {least:g} to {most:g}"
        )
    return inverse_of(norms).astype(np.float32)


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
