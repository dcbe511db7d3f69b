"""Layers of networks from elsewhere: where tokens are, and what can be no layer."""

from typing import Any

import numpy as np
import pytest
import torch

from lamella.pipeline.errors import InputError, UnknownLayer
from lamella.pipeline.extract.backbone import Backbone
from lamella.pipeline.extract.descriptors import local_descriptors, pooled
from tests.pipeline.networks.nets import HERE, found, given, pixels, small, spec_of

pytest.importorskip("timm", reason="timm is not installed")
VIT = f"{HERE}:vit"


@pytest.mark.parametrize(("factory", "prefix"), [("vit", 1), ("registers", 5)])
def test_the_token_of_a_bright_patch_is_where_the_patch_is(factory: str, prefix: int) -> None:
    layers = ["patches", "cls", "b0"]
    spec, weights = spec_of(f"{HERE}:{factory}", layers=layers, **small(64))
    assert {each.tokens and each.tokens.prefix for each in spec.layers} == {prefix}
    backbone = Backbone(spec, weights)
    dark = np.zeros((2, 64, 160, 3), np.uint8)
    bright = dark.copy()
    bright[1, 16:32, 112:128] = 255  # the patch of row 1, column 7
    before, after = (given(backbone, each, "whole") for each in (dark, bright))
    assert after["patches"].shape == (2, 64, 4, 10)
    assert after["cls"].shape == (2, 64)
    for name in ("patches", "b0"):
        moved = (after[name] - before[name]).norm(dim=1)
        assert not moved[0].any()
        assert divmod(int(moved[1].argmax()), 10) == (1, 7), name
    rows = local_descriptors(after["patches"], np.array([3, 4]))
    assert rows.grid == (4, 10)
    at = (rows.image_ids == 4) & (rows.y == 1) & (rows.x == 7)
    unit = after["patches"][1, :, 1, 7]
    np.testing.assert_allclose(rows.vectors[at][0], unit / unit.norm(), atol=1e-3)


def test_tokens_are_those_that_the_network_gives() -> None:
    layers: list[Any] = ["output", "cls", "avg", "patches"]
    layers.append({"name": "most", "node": "norm", "kind": "global", "pool": "maximum"})
    spec, weights = spec_of(f"{HERE}:registers", layers=layers, **small(64))
    backbone = Backbone(spec, weights)
    outputs = backbone.forward(pixels(2, 64, 64), "whole")
    tokens = outputs["norm"]
    mine = given(backbone, pixels(2, 64, 64), "whole")
    vectors = {
        name: pooled(each, spec.layer(name)) for name, each in mine.items() if name != "patches"
    }
    assert torch.equal(vectors["cls"], tokens[:, 0])
    assert torch.equal(vectors["output"], tokens[:, 0])  # timm pools by the class token
    torch.testing.assert_close(vectors["avg"], tokens[:, 5:].mean(1))
    assert torch.equal(vectors["most"], tokens[:, 5:].amax(1))
    assert torch.equal(mine["patches"][0, :, 2, 3], tokens[0, 5 + 2 * 4 + 3])


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_close(precision: str) -> None:
    full, half = (
        given(Backbone(*spec_of(VIT, precision=each, **small(64))), pixels(1, 64, 64), "whole")
        for each in ("float32", precision)
    )
    assert str(half["cls"].dtype) == f"torch.{precision}"
    apart = (half["cls"].float() - full["cls"]).norm() / full["cls"].norm()
    assert 0 < apart < 0.05


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("onse", r"has no layer 'onse': it has .*: did you mean once\?"),
        ("twice", r"twice of .* is called 2 times in a pass, .* name another, such as once"),
        (
            "output",
            r"output of .* gives a dict, .* one of its parts: output\[mean\] \(1, 6\), outp",
        ),
        ("pair", r"pair of .* gives a tuple, .* pair\[0\] \(1, 6, 16, 16\), pair\[1\] \(1, 6\)"),
        (
            {"name": "x", "node": "pair[1]", "kind": "local"},
            r"pair\[1\] .* gives a vector \(1, 6\)",
        ),
        (
            {"name": "x", "node": "once", "kind": "global", "pool": "class"},
            r"once .* no class token",
        ),
        (
            {"name": "x", "node": "once", "kind": "local", "pool": "gem"},
            r"layer x: .*asks for pool",
        ),
    ],
)
def test_a_layer_that_cannot_be_one_is_refused(layer: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        spec_of(f"{HERE}:parts", layers=[layer], **small(32))


def test_a_part_of_what_a_module_gives_is_a_layer() -> None:
    spec, weights = spec_of(f"{HERE}:parts", layers=["output[mean]", "pair[0]"], **small(32))
    assert [(layer.name, layer.node, layer.kind) for layer in spec.layers] == [
        ("output.mean", "output[mean]", "global"),
        ("pair.0", "pair[0]", "local"),
    ]
    assert given(Backbone(spec, weights), pixels(1, 32, 32), "whole")["pair.0"].shape == (
        1,
        6,
        16,
        16,
    )


def test_attention_is_no_layer_although_it_looks_like_a_map() -> None:
    with pytest.raises(InputError, match=r"q_norm .* neither a map .* one of cls, avg, patches"):
        spec_of(VIT, layers=["blocks.0.attn.q_norm"], **small(64))
    with pytest.raises(UnknownLayer, match=r"has no layer 'b9': it has cls, avg, patches, b0"):
        spec_of(VIT, layers=["b9"], **small(64))


def test_a_network_of_one_size_says_so() -> None:
    name = f"{HERE}:one_size"
    with pytest.raises(
        InputError, match=r"does not take a picture of 224 x 224 .*set network\.preprocess"
    ):
        spec_of(name)
    spec, weights = spec_of(name, layers=["maps"], **small(64))
    assert spec.layers[0].view == "crop"
    assert given(Backbone(spec, weights), pixels(1, 64, 64), "crop")["maps"].shape == (1, 4, 8, 8)
    layers = [{"name": "maps", "view": "whole"}]
    with pytest.raises(
        InputError, match=r"takes pictures of 64 x 64 pixels alone .*take view crop"
    ):
        spec_of(name, layers=layers, **small(64))
    uneven = {"preprocess": {"crop": 64, "short_edge": 72}}
    layers = [{"name": "cls", "view": "whole"}]
    with pytest.raises(InputError, match=r"patches have 16 pixels, and short_edge 72 and long"):
        spec_of(VIT, layers=layers, **uneven)


def test_a_network_without_maps_has_its_vector_and_one_without_any_has_nothing() -> None:
    _, layers, wanted = found(f"{HERE}:vector", **small(32))
    assert [layers.layer(each).node for each in wanted] == ["output"]
    with pytest.raises(InputError, match=r":nothing_known has no default layers"):
        found(f"{HERE}:nothing_known", **small(32))
