"""The last map at each resolution of a network, found by its structure, not by a list of names."""

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

SHAPE = (2, 3, 256, 384)
"""The input that is tried. It is not square: by its proportion a map is told from other outputs of
four axes, such as pooled ones, attention, and maps with channels last."""


def last_maps(model: "nn.Module") -> tuple[str, ...]:
    """Return the node of the last map at each resolution, from the highest to the lowest.

    Resolutions are told apart by how often the input's was halved. Only what a whole block gives
    counts, since the first convolutions of a block often still have the resolution above. The
    block with the last weights is the classifier, and does not count. A network that takes
    pictures of one shape only gives an empty tuple.

    Args:
        model: at inference, on torch's meta device, so that nothing is computed.
    """
    octaves = _octaves(model)
    if not octaves:
        return ()
    weighted = {
        name for name, module in model.named_modules() if any(True for _ in module.parameters())
    }
    return last_of_each(octaves, next((n for n in reversed(list(octaves)) if n in weighted), None))


def last_of_each(
    octaves: Mapping[str, int | None], classifier: str | None = None
) -> tuple[str, ...]:
    """Return the node of the last map at each resolution, from the highest to the lowest.

    Args:
        octaves: by node, in order, how often the resolution was halved; None if it gives no map.
        classifier: a node of the block at which to stop; None for no such block.
    """
    names = list(octaves)
    blocks = _blocks(octaves)
    after = dict(pairwise(names))
    last: dict[int, str] = {}
    for name in names:
        if classifier is not None and blocks[name] == blocks[classifier]:
            break
        octave = octaves[name]
        if octave is not None and blocks[name] != blocks.get(after.get(name, "")):
            last[octave] = name
    return tuple(last[octave] for octave in sorted(last))


def _octaves(model: "nn.Module") -> dict[str, int | None]:
    """Return by node, in order, how often the resolution was halved; None if it gives no map.

    Empty if the network cannot take this input.
    """
    import torch
    from torch import fx

    from lamella.pipeline.networks.graph import cut, output_names

    names = output_names(model)[1:]  # the first is the input
    extractor = cut(model, names)
    assert isinstance(extractor, fx.GraphModule)
    try:
        outputs = fx.Interpreter(extractor).run(torch.empty(SHAPE, device="meta"))
    except (AssertionError, RuntimeError, ValueError):
        return {}  # its tables of positions have one size
    return {name: _octave(outputs[name]) for name in names}


def _octave(output: object) -> int | None:
    from torch import Tensor

    if not isinstance(output, Tensor) or output.ndim != 4 or len(output) != SHAPE[0]:
        return None
    height, width = output.shape[2:]
    if height >= width or abs(height * SHAPE[3] - width * SHAPE[2]) > SHAPE[3]:
        return None  # off by more than a row
    return round(math.log2(SHAPE[3] / width))


def _blocks(octaves: Mapping[str, int | None]) -> dict[str, str]:
    """Return each node's block: the outermost module where the resolution falls at most once.

    A module that holds several blocks is one of its own.
    """
    seen: dict[str, set[int]] = {}
    before = 0
    for name, octave in octaves.items():
        for module in _path(name):
            seen.setdefault(module, {before})
            if octave is not None:
                seen[module].add(octave)
        before = before if octave is None else octave
    return {name: next((m for m in _path(name) if len(seen[m]) <= 2), name) for name in octaves}


def _path(name: str) -> Iterator[str]:
    """Give the modules that a node lies in, from the outermost, and the node itself."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        yield ".".join(parts[:end])
