"""The last map at each resolution, against what torchvision's sources say of the networks."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lamella.pipeline.networks.graph import cut
from lamella.pipeline.networks.listed import build
from lamella.pipeline.networks.resolutions import last_maps


@pytest.mark.parametrize(
    ("network", "modules", "channels", "strides"),
    [
        (
            "resnet18",
            ["relu", "layer1", "layer2", "layer3", "layer4"],
            [64, 64, 128, 256, 512],
            [2, 4, 8, 16, 32],
        ),
        # the stem halves twice at once, and features.2, 4 and 6 only shrink
        (
            "convnext_tiny",
            ["features.1", "features.3", "features.5", "features.7"],
            [96, 192, 384, 768],
            [4, 8, 16, 32],
        ),
        # strides of 2 are in the stem and in blocks 1, 2, 4 and 9; features.12 is a convolution
        (
            "mobilenet_v3_small",
            ["features.0", "features.1", "features.3", "features.8", "features.12"],
            [16, 16, 24, 48, 576],
            [2, 4, 8, 16, 32],
        ),
        (
            "efficientnet_b0",
            ["features.1", "features.2", "features.3", "features.5", "features.8"],
            [16, 24, 40, 112, 1280],
            [2, 4, 8, 16, 32],
        ),
        (
            "regnet_y_400mf",
            ["stem", *(f"trunk_output.block{n}" for n in (1, 2, 3, 4))],
            [32, 48, 104, 208, 440],
            [2, 4, 8, 16, 32],
        ),
    ],
)
def test_maps_are_what_the_last_module_of_each_resolution_gives(
    network: str, modules: list[str], channels: list[int], strides: list[int]
) -> None:
    torch.manual_seed(0)
    model = build(network).eval()
    nodes = last_maps(model)
    model = randomised(model)
    given: dict[str, Tensor] = {}
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        found = cut(model, nodes)(x)
        for name in modules:
            model.get_submodule(name).register_forward_hook(keeping(given, name))
        model(x)
    assert len(nodes) == len(modules)
    for node, name, width, stride in zip(nodes, modules, channels, strides, strict=True):
        assert torch.equal(found[node], given[name]), (node, name)
        assert found[node].shape == (1, width, 64 // stride, 96 // stride)


def randomised(model: nn.Module) -> nn.Module:
    """Return the network with small random weights instead of none."""
    model = model.to_empty(device="cpu")
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.normal_(std=0.1).abs_() if name.endswith("running_var") else tensor.normal_(
                std=0.1
            )
    return model


def keeping(
    given: dict[str, Tensor], name: str
) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    """Return a hook that keeps what a module gives, the first time that it is called."""

    def keep(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        given.setdefault(name, output)

    return keep


def test_dense_blocks_end_in_what_they_concatenate() -> None:
    blocks = [f"features.denseblock{n}.cat" for n in (1, 2, 3)]
    assert last_maps(build("densenet121").eval()) == ("features.relu0", *blocks, "relu")


def test_a_classifier_of_convolutions_is_no_map() -> None:
    # 13 x 13 maps of 1,000 classes come after features.12, and before the pooling.
    assert last_maps(build("squeezenet1_1").eval())[-1] == "features.12.cat"


def test_maps_with_channels_last_and_attention_are_none() -> None:
    assert last_maps(build("swin_t").eval()) == ("permute",)


@pytest.mark.parametrize("network", ["vit_b_16", pytest.param("maxvit_t", marks=pytest.mark.slow)])
def test_a_network_that_takes_one_shape_has_none(network: str) -> None:
    assert last_maps(build(network).eval()) == ()
