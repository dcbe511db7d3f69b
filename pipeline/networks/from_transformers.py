"""Vision towers of transformers, as `transformers:ID` of the hub or `transformers:FOLDER`.

A copy of such a network's weights holds its configuration too, so that workers and queries need
neither the folder nor the hub.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamella.pipeline.errors import InputError
from lamella.pipeline.networks.copies import about
from lamella.pipeline.networks.foreign import Foreign, Recipe, missing_library
from lamella.pipeline.networks.hub import asking
from lamella.pipeline.networks.recipes import edge_of, in_bytes

if TYPE_CHECKING:
    from torch import nn

TOWERS = {
    "clip": "CLIPVisionModelWithProjection",
    "clip_vision_model": "CLIPVisionModelWithProjection",
    "metaclip_2": "MetaClip2VisionModelWithProjection",
    "siglip": "SiglipVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
}
"""By type of model, the class of a picture tower whose output is an embedding."""

PASSING = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")
"""What a configuration says of its file and not of its network: a copy leaves it out."""

NUMBERED_FILTERS = {2: "pillow-bilinear-1", 3: "pillow-bicubic-1"}
"""By Pillow's number of a filter."""


def transformers_network(name: str, weights: Path | None) -> Foreign:
    """Return a vision tower.

    Args:
        name: of the hub, or a folder. Specs have the last part of a folder's path.
        weights: another folder, or a copy of the weights with their configuration; None for those
            that the name means.

    Raises:
        InputError: transformers is not installed, or the configuration is not to be had, or is not
            of a network for pictures.
    """
    if weights is not None and not weights.is_dir():
        config = about(weights).get("config")
        if not isinstance(config, Mapping):
            raise InputError(
                f"a network of transformers takes its weights from its folder; {weights} is none: "
                "give the folder"
            )
        shown = dict(about(weights).get("preprocessor") or {})
        return _from_config(f"transformers:{_short(name)}", dict(config), shown, None)
    folder = weights or (Path(name).expanduser() if Path(name).expanduser().is_dir() else None)
    if folder is None and name.startswith(("/", ".", "~")):
        raise InputError(f"there is no folder {name} with a network of transformers")
    return _network(_short(name), str(folder.absolute()) if folder is not None else name)


def _short(name: str) -> str:
    """Return what specs call a network: the name on the hub, or the last part of a folder."""
    path = Path(name).expanduser()
    return path.absolute().name if path.is_dir() or name.startswith(("/", ".", "~")) else name


@cache
def _network(name: str, place: str) -> Foreign:
    full = f"transformers:{name}"
    try:
        from transformers import PreTrainedConfig
        from transformers.image_processing_base import ImageProcessingMixin
    except ImportError as error:
        raise missing_library(full, error) from error
    otherwise = "give the folder that has them with --weights, or as --network transformers:FOLDER"
    with asking(full, otherwise):
        config = dict(PreTrainedConfig.get_config_dict(place)[0])
    try:
        with asking(full, otherwise):
            shown = dict(ImageProcessingMixin.get_image_processor_dict(place)[0])
    except InputError:
        shown = {}

    def own(kind: type, options: Mapping[str, Any]) -> "nn.Module":
        import torch

        with asking(full, otherwise):
            made, found = kind.from_pretrained(  # type: ignore[attr-defined]
                place,
                config=_configured(kind, config),
                dtype=torch.float32,
                output_loading_info=True,
                **options,
            )
        if lacking := sorted(found["missing_keys"]):
            raise InputError(
                f"the weights of {full} lack {lacking[0]} and {len(lacking) - 1} more: the folder "
                "has the weights of another network than its config.json says"
            )
        network: nn.Module = made
        return network

    return _from_config(full, config, shown, own)


