"""The folded networks against the published ones, written out plainly."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from PIL import Image
from torch import Tensor

from lamella.pipeline.errors import InputError
from lamella.pipeline.extract.backbone import Backbone
from lamella.pipeline.networks import weights as of_weights
from lamella.pipeline.networks.efficientnet_lite import EfficientNetLite, fold
from lamella.pipeline.networks.graph import cut
from lamella.pipeline.networks.listed import ALIASES, resolve_layer
from lamella.pipeline.networks.weights import LITE0, find_weights, load_state
from tests.pipeline.extract.specs import spec_of

LITE1, LITE2 = "efficientnet_lite1", "efficientnet_lite2"
# Blocks of each stage: Tan and Le 2019, table 1; Lite1 and Lite2 scale all but the first and last.
# 2 * 1.1 and 2 * 1.2 become 3, 3 * 1.1 and 3 * 1.2 become 4, 4 * 1.1 and 4 * 1.2 become 5.
REPEATS = {LITE0: (1, 2, 2, 3, 3, 4, 1), LITE1: (1, 3, 3, 4, 4, 5, 1), LITE2: (1, 3, 3, 4, 4, 5, 1)}
# (kernel, stride of the first, expands) of each stage.
KINDS = (
    *[(3, 1, False), (3, 2, True), (5, 2, True), (3, 2, True)],
    *[(5, 1, True), (5, 2, True), (3, 1, True)],
)
ESPRESSO = 967


def blocks(network: str) -> list[tuple[int, int, bool]]:
    """Return (kernel, stride, expands) of every block."""
    return [
        (kernel, stride if repeat == 0 else 1, expands)
        for repeats, (kernel, stride, expands) in zip(REPEATS[network], KINDS, strict=True)
        for repeat in range(repeats)
    ]


def read(network: str) -> dict[str, Tensor]:
    """Return the published state."""
    reference, path = find_weights(network, None)
    return load_state(path, reference.sha256)


def opened(network: str) -> EfficientNetLite:
    """Return the whole network with its weights."""
    model = EfficientNetLite(network).eval()
    model.load_state_dict(fold(read(network)))
    return model


def same_pad(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Pad as TensorFlow's SAME does: the odd pixel goes to the right and to the bottom."""

    def total(size: int) -> int:
        out = (size + stride - 1) // stride
        return max((out - 1) * stride + kernel - size, 0)

    high, wide = total(x.shape[2]), total(x.shape[3])
    return functional.pad(x, [wide // 2, wide - wide // 2, high // 2, high - high // 2])


def plain(network: str, state: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    """Return outputs of the network as it was published, with its batch norms."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return functional.batch_norm(
            x, mean, variance, state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-3
        )

    found: dict[str, Tensor] = {}
    x = functional.conv2d(same_pad(x, 3, 2), state["_conv_stem.weight"], stride=2)
    x = functional.relu6(norm(x, "_bn0"))
    for number, (kernel, stride, expands) in enumerate(blocks(network)):
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
        found[f"blocks.{number}.project"] = x
        if x.shape == entered.shape:
            x = found[f"blocks.{number}.add"] = x + entered
    x = functional.conv2d(x, state["_conv_head.weight"])
    x = found["head_act"] = functional.relu6(norm(x, "_bn1"))
    pooled = x.mean(dim=(2, 3))
    found["classifier"] = pooled @ state["_fc.weight"].T + state["_fc.bias"]
    return found


@pytest.mark.parametrize(
    ("network", "names", "size"),
    [
        (LITE0, ["b1", "b5", "b11", "p1", "p2", "p10", "p11", "p15", "head"], (64, 96)),
        (LITE0, ["b1", "b5", "b11", "p1", "p2", "p10", "p11", "p15", "head"], (61, 75)),
        (LITE0, ["b1", "b5", "b11", "p1", "p2", "p10", "p11", "p15", "head"], (33, 224)),
        (LITE1, ["b1", "b15", "p3", "p14", "p15", "p20", "head"], (61, 75)),
        (LITE2, ["b1", "b15", "p3", "p14", "p15", "p20", "head"], (61, 75)),
    ],
)
def test_folding_changes_no_layer_beyond_rounding(
    network: str, names: list[str], size: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8, generator=generator)
    layers = [resolve_layer(network, name, kind="local") for name in names]
    spec, weights = spec_of(network, *layers)
    mine = Backbone(spec, weights).forward(pixels.numpy(), "whole")
    expected = plain(network, read(network), (pixels.permute(0, 3, 1, 2).float() - 127) / 128)
    for layer in layers:
        found = mine[layer.node].numpy()
        np.testing.assert_allclose(found, expected[layer.node].numpy(), atol=1e-4, rtol=0)
        assert (found.min() < 0) == layer.name.startswith("p"), layer.name


@pytest.mark.parametrize("network", [LITE0, LITE1, LITE2])
def test_the_whole_network_classifies_as_the_published_one(network: str) -> None:
    x = torch.randn((2, 3, 64, 64), generator=torch.Generator().manual_seed(4))
    model = opened(network)
    with torch.inference_mode():
        logits, one = model(x), model(x[:1])
    expected = plain(network, read(network), x)["classifier"]
    np.testing.assert_allclose(logits.numpy(), expected.numpy(), atol=1e-4)
    np.testing.assert_allclose(
        logits[:1].numpy(), one.numpy(), atol=1e-4
    )  # in a batch of another size


@pytest.mark.parametrize("network", [LITE0, LITE1, LITE2])
def test_a_cup_of_espresso_is_one(network: str) -> None:
    skimage = pytest.importorskip("skimage", reason="the photograph is scikit-image's")
    with Image.open(Path(skimage.__file__).parent / "data/coffee.png") as picture:
        cup = np.asarray(picture.convert("RGB").crop((100, 0, 500, 400)).resize((224, 224)))
    x = (torch.from_numpy(cup.copy()).permute(2, 0, 1)[None].float() - 127) / 128
    with torch.inference_mode():
        likely = opened(network)(x).softmax(1)[0]
    assert int(likely.argmax()) == ESPRESSO
    assert float(likely[ESPRESSO]) > 0.4


@pytest.mark.parametrize("network", [LITE0, LITE1, LITE2])
def test_projected_layers_are_what_a_block_gives(network: str) -> None:
    model = EfficientNetLite(network).eval()
    repeats = REPEATS[network]
    # The first block of a stage changes the number of channels, so only the others add their input.
    firsts = {sum(repeats[:stage]) for stage in range(len(repeats))}
    expected = {
        f"p{n}": f"blocks.{n}.{'project' if n in firsts else 'add'}" for n in range(1, sum(repeats))
    }
    named = {name: each.node for name, each in ALIASES[network].items() if name[0] == "p"}
    assert named == expected
    with torch.inference_mode():
        layers = [resolve_layer(network, name) for name in expected]
        assert {layer.kind for layer in layers} == {"local"}
        x = torch.randn((1, 3, 64, 96), generator=torch.Generator().manual_seed(5))
        found = cut(model, [layer.node for layer in layers])(x)
        x = model.stem_act(model.stem(x))
        for number, block in enumerate(model.blocks):
            x = block(x)
            if number:
                assert torch.equal(found[expected[f"p{number}"]], x), number


def test_projected_layers_have_the_widths_of_the_tables() -> None:
    shapes = {
        network: [
            EfficientNetLite(network).get_submodule(f"blocks.{n}.project").out_channels
            for n in blocks_asked
        ]
        for network, blocks_asked in {LITE0: (10, 15), LITE1: (14, 20), LITE2: (14, 20)}.items()
    }
    # 1.1 * 112 = 123.2, and the nearest multiple of 8 is 120; 1.1 * 320 = 352
    assert shapes == {LITE0: [112, 320], LITE1: [112, 320], LITE2: [120, 352]}


def test_weights_whose_package_is_absent_or_altered_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    absent = ("efficientnet_lite9_pytorch_model", "EfficientnetLite9ModelFile", "0" * 64)
    monkeypatch.setitem(of_weights.LITE_WEIGHTS, LITE1, absent)
    with pytest.raises(InputError, match=r"efficientnet-lite9-pytorch-model, .* 'lamella\[lite\]'"):
        find_weights(LITE1, None)
    module, holder, _ = of_weights.LITE_WEIGHTS[LITE2]
    monkeypatch.setitem(of_weights.LITE_WEIGHTS, LITE2, (module, holder, "0" * 64))
    with pytest.raises(InputError, match="has SHA-256 9656183eaeaf, 000000000000 was published"):
        find_weights(LITE2, None)
