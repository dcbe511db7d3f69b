"""Short names of the layers of a network from elsewhere, by the structure that a look found."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from lamella.pipeline.networks.foreign import Foreign
from lamella.pipeline.networks.listed import Alias
from lamella.pipeline.networks.nodes import OUTPUT
from lamella.pipeline.networks.resolutions import last_of_each
from lamella.pipeline.networks.survey import Output, Survey
from lamella.schemas.extraction import View

_NUMBERED = re.compile(r"(?:(.*)\.)?(\d+)(?:\[0\])?")
_WEIGHING = ("Linear", "Conv2d", "MultiheadAttention")
"""Modules behind the last norm of a transformer that make an embedding out of its tokens."""


@dataclass(frozen=True)
class Names:
    """Short names of layers, and those that are used by default, from high to low."""

    aliases: Mapping[str, Alias]
    usual: tuple[str, ...]


def view_of(network: Foreign, seen: Survey) -> View:
    """Return the view of its layers: the whole picture, where the network takes any shape."""
    if seen.step is not None:
        return "whole"
    return "warp" if network.recipe.squash else "crop"


def names_of(network: Foreign, seen: Survey) -> Names:
    """Return the short names of a network's layers and its usual ones.

    A transformer of one resolution has `cls`, `avg`, `patches` and `b0` to `bN`; any other network
    `pool` and `s1` to `sN`. Where the network makes an embedding of its own, that is `output`.
    """
    view = view_of(network, seen)
    own = _own_vector(seen)
    grids = {each.grid for each in seen.outputs.values() if each.tokens is not None}
    blocks = _blocks(seen) if len(grids) == 1 else []
    if blocks:
        return _of_transformer(network, seen, blocks, own, view)
    return _of_pyramid(network, seen, own, view)


def _own_vector(seen: Survey) -> Output | None:
    """Return the vector that the network itself returns, or the first one in what it returns."""
    returned = seen.outputs[OUTPUT]
    among = [returned, *(seen.outputs[part] for part in returned.parts)]
    return next((each for each in among if each.kind == "vector"), None)


def _blocks(seen: Survey) -> list[Output]:
    """Return the blocks of a transformer: most numbered modules side by side that give tokens."""
    side_by_side: dict[tuple[object, ...], list[Output]] = {}
    for each in seen.outputs.values():
        found = _NUMBERED.fullmatch(each.node)
        if each.tokens is not None and each.calls == 1 and found is not None:
            side_by_side.setdefault((found[1], each.shape), []).append(each)
    blocks = max(side_by_side.values(), key=len, default=[])
    return blocks if len(blocks) > 1 else []


def _of_transformer(
    network: Foreign, seen: Survey, blocks: list[Output], own: Output | None, view: View
) -> Names:
    nodes = list(seen.outputs)
    after = [seen.outputs[node] for node in nodes[nodes.index(blocks[-1].node) + 1 :]]
    container = _NUMBERED.fullmatch(blocks[-1].node)
    above = (container[1] or "") if container is not None else ""
    behind = [one for one in after if one.node != OUTPUT and not _contains(one.node, above)]
    last = next((one for one in behind if _alike(one, blocks[-1])), blocks[-1])
    rest = behind[behind.index(last) + 1 :] if last in behind else behind
    tokens = last.tokens
    assert tokens is not None
    aliases: dict[str, Alias] = {}
    if own is not None and network.pools:
        aliases[OUTPUT] = Alias(own.node, "global", view=view)
    has_class = seen.class_token and tokens.prefix > 0
    if has_class:
        aliases["cls"] = Alias(last.node, "global", "class", view)
    aliases["avg"] = Alias(last.node, "global", "average", view)
    aliases["patches"] = Alias(last.node, "local", view=view)
    aliases |= {
        f"b{number}": Alias(block.node, "local", view=view) for number, block in enumerate(blocks)
    }
    made = network.projects or (
        network.pools
        and own is not None
        and (own.shape[1] != last.shape[2] or any(one.type in _WEIGHING for one in rest))
    )
    if made and OUTPUT in aliases:
        return Names(aliases, (OUTPUT, f"b{max(len(blocks) - 2, 0)}"))
    high = "cls" if has_class else OUTPUT if OUTPUT in aliases else "avg"
    return Names(aliases, (high, "patches"))


def _contains(node: str, above: str) -> bool:
    """Say whether a node is one that the blocks lie in, such as `encoder` of `encoder.layer`."""
    plain = node.partition("[")[0]
    return above == plain or above.startswith(f"{plain}.")


def _alike(one: Output, block: Output) -> bool:
    return one.calls == 1 and one.tokens == block.tokens and one.shape == block.shape


def _of_pyramid(network: Foreign, seen: Survey, own: Output | None, view: View) -> Names:
    octaves = {
        node: _octave(each, seen.edge)
        for node, each in seen.outputs.items()
        if each.calls == 1 and node != OUTPUT and not node.startswith(f"{OUTPUT}[")
    }
    maps = last_of_each(octaves)
    aliases: dict[str, Alias] = {}
    usual: list[str] = []
    if own is not None and (network.pools or not maps):
        high = OUTPUT if network.projects or not maps else "pool"
        aliases[high] = Alias(own.node, "global", view=view)
        usual.append(high)
    elif maps:
        aliases["pool"] = Alias(maps[-1], "global", "average", view)
        usual.append("pool")
    aliases |= {f"s{n}": Alias(node, "local", view=view) for n, node in enumerate(maps, 1)}
    if maps:
        usual.append(f"s{len(maps)}")
    return Names(aliases, tuple(usual))


def _octave(output: Output, edge: int) -> int | None:
    """Return how often the resolution was halved; None of what has no positions, or all pixels."""
    if output.grid is None or (output.tokens is not None and output.tokens.prefix):
        return None
    return round(math.log2(edge / output.grid[0])) or None
