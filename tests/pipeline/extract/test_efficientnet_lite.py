"""The folded network against the published one, written out plainly."""

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor

from lamella.pipeline.extract.backbone import Backbone
from lamella.pipeline.extract.efficientnet_lite import EfficientNetLite0, fold
from lamella.pipeline.extract.networks import LITE0, find_weights, load_state, resolve_layer
from tests.pipeline.extract.specs import spec_of

# (kernel, stride, expands) of the 16 blocks: Tan and Le 2019, table 1; Lite keeps all 16.
BLOCKS = [
    (3, 1, False),
    *[(3, 2, True), (3, 1, True)],
    *[(5, 2, True), (5, 1, True)],
    *[(3, 2, True), (3, 1, True), (3, 1, True)],
    *[(5, 1, True), (5, 1, True), (5, 1, True)],
    *[(5, 2, True), (5, 1, True), (5, 1, True), (5, 1, True)],
    (3, 1, True),
]


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    reference, path = find_weights(LITE0, None)
    return load_state(path, reference.sha256)


def same_pad(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Pad as TensorFlow's SAME does: the odd pixel goes to the right and to the bottom."""

    def total(size: int) -> int:
        out = (size + stride - 1) // stride
        return max((out - 1) * stride + kernel - size, 0)

    high, wide = total(x.shape[2]), total(x.shape[3])
    return functional.pad(x, [wide // 2, wide - wide // 2, high // 2, high - high // 2])


def plain(state: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    """Return outputs of the network as it was published, with its batch norms."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return functional.batch_norm(
            x, mean, variance, state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-3
        )

    found: dict[str, Tensor] = {}
    x = functional.conv2d(same_pad(x, 3, 2), state["_conv_stem.weight"], stride=2)
    x = functional.relu6(norm(x, "_bn0"))
    for number, (kernel, stride, expands) in enumerate(BLOCKS):
        block, entered = f"_blocks.{number}", x
        if expands:
            x = functional.conv2d(x, state[f"{block}._expand_conv.weight"])
            x = found[f"blocks.{number}.expanded"] = functional.relu6(norm(x, f"{block}._bn0"))
        weight = state[f"{block}._depthwise_conv.weight"]
        x = functional.conv2d(
            same_pad(x, kernel, stride), weight, stride=stride, groups=len(weight)
        )
        x = functional.relu6(norm(x, f"{block}._bn1"))
        x = norm(functional.conv2d(x, state[f"{block}._project_conv.weight"]), f"{block}._bn2")
        if x.shape == entered.shape:
            x = x + entered
    x = functional.conv2d(x, state["_conv_head.weight"])
    x = found["head_act"] = functional.relu6(norm(x, "_bn1"))
    pooled = x.mean(dim=(2, 3))
    found["classifier"] = pooled @ state["_fc.weight"].T + state["_fc.bias"]
    return found


@pytest.mark.parametrize("size", [(64, 96), (61, 75), (33, 224)])
def test_folding_changes_no_output_beyond_rounding(
    published: dict[str, Tensor], size: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8, generator=generator)
    nodes = ["blocks.1.expanded", "blocks.5.expanded", "blocks.11.expanded", "head_act"]
    layers = [resolve_layer(LITE0, "l" + node, node=node, kind="local") for node in nodes]
    spec, weights = spec_of(LITE0, *layers)
    mine = Backbone(spec, weights).forward(pixels.numpy(), "whole")
    expected = plain(published, (pixels.permute(0, 3, 1, 2).float() - 127) / 128)
    for node in nodes:
        np.testing.assert_allclose(mine[node].numpy(), expected[node].numpy(), atol=1e-4, rtol=0)


def test_the_whole_network_classifies_as_the_published_one(published: dict[str, Tensor]) -> None:
    x = torch.randn((2, 3, 64, 64), generator=torch.Generator().manual_seed(4))
    network = EfficientNetLite0().eval()
    network.load_state_dict(fold(published))
    with torch.inference_mode():
        logits = network(x)
    np.testing.assert_allclose(logits.numpy(), plain(published, x)["classifier"].numpy(), atol=1e-4)
