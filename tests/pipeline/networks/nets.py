"""Small networks of the tests' own, and what several tests do with networks from elsewhere."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lamella.pipeline.extract.backbone import Backbone, placed
from lamella.pipeline.jobs.resolve import resolve_extraction
from lamella.pipeline.jobs.settings import load_job
from lamella.pipeline.networks.foreign import Foreign
from lamella.pipeline.networks.providers import foreign
from lamella.pipeline.networks.resolve import LayersOf, resolved
from lamella.schemas.extraction import ExtractionSpec, LayerSpec, View
from lamella.schemas.job import NetworkSettings

HERE = "tests.pipeline.networks.nets"
"""The module of `package.module:factory`."""

THING = 3


def maps() -> nn.Module:
    """Two maps, of 8 and 16 channels, and ten classes; activations work in place."""
    torch.manual_seed(7)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 16, 3, 2, 1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


class Parts(nn.Module):
    """Calls a convolution twice, and returns maps in a list and vectors in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Conv2d(3, 3, 3, 1, 1)
        self.once = nn.Conv2d(3, 6, 3, 2, 1)
        self.pair = Pair()

    def forward(self, x: Tensor) -> dict[str, Any]:
        found = self.once(self.twice(self.twice(x)))
        maps, mean = self.pair(found)
        return {"maps": [maps], "mean": mean, "maximum": found.amax((2, 3))}


class Pair(nn.Module):
    """Gives a tuple, of which the first part is overwritten later."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * 2, x.mean((2, 3))


def parts() -> nn.Module:
    torch.manual_seed(8)
    return Parts()


class OneSize(nn.Module):
    """Takes pictures of 64 x 64 alone; `view` wants memory in the usual order."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 4, 8, 8)
        self.head = nn.Linear(4 * 8 * 8, 5)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.maps(x).view(len(x), -1))
        return found


def one_size() -> nn.Module:
    torch.manual_seed(9)
    return OneSize()


class Overwrites(nn.Module):
    """Overwrites what its layers gave, as code for inference does."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, 2, 1)
        self.second = nn.Conv2d(4, 4, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        second: Tensor = self.second(first)
        first.zero_()
        return second.add_(1)


def overwrites() -> nn.Module:
    torch.manual_seed(10)
    return Overwrites()


def unseeded() -> nn.Module:
    """Comes with other weights each time."""
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.BatchNorm2d(4))


def no_module() -> int:
    return 3


def with_argument(width: int) -> nn.Module:
    return nn.Conv2d(3, width, 1)


def small(edge: int, **more: Any) -> dict[str, Any]:
    """Return settings of a network that sees small pictures."""
    return {"preprocess": {"crop": edge, "short_edge": edge} | more}


def found(name: str, **settings: Any) -> tuple[Foreign, LayersOf, tuple[Any, ...]]:
    """Return a network, what finds its layers, and its usual layers."""
    network = foreign(name)
    assert network is not None
    _, layers, wanted = resolved(network, NetworkSettings(name=name, **settings))
    return network, layers, wanted


def usual(name: str, **settings: Any) -> list[LayerSpec]:
    """Return the usual layers of a network."""
    _, layers, wanted = found(name, **settings)
    return [layers.layer(each) for each in wanted]


def spec_of(name: str, **settings: Any) -> tuple[ExtractionSpec, Path]:
    """Return the spec of a job with this network, and where its weights lie."""
    table = {"name": name} | settings
    return resolve_extraction(load_job(None, {"network": table}))


def given(backbone: Backbone, pixels: NDArray[np.uint8], view: View) -> dict[str, Tensor]:
    """Return what each layer of a view gives, as maps and vectors."""
    outputs = backbone.forward(pixels, view)
    return {
        layer.name: placed(outputs[layer.node], layer, pixels.shape[1:3])
        for layer in backbone.spec.layers
        if layer.view == view
    }


def pixels(*shape: int) -> NDArray[np.uint8]:
    """Return seeded pictures (B, h, w, 3)."""
    return np.random.default_rng(5).integers(0, 256, (*shape, 3)).astype(np.uint8)


def saved_tower(folder: Path, kind: str) -> Path:
    """Save a tiny vision tower of transformers with seeded weights, as its own library does."""
    import transformers

    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    width = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    small: dict[str, Any] = width | {"intermediate_size": 64, "image_size": 64, "patch_size": 16}
    configs = {
        "Dinov2WithRegistersModel": width
        | {"image_size": 56, "patch_size": 14, "num_register_tokens": 4},
        "CLIPVisionModelWithProjection": small | {"projection_dim": 24},
        "SiglipVisionModel": small,
        "ViTModel": small,
        "DINOv3ViTModel": small,
        "ConvNextModel": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
    }
    torch.manual_seed(11)
    model = getattr(transformers, kind)
    made = model(model.config_class(**configs[kind]))
    made.save_pretrained(folder)
    edge = configs[kind].get("image_size", 64)
    shown: dict[str, Any] = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"shortest_edge": 72},
        "do_center_crop": True,
        "crop_size": {"height": edge, "width": edge},
        "resample": 3,
        "image_mean": [0.5, 0.25, 0.125],
        "image_std": [0.5, 0.25, 0.125],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(shown))
    return folder


def vit() -> nn.Module:
    """A small transformer of timm, with seeded weights."""
    import timm

    torch.manual_seed(12)
    made: nn.Module = timm.create_model("test_vit", num_classes=0, dynamic_img_size=True)
    return made


def registers() -> nn.Module:
    """A small transformer with a class token and four registers."""
    import timm

    torch.manual_seed(13)
    made: nn.Module = timm.create_model(
        "test_vit", num_classes=0, dynamic_img_size=True, reg_tokens=4
    )
    return made


def vector() -> nn.Module:
    """Sees no positions but by their mean."""
    torch.manual_seed(14)
    return nn.Sequential(nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(3, 5))


def nothing_known() -> nn.Module:
    """Gives neither maps nor tokens nor vectors."""
    return nn.Sequential(nn.Flatten(2))
