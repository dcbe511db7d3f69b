"""Networks of timm, as `timm:NAME`; their last maps, tokens and vectors, without the classifier."""

import contextlib
import math
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from lamella.pipeline.errors import InputError
from lamella.pipeline.names import known_names, shown
from lamella.pipeline.networks.foreign import Foreign, Recipe, State, missing_library
from lamella.pipeline.networks.hub import asking
from lamella.pipeline.networks.recipes import FILTERS, edge_of, in_bytes

if TYPE_CHECKING:
    from torch import nn


@cache
def timm_network(name: str) -> Foreign:
    """Return a network of timm by its name there, with or without the tag of its weights.

    Raises:
        InputError: timm is not installed, or has no network of that name.
    """
    try:
        import timm
        from timm.models import PretrainedCfg
    except ImportError as error:
        raise missing_library(f"timm:{name}", error) from error
    architecture, _, tag = name.partition(".")
    known = timm.list_models()
    if architecture not in known:
        raise InputError(
            f"timm {timm.__version__} has no network {shown(name)}: it has "
            f"{known_names(architecture, known)}"
        )
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise InputError(
            f"timm {timm.__version__} has no weights {shown(tag)} of {architecture}: it has "
            f"{known_names(tag, tags)}"
        )
    found = timm.get_pretrained_cfg(name)
    config = (found or PretrainedCfg()).to_dict()
    projects = bool(config["num_classes"]) and _is_clip(architecture, config)
    # CLIP's projection is where others have their classifier.
    head: dict[str, Any] = {} if projects else {"num_classes": 0}

    def make(pretrained: bool) -> "nn.Module":
        made: nn.Module
        try:
            made = timm.create_model(name, pretrained, dynamic_img_size=True, **head)
        except TypeError:
            made = timm.create_model(name, pretrained, **head)
        return made

    def own() -> "nn.Module":
        if not (config.get("hf_hub_id") or config.get("url")):
            raise InputError(f"timm has no weights of {name}: give a file of them with --weights")
        with asking(
            f"timm:{name}", "give the model.safetensors of its page on the hub with --weights"
        ):
            return make(True)

    return Foreign(
        f"timm:{name}",
        lambda: make(False),
        own,
        _recipe(config),
        fit=lambda model, state: _fit(model, state, config),
        projects=projects,
    )


def _is_clip(architecture: str, config: dict[str, Any]) -> bool:
    """Say whether a head projects into the space of CLIP, and was not tuned to classes."""
    return "clip" in architecture and "ft" not in str(config.get("tag") or "").split("_")


def _recipe(config: dict[str, Any]) -> Recipe:
    settings: dict[str, Any] = {
        "mean": in_bytes(config["mean"]),
        "std": in_bytes(config["std"]),
    }
    unclear: dict[str, str] = {}
    _, height, width = config["input_size"]
    edge = edge_of(height, width, unclear)
    share = config.get("crop_pct") or 0.875
    settings |= {"crop": edge, "short_edge": math.floor(edge / share)}
    filtering = str(config.get("interpolation"))
    if filtering in FILTERS:
        settings["recipe"] = FILTERS[filtering]
    else:
        unclear["recipe"] = f"its pictures are resized by the filter {filtering}"
    mode = config.get("crop_mode") or "center"
    if mode not in ("center", "squash"):
        unclear["crop"] = f"its pictures are cut by the mode {mode}"
    return Recipe(settings, unclear, mode == "squash")


def _fit(model: "nn.Module", state: State, config: dict[str, Any]) -> State:
    """Return the state of a file for this model: converted by timm, without the classifier."""
    wanted = model.state_dict().keys()
    if wanted - state.keys():
        convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
        # Of another network it may fail, which the check of the names says better.
        with contextlib.suppress(KeyError, RuntimeError, TypeError, ValueError):
            state = convert(dict(state), model) if convert is not None else state
    classifiers = config.get("classifier") or ()
    names = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    left_over = {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    return {name: each for name, each in state.items() if name in wanted or name not in left_over}
