"""The networks that are reproduced: their layers, and which of them the weights at hand have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamella.pipeline.errors import InputError
from lamella.pipeline.networks.listed import check_network, resolve_layer
from lamella.pipeline.networks.lite_layout import SCALES
from lamella.pipeline.networks.weights import find_weights, load_state, weights_at_hand
from lamella.pipeline.reproduce import paper

OTHERS = {"efficientnet_lite0": ("head", "b11", "b5")}
"""Networks that the paper does not have, and their layers after ReLU, from high to low."""

NETWORKS = (*paper.LAYERS, *OTHERS)

CAFFE = {"channel_order": "bgr", "mean": (103.939, 116.779, 123.68), "std": (1.0, 1.0, 1.0)}
"""How pictures are shown to weights of Caffe, as VGG-16 was released."""


@dataclass(frozen=True)
class NetworkHere:
    """A network, and what its weights on this machine allow.

    Attributes:
        weights: the file; None where there is none.
        layers: those that can be run, from high to low.
        lacking: those that cannot, because the file has no weights for them.
        caffe: whether pictures are shown as Caffe's weights want them.
        said: whether the user named the file.
    """

    name: str
    weights: Path | None
    layers: tuple[str, ...]
    lacking: tuple[str, ...]
    caffe: bool = False
    said: bool = False

    @property
    def in_paper(self) -> bool:
        """Whether the paper has figures of it."""
        return self.name in paper.LAYERS

    def settings(self) -> dict[str, Any]:
        """Return the table `network` of a job."""
        found: dict[str, Any] = {"name": self.name, "layers": list(self.layers)}
        if self.weights is not None and self.name not in SCALES:
            found["weights"] = str(self.weights)
        return found | ({"preprocess": CAFFE} if self.caffe else {})


def layers_of(network: str) -> tuple[str, ...]:
    """Return the layers of a network that are reproduced, from high to low."""
    return paper.LAYERS.get(network) or OTHERS[network]


def weights_given(given: Sequence[str], networks: Sequence[str]) -> dict[str, Path]:
    """Return the files of `--weights NAME=FILE`; a file alone is that of the only network.

    Raises:
        InputError: a network is not among those asked for, or several are and none is named.
    """
    found: dict[str, Path] = {}
    for text in given:
        name, equals, file = text.partition("=")
        if not equals:
            name, file = networks[0], text
            if len(networks) != 1:
                raise InputError(
                    f"--weights takes NETWORK=FILE where there are several networks; got {text}"
                )
        if name not in networks:
            raise InputError(
                f"--weights is for one of {', '.join(networks)}; got {name}={file}: name its "
                "network with --network"
            )
        found[name] = Path(file)
    return found


def network_here(name: str, file: Path | None, *, caffe: bool = False) -> NetworkHere:
    """Return a network, and which of its layers can be run here. Nothing is downloaded.

    Args:
        file: of weights, as the user said; else those that are installed or were downloaded.
        caffe: whether a file of VGG-16 or AlexNet is Caffe's.

    Raises:
        InputError: there is no such file, or it holds no weights of the network.
    """
    check_network(name)
    layers = layers_of(name)
    place = file if file is not None else weights_at_hand(name)
    if place is None:
        return NetworkHere(name, None, (), layers)
    reference, path = find_weights(name, place)
    if name in SCALES:
        return NetworkHere(name, path, layers, (), said=file is not None)
    held = {key.partition(".")[0] for key in load_state(path, reference.sha256)}
    runs = tuple(each for each in layers if _part(name, each) in held)
    if not runs:
        raise InputError(
            f"{path.name} holds no weights of {name}: its tensors are of "
            f"{', '.join(sorted(held)) or 'nothing'}, {name} has features and classifier"
        )
    lacking = tuple(each for each in layers if each not in runs)
    return NetworkHere(name, path, runs, lacking, caffe and name in paper.LAYERS, file is not None)


def _part(network: str, layer: str) -> str:
    """Return the part of a network that a layer is in: features or classifier."""
    return resolve_layer(network, layer).node.partition(".")[0]


def is_global(network: str, layer: str) -> bool:
    """Say whether a layer is one vector a picture, such as a fully connected one."""
    return resolve_layer(network, layer).kind == "global"


def plain_layers(networks: Sequence[NetworkHere]) -> Mapping[str, tuple[str, ...]]:
    """Return the layers that run, by network."""
    return {each.name: each.layers for each in networks if each.layers}
