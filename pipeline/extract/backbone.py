"""The network, cut after the last layer kept; one pass a view gives all layers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lamella.pipeline.errors import InputError, UnknownLayer, one_line
from lamella.pipeline.extract.cuda import Lane, answering
from lamella.pipeline.extract.determinism import DTYPES, fixed_arithmetic
from lamella.pipeline.extract.halves import HALVES, check_half
from lamella.pipeline.extract.jpegs import Jpeg, check_decoder, decode_jpegs
from lamella.pipeline.names import known_names, shown
from lamella.pipeline.networks.efficientnet_lite import fold
from lamella.pipeline.networks.exported import Program
from lamella.pipeline.networks.find import opened
from lamella.pipeline.networks.graph import cut, turns
from lamella.pipeline.networks.hooks import Hooked
from lamella.pipeline.networks.listed import build, node_names
from lamella.pipeline.networks.lite_layout import SCALES
from lamella.pipeline.networks.providers import foreign
from lamella.pipeline.networks.weights import load_state
from lamella.schemas.extraction import ExtractionSpec, LayerSpec, View

MAKERS = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
"""Modules whose output is new memory."""


class Backbone:
    """A network, opened once in a worker; layers of one view share a pass."""

    def __init__(self, spec: ExtractionSpec, weights: Path, device: str = "cpu") -> None:
        """Open a network with its weights on a device.

        Raises:
            InputError: the weights do not fit, or a CPU does not compute the precision rightly.
        """
        if torch.device(device).type == "cpu":
            check_half(spec.precision)
        self.spec = spec
        self._dtype = DTYPES[spec.precision]
        self._reversed = spec.preprocess.channel_order == "bgr"
        self._by_view: dict[View, Callable[[Tensor], Mapping[str, Tensor]]] = {}
        if spec.preprocess.rgb_recipe == "torch-1":
            check_decoder()
        other = foreign(spec.network, weights)
        model = _load(spec, weights) if other is None else opened(other, weights, spec.weights)
        plain = other is not None and not other.channels_last
        self._layout = torch.contiguous_format if plain else torch.channels_last
        with answering(torch.device(device)):
            self.device = torch.empty(0, device=device).device  # with its number
            self.lane = Lane(self.device)
            if other is not None:
                self._place(model)
            for view, nodes in _nodes_by_view(spec).items():
                if other is None:
                    self._by_view[view] = self._cut(model, nodes)
                else:
                    self._by_view[view] = (Program if other.program else Hooked)(model, nodes)
            if other is None:
                _overwrite_what_is_read_once(self._by_view.values())
            self._mean = torch.tensor(spec.preprocess.mean, device=self.device)[:, None, None]
            self._std = torch.tensor(spec.preprocess.std, device=self.device)[:, None, None]
            self.lane.settle()

    @property
    def views(self) -> tuple[View, ...]:
        """The views that the layers need, in the order of the layers."""
        return tuple(self._by_view)

    def decode(self, jpegs: Sequence[Jpeg]) -> list[list[Tensor] | None]:
        """Return `jpegs.decode_jpegs`, run beside the passes under way.

        Raises:
            CardLost: the card no longer answers.
            InputError: it has too little memory.
        """
        with answering(self.device), self.lane.decoding():
            return decode_jpegs(jpegs, self.device)

    def forward(self, pixels: NDArray[np.uint8] | Tensor, view: View) -> Mapping[str, Tensor]:
        """Return the outputs of a view's nodes for a full batch.

        Args:
            pixels: (batch_size, h, w, 3) uint8 RGB, here or on the device.

        Returns:
            by node what it gives, in the type of the precision; `placed` makes maps and vectors of
            it.

        Raises:
            InputError: PyTorch cannot compute a part of the network in half precision.
        """
        with torch.inference_mode(), fixed_arithmetic(self.device, self.spec.precision):
            x = torch.as_tensor(pixels, device=self.device).permute(0, 3, 1, 2)
            if self._reversed:
                x = x.flip(1)
            x = (x - self._mean).div_(self._std)
            x = x.to(self._dtype).contiguous(memory_format=self._layout)
            with turns.passing():
                try:
                    return self._by_view[view](x)
                except NotImplementedError as error:
                    if self.spec.precision not in HALVES:
                        raise
                    raise InputError(_not_in_half(self.spec, self.device, error)) from error

    def _cut(self, model: nn.Module, nodes: Sequence[str]) -> nn.Module:
        extractor: Any = cut(model, nodes)  # as torch's own types know no call with all of these
        absent = [name for name, tensor in extractor.named_parameters() if tensor.is_meta]
        absent += [name for name, tensor in extractor.named_buffers() if tensor.is_meta]
        absent = [name for name in absent if not name.endswith("num_batches_tracked")]
        if absent:
            raise InputError(
                f"weights {self.spec.weights.name} lack {absent[0]} and {len(absent) - 1} more, "
                f"which {', '.join(nodes)} of {self.spec.network} need: choose lower layers or "
                "other weights"
            )
        for name, tensor in extractor.named_buffers():
            if tensor.is_meta:  # counts of training batches, unused at inference
                owner, _, last = name.rpartition(".")
                setattr(extractor.get_submodule(owner), last, torch.zeros(()))
        return self._place(extractor)

    def _place(self, model: nn.Module) -> nn.Module:
        """Move a network to the device, in the type of the precision."""
        module: Any = model  # as torch's own types know no call with all of these
        module.to(self.device, self._dtype, memory_format=self._layout)
        return model.requires_grad_(False)


def _not_in_half(spec: ExtractionSpec, device: torch.device, error: Exception) -> str:
    return (
        f"{spec.network} does not run in {spec.precision} on this {device.type} "
        f'({one_line(error, 200)}): set network.precision = "float32", or take another network'
    )


def _nodes_by_view(spec: ExtractionSpec) -> dict[View, list[str]]:
    """Return the nodes that a pass of each view gives, in the order of the layers."""
    found: dict[View, list[str]] = {}
    for layer in spec.computed:
        nodes = found.setdefault(layer.view, [])
        if layer.node not in nodes:
            nodes.append(layer.node)
    return found


def placed(output: Tensor, layer: LayerSpec, shape: Sequence[int]) -> Tensor:
    """Return what a layer's node gave as a map (B, C, H, W) or vectors (B, D).

    Of tokens, a local or pooled layer has the patches at their places, without class token and
    registers; pool "class" has the class token.

    Args:
        shape: height and width of the network's input.

    Raises:
        ValueError: there are not as many tokens as patches.
    """
    if layer.channels_last:
        return output.permute(0, 3, 1, 2)
    if layer.tokens is None:
        return output
    prefix, patch = layer.tokens.prefix, layer.tokens.patch
    rows, columns = shape[0] // patch, shape[1] // patch
    if output.shape[1] != prefix + rows * columns:
        raise ValueError(
            f"layer {layer.name} gave {output.shape[1]} tokens for {shape[0]} x {shape[1]} pixels, "
            f"which have {rows} x {columns} patches and {prefix} tokens before them"
        )
    if layer.pool == "class":
        return output[:, 0]
    patches = output[:, prefix:].transpose(1, 2)
    return patches.reshape(*patches.shape[:2], rows, columns)


def _overwrite_what_is_read_once(extractors: Iterable[Any]) -> None:
    """Let activation functions work in place behind layers whose output nothing else reads.

    The bits stay the same, and less memory is touched: 3 % of a pass of EfficientNet-Lite0 on a
    CPU, 1 % of VGG-16. `build` has switched it off everywhere, as it would change what is kept of a
    layer.
    """
    allowed: dict[Any, bool] = {}  # by module: one may be called more than once
    extractor: Any
    for extractor in extractors:
        modules: dict[object, nn.Module] = dict(extractor.named_modules())
        calls = [node for node in extractor.graph.nodes if node.op == "call_module"]
        made = {node for node in calls if isinstance(modules[node.target], MAKERS)}
        for node in calls:
            once = all(each in made and len(each.users) == 1 for each in node.all_input_nodes)
            allowed[modules[node.target]] = allowed.get(modules[node.target], True) and once
    for module, once in allowed.items():
        if hasattr(module, "inplace"):
            module.inplace = once


def _load(spec: ExtractionSpec, weights: Path) -> nn.Module:
    model = build(spec.network).eval()
    nodes = node_names(spec.network)
    if unknown := [layer.node for layer in spec.layers if layer.node not in nodes]:
        has = known_names(unknown[0], nodes)
        raise UnknownLayer(f"{spec.network} has no node {shown(unknown[0])}: it has {has}")
    state = load_state(weights, spec.weights.sha256)
    try:
        if spec.network in SCALES and spec.weights.source == "package":
            state = fold(state)
        found = model.load_state_dict(state, strict=False, assign=True)
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"weights {spec.weights.name} do not fit {spec.network}: {reason}"
        ) from error
    if found.unexpected_keys:
        raise InputError(
            f"weights {spec.weights.name} hold {found.unexpected_keys[0]}, which {spec.network} "
            "does not have: they belong to another network"
        )
    return model
