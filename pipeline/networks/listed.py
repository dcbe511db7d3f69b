"""The networks that are listed here, torchvision's and EfficientNet-Lite, and their layers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from lamella.pipeline.errors import InputError, UnknownLayer
from lamella.pipeline.names import known_names, meant, shown
from lamella.pipeline.networks.lite_layout import SCALES, block_shapes
from lamella.pipeline.networks.torchvision_names import TORCHVISION
from lamella.schemas.extraction import LayerKind, LayerSpec, Pool, PreprocessSpec, View

if TYPE_CHECKING:
    from torch import nn

IMAGENET = PreprocessSpec()
LITE_PREPROCESS = PreprocessSpec(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))


@dataclass(frozen=True)
class Alias:
    """A short name for a node, and its default use."""

    node: str
    kind: LayerKind
    pool: Pool = "none"
    view: View = "whole"


def _paper_aliases(conv: dict[str, int], fc: dict[str, int]) -> dict[str, Alias]:
    """Name the outputs after ReLU as the paper does; fc layers see the centre crop."""
    local = {name: Alias(f"features.{index}", "local") for name, index in conv.items()}
    high = {name: Alias(f"classifier.{i}", "global", view="crop") for name, i in fc.items()}
    return high | local


def _lite_aliases(network: str) -> dict[str, Alias]:
    """Name the head and two outputs of each block that expands: bN wide, pN narrow."""
    blocks = [(n, shape) for n, shape in enumerate(block_shapes(network)) if shape.expansion > 1]
    return {
        # The layer below the classifier: the head averaged over positions.
        "head": Alias("head_act", "global", "average"),
        # Expanded, after ReLU6: not negative, six times as wide as what the block takes.
        **{f"b{n}": Alias(f"blocks.{n}.expanded", "local") for n, _ in blocks},
        # What the block gives: projected, and added to its input where shapes agree. Signed.
        **{f"p{n}": Alias(f"blocks.{n}.{shape.output}", "local") for n, shape in blocks},
    }


ALIASES: dict[str, dict[str, Alias]] = {
    **{network: _lite_aliases(network) for network in SCALES},
    "alexnet": _paper_aliases(
        {"conv1": 1, "conv2": 4, "conv3": 7, "conv4": 9, "conv5": 11}, {"fc1": 2, "fc2": 5}
    ),
    "vgg16": _paper_aliases(
        {"c1_1": 1, "c1_2": 3, "c2_1": 6, "c2_2": 8, "c3_1": 11, "c3_2": 13, "c3_3": 15}
        | {"c4_1": 18, "c4_2": 20, "c4_3": 22, "c5_1": 25, "c5_2": 27, "c5_3": 29},
        {"fc1": 1, "fc2": 4},
    ),
}
NETWORKS = (*SCALES, *TORCHVISION)
DEFAULT_LAYERS = {"alexnet": ("fc2", "conv4"), "vgg16": ("fc1", "c5_1")}


def network_meant(given: str) -> str:
    """Return the network that a name means, whatever its case; an unknown name as it is."""
    return meant(given, NETWORKS) or given


def check_network(network: str) -> None:
    """Check that there is a network of this name.

    Raises:
        InputError: there is none; the message names the nearest.
    """
    if network in ALIASES:
        return
    import torchvision  # may be another version than that of our list

    known = [*SCALES, *torchvision.models.list_models(module=torchvision.models)]
    if network not in known:
        raise InputError(
            f"there is no network {shown(network)}: there are {known_names(network, known)}; "
            "others are timm:NAME, open_clip:NAME, transformers:NAME, package.module:factory"
        )


def layer_meant(network: str, given: str) -> str:
    """Return the short name of a layer, whatever its case; the name of a node as it is."""
    return meant(given, ALIASES.get(network, {})) or given


def default_preprocess(network: str) -> PreprocessSpec:
    """Return the recipe that a network's own weights were trained with."""
    return LITE_PREPROCESS if network in SCALES else IMAGENET