def _from_config(
    full: str,
    config: dict[str, Any],
    shown: dict[str, Any],
    own: Callable[[type, Mapping[str, Any]], "nn.Module"] | None,
) -> Foreign:
    """Return the network of config.json and preprocessor_config.json, as they are written."""
    try:
        import transformers
    except ImportError as error:
        raise missing_library(full, error) from error
    kind = config.get("model_type", "")
    if kind in TOWERS:
        tower = getattr(transformers, TOWERS[kind])
    elif "vision_config" in config or kind not in transformers.CONFIG_MAPPING:
        raise InputError(
            f"{full} is of the type {kind or 'unknown'}, whose vision tower is not known here: "
            "give it as your own code, package.module:factory"
        )
    else:
        tower = transformers.MODEL_MAPPING[transformers.CONFIG_MAPPING[kind]]
        tower = tower[0] if isinstance(tower, tuple) else tower
    # A pooler that a checkpoint has no weights for would be drawn at random.
    takes = inspect.signature(tower.__init__).parameters
    options = {"add_pooling_layer": False} if "add_pooling_layer" in takes else {}

    def build() -> "nn.Module":
        made: nn.Module = tower(_configured(tower, config), **options)
        return made

    kept = {name: value for name, value in config.items() if name not in PASSING}
    return Foreign(
        full,
        build,
        None if own is None else lambda: own(tower, options),
        _recipe(config, shown),
        about={"config": kept, "preprocessor": shown},
        projects=kind in TOWERS,
    )


def _configured(tower: type, config: Mapping[str, Any]) -> Any:
    """Return the configuration of a tower; CLIP's is a part of that of the whole network."""
    own = dict(config)
    if isinstance(own.get("vision_config"), Mapping):
        shared = {"projection_dim": own["projection_dim"]} if "projection_dim" in own else {}
        own = shared | dict(own["vision_config"])
    return tower.config_class.from_dict(own)  # type: ignore[attr-defined]


def _recipe(config: Mapping[str, Any], shown: Mapping[str, Any]) -> Recipe:
    """Return what preprocessor_config.json says; where there is none, the user has to say it."""
    settings: dict[str, Any] = {}
    unclear: dict[str, str] = {}
    if not shown:
        vision = config.get("vision_config") or config
        edge = vision.get("image_size")
        edges = {"crop": edge, "short_edge": edge} if isinstance(edge, int) else {}
        why = "it has no preprocessor_config.json, which says how pictures are shown to it"
        return Recipe(edges, dict.fromkeys(("recipe", "mean", "std"), why))
    if shown.get("do_normalize", True):
        settings |= {
            "mean": in_bytes(shown.get("image_mean") or (0.5, 0.5, 0.5)),
            "std": in_bytes(shown.get("image_std") or (0.5, 0.5, 0.5)),
        }
    else:
        settings |= {"mean": (0.0, 0.0, 0.0), "std": (255.0, 255.0, 255.0)}
    number = shown.get("resample", 2)
    if number in NUMBERED_FILTERS:
        settings["recipe"] = NUMBERED_FILTERS[number]
    else:
        unclear["recipe"] = f"its pictures are resized by Pillow's filter {number}"
    height, width, short = _edges(shown)
    if height is None or width is None:
        unclear["crop"] = f"its pictures have the size {shown.get('size')}"
        return Recipe(settings, unclear)
    edge = edge_of(height, width, unclear)
    return Recipe(settings | {"crop": edge, "short_edge": short or edge}, unclear, short is None)


def _edges(shown: Mapping[str, Any]) -> tuple[int | None, int | None, int | None]:
    """Return height and width of the network's pictures, and the short edge they are cut from.

    The short edge is None where a picture is squeezed into that size.
    """
    size, cut = _sized(shown.get("size")), _sized(shown.get("crop_size"))
    short = size.get("shortest_edge")
    if shown.get("do_center_crop") and cut.get("height") and (short or size.get("height")):
        return cut["height"], cut["width"], short or min(size["height"], size["width"])
    if short:
        # ConvNeXt's way: the crop is a share of what a small size says.
        share = shown.get("crop_pct")
        return short, short, round(short / share) if share and short < 384 else short
    return size.get("height"), size.get("width"), None


def _sized(value: Any) -> dict[str, int]:
    if isinstance(value, int):
        return {"height": value, "width": value}
    if isinstance(value, Mapping):
        return {str(name): each for name, each in value.items() if isinstance(each, int)}
    return {}
