"""Short names and usual layers by structure: small members of each family, with random weights."""

from pathlib import Path
from typing import Any

import pytest

from lamella.schemas.extraction import LayerSpec
from tests.pipeline.networks.nets import HERE, found, saved_tower, small, usual

pytest.importorskip("timm", reason="timm is not installed")


def said(layer: LayerSpec) -> tuple[object, ...]:
    """Return a layer in short: name, node, kind or pooling, and its tokens."""
    tokens = layer.tokens and (layer.tokens.prefix, layer.tokens.patch)
    how = layer.pool if layer.kind == "global" else "local"
    return (layer.name, layer.node, how, layer.view, tokens)


FEW: list[tuple[str, dict[str, Any], list[tuple[object, ...]]]] = [
    (
        "timm:test_resnet",
        {},
        [("pool", "output", "none", "whole", None), ("s5", "layer4", "local", "whole", None)],
    ),
    (
        "timm:test_convnext",
        small(96),
        [("pool", "output", "none", "whole", None), ("s4", "norm_pre", "local", "whole", None)],
    ),
    (
        "timm:test_efficientnet",
        small(96),
        [("pool", "output", "none", "whole", None), ("s5", "bn2", "local", "whole", None)],
    ),
    (
        "timm:test_vit",
        {},
        [
            ("cls", "norm", "class", "whole", (1, 16)),
            ("patches", "norm", "local", "whole", (1, 16)),
        ],
    ),
]
MANY: list[tuple[str, dict[str, Any], list[tuple[object, ...]]]] = [
    (
        "timm:vit_tiny_patch16_dinov3_qkvb",
        small(64),
        [
            ("cls", "norm", "class", "whole", (5, 16)),
            ("patches", "norm", "local", "whole", (5, 16)),
        ],
    ),
    (
        "timm:resnet18",
        {},
        [("pool", "output", "none", "whole", None), ("s5", "layer4", "local", "whole", None)],
    ),
    (
        "timm:convnext_atto",
        {},
        [("pool", "output", "none", "whole", None), ("s4", "norm_pre", "local", "whole", None)],
    ),
    (
        "timm:efficientnet_b0",
        {},
        [("pool", "output", "none", "whole", None), ("s5", "bn2", "local", "whole", None)],
    ),
    (
        "timm:vit_tiny_patch16_224",
        {},
        [
            ("cls", "norm", "class", "whole", (1, 16)),
            ("patches", "norm", "local", "whole", (1, 16)),
        ],
    ),
    (
        "timm:vit_small_patch14_reg4_dinov2",
        small(56),
        [
            ("cls", "norm", "class", "whole", (5, 14)),
            ("patches", "norm", "local", "whole", (5, 14)),
        ],
    ),
    (
        "timm:swin_tiny_patch4_window7_224",
        {},
        [("pool", "output", "none", "whole", None), ("s4", "norm", "local", "whole", None)],
    ),
    (
        "timm:vit_base_patch32_clip_224.openai",
        {},
        [
            ("output", "output", "none", "whole", None),
            ("b10", "blocks.10", "local", "whole", (1, 32)),
        ],
    ),
    (
        "timm:vit_base_patch32_clip_224.laion2b_ft_in12k_in1k",  # its head is of classes again
        {},
        [
            ("cls", "norm", "class", "whole", (1, 32)),
            ("patches", "norm", "local", "whole", (1, 32)),
        ],
    ),
    (
        "timm:vit_base_patch16_siglip_224",  # pooled by attention
        {},
        [
            ("output", "output", "none", "whole", None),
            ("b10", "blocks.10", "local", "whole", (0, 16)),
        ],
    ),
    (
        "open_clip:ViT-S-32",
        {},
        [
            ("output", "output", "none", "crop", None),
            ("b10", "transformer.resblocks.10", "local", "crop", (1, 32)),
        ],
    ),
    (
        "open_clip:RN50",
        {},
        [("output", "output", "none", "crop", None), ("s5", "layer4", "local", "crop", None)],
    ),
]


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [*FEW, *(pytest.param(*each, marks=pytest.mark.slow) for each in MANY)],
)
def test_usual_layers_are_found_by_structure(
    name: str, settings: dict[str, Any], expected: list[tuple[object, ...]]
) -> None:
    assert [said(layer) for layer in usual(name, **settings)] == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            "Dinov2WithRegistersModel",
            [
                ("cls", "layernorm", "class", "whole", (5, 14)),
                ("patches", "layernorm", "local", "whole", (5, 14)),
            ],
        ),
        (
            "DINOv3ViTModel",
            [
                ("cls", "norm", "class", "whole", (1, 16)),
                ("patches", "norm", "local", "whole", (1, 16)),
            ],
        ),
        (
            "CLIPVisionModelWithProjection",
            [
                ("output", "output[image_embeds]", "none", "crop", None),
                ("b1", "vision_model.encoder.layers.1", "local", "crop", (1, 16)),
            ],
        ),
        (
            "SiglipVisionModel",
            [
                ("output", "output[pooler_output]", "none", "crop", None),
                ("b1", "encoder.layers.1", "local", "crop", (0, 16)),
            ],
        ),
        (
            "ViTModel",
            [
                ("cls", "layernorm", "class", "crop", (1, 16)),
                ("patches", "layernorm", "local", "crop", (1, 16)),
            ],
        ),
        (
            "ConvNextModel",
            [
                ("pool", "output[pooler_output]", "none", "whole", None),
                ("s4", "encoder[last_hidden_state]", "local", "whole", None),
            ],
        ),
    ],
)
def test_towers_of_transformers_are_found_by_structure(
    kind: str, expected: list[tuple[object, ...]], tmp_path: Path
) -> None:
    folder = saved_tower(tmp_path / "tower", kind)
    assert [said(layer) for layer in usual(f"transformers:{folder}")] == expected


def test_all_short_names_of_a_transformer_and_of_a_pyramid() -> None:
    _, layers, _ = found("timm:test_vit")
    blocks = [f"b{n}" for n in range(6)]
    assert list(layers.names.aliases) == ["output", "cls", "avg", "patches", *blocks]
    assert layers.layer("b2").node == "blocks.2"
    assert (layers.layer("avg").pool, layers.layer("avg").kind) == ("average", "global")
    _, layers, _ = found("timm:test_resnet")
    assert [layers.layer(f"s{n}").node for n in range(1, 6)] == [
        *("act1", "layer1", "layer2", "layer3", "layer4")
    ]


def test_own_code_is_not_taken_for_an_embedding() -> None:
    _, layers, wanted = found(f"{HERE}:maps")
    assert wanted == ("pool", "s2")
    pool, last = (layers.layer(each) for each in wanted)
    # Ten classes come out of it: its last map is pooled instead.
    assert (pool.node, pool.pool, last.node) == ("3", "average", "3")


@pytest.mark.slow
def test_maps_with_channels_last_are_known() -> None:
    _, layers, _ = found("timm:swin_tiny_patch4_window7_224")
    assert layers.layer("s4").channels_last
    assert [layers.layer(f"s{n}").node for n in range(1, 5)] == [
        "layers.0",
        "layers.1",
        "layers.2",
        "norm",
    ]