def default_layers(network: str) -> tuple[str, ...]:
    """Return the layers used when none are named, from high to low.

    For a network of torchvision that `DEFAULT_LAYERS` lacks these are the last map, once pooled and
    once by position; it is traced to find it.

    Raises:
        InputError: the network has no maps, or none for pictures of every shape; or is unknown.
    """
    if network in DEFAULT_LAYERS:
        return DEFAULT_LAYERS[network]
    if network in SCALES:
        return "head", f"p{len(block_shapes(network)) - 1}"
    names = list(short_names(network))
    if not names:
        raise InputError(
            f"network {network} has no default layers, as it has no maps for pictures of every "
            "shape: name some of its nodes with --layers"
        )
    return names[0], names[-1]


def short_names(network: str) -> Mapping[str, Alias]:
    """Return the short names of a network's layers: those listed, or found by tracing it.

    A network of torchvision that `ALIASES` lacks has `s1` to `sN`, the last map at each resolution,
    and `pool`, the last of them averaged over positions. It may have none. Tracing takes seconds.

    Raises:
        InputError: there is no network of that name.
    """
    return ALIASES[network] if network in ALIASES else _traced_aliases(network)


@cache
def _traced_aliases(network: str) -> Mapping[str, Alias]:
    from lamella.pipeline.networks.resolutions import last_maps

    maps = last_maps(build(network).eval())
    high = {"pool": Alias(maps[-1], "global", "average")} if maps else {}
    return high | {f"s{n}": Alias(node, "local") for n, node in enumerate(maps, 1)}


def resolve_layer(
    network: str,
    name: str,
    *,
    node: str | None = None,
    kind: LayerKind | None = None,
    pool: Pool | None = None,
    gem_power: float = 3.0,
    view: View | None = None,
) -> LayerSpec:
    """Return a layer's full spec from a short name or a node, with defaults filled in.

    Raises:
        UnknownLayer: the network has no such node; says which exist.
    """
    wanted = node or name
    alias = ALIASES.get(network, {}).get(wanted)
    if alias is None and network not in ALIASES and re.fullmatch(r"pool|s\d+", wanted):
        alias = short_names(network).get(wanted)
    if alias is None:
        nodes = node_names(network)
        if wanted not in nodes:
            short = short_names(network)
            has = known_names(wanted, [*short, *(node for node in nodes if node not in short)])
            raise UnknownLayer(f"{network} has no layer {shown(wanted)}: it has {has}")
        alias = Alias(wanted, kind or "global")
    kind = kind or alias.kind
    if pool is None:
        pool = alias.pool if kind == alias.kind else "none"
        if kind == "global" and alias.kind == "local":
            pool = "average"
    return LayerSpec(
        name=name,
        node=alias.node,
        kind=kind,
        pool=pool,
        gem_power=gem_power,
        view=view or alias.view,
    )


def build(network: str) -> "nn.Module":
    """Return a network without weights (on torch's meta device).

    Raises:
        InputError: there is no network of that name.
    """
    import torch

    from lamella.pipeline.networks.efficientnet_lite import EfficientNetLite

    if network in SCALES:
        with torch.device("meta"):
            return EfficientNetLite(network)
    check_network(network)
    import torchvision  # seconds in each process, for its own networks only

    model: nn.Module
    try:
        with torch.device("meta"):
            model = torchvision.models.get_model(network, weights=None)
    except NotImplementedError:  # RegNets compute their widths with tensors
        model = torchvision.models.get_model(network, weights=None).to("meta")
    for module in model.modules():
        # An in-place activation would change the output that a layer below it kept.
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment]
    return model


def node_names(network: str) -> list[str]:
    """Return the names of a network's outputs at inference, in order."""
    from lamella.pipeline.networks.graph import output_names

    return output_names(build(network).eval())
