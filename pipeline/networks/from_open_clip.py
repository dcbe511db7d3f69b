"""The picture towers of open_clip, as `open_clip:NAME` or `open_clip:NAME@PRETRAINED`."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
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
def open_clip_network(name: str) -> Foreign:
    """Return the picture tower of a network of open_clip.

    Raises:
        InputError: open_clip is not installed, or has no network or no weights of that name.
    """
    try:
        import open_clip
    except ImportError as error:
        raise missing_library(f"open_clip:{name}", error) from error
    architecture, _, tag = name.partition("@")
    known = open_clip.list_models()
    if architecture not in known:
        raise InputError(
            f"open_clip has no network {shown(architecture)}: it has "
            f"{known_names(architecture, known)}"
        )
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag and tag not in tags:
        raise InputError(
            f"open_clip has no weights {shown(tag)} of {architecture}: it has "
            f"{known_names(tag, tags)}"
        )
    config = open_clip.get_model_config(architecture)
    published = open_clip.get_pretrained_cfg(architecture, tag) if tag else {}
    if tag and bool(published.get("quick_gelu")) != bool(config.get("quick_gelu")):
        raise InputError(
            f"the weights {tag} are not those of {architecture}, which has another activation "
            f"function: take {_twin(architecture, known)}@{tag}"
        )

    def make(pretrained: str | None) -> "nn.Module":
        with _quiet():
            made = open_clip.create_model(architecture, pretrained, pretrained_text=False)
        tower: nn.Module = made.visual
        return tower

    def own() -> "nn.Module":
        if not tag:
            raise InputError(
                f"open_clip:{architecture} has weights of several trainings: name one, as in "
                f"open_clip:{architecture}@{tags[0] if tags else 'TAG'}, or give a file of them "
                "with --weights"
            )
        with asking(f"open_clip:{name}", "give the file of its page on the hub with --weights"):
            return make(tag)

    return Foreign(
        f"open_clip:{name}",
        lambda: make(None),
        own,
        _recipe(config, published),
        fit=_fit,
        projects=True,
    )


def _twin(architecture: str, known: list[str]) -> str:
    """Return the name of the same network with the other activation function."""
    end = "-quickgelu"
    plain = architecture.removesuffix(end)
    twin = plain if architecture.endswith(end) else f"{plain}{end}"
    return twin if twin in known else "another network"


def _recipe(config: dict[str, Any], published: dict[str, Any]) -> Recipe:
    from open_clip.transform import PreprocessCfg

    fields = ("size", "mean", "std", "interpolation", "resize_mode")
    said = {name: published[name] for name in fields if published.get(name)}
    said.setdefault("size", config["vision_cfg"].get("image_size", 224))
    wanted = PreprocessCfg(**said)
    unclear: dict[str, str] = {}
    _, height, width = wanted.input_size
    edge = edge_of(height, width, unclear)
    settings: dict[str, Any] = {
        "mean": in_bytes(wanted.mean),
        "std": in_bytes(wanted.std),
        "crop": edge,
        "short_edge": edge,
    }
    if wanted.interpolation in FILTERS:
        settings["recipe"] = FILTERS[wanted.interpolation]
    elif wanted.interpolation == "random":
        settings["recipe"] = FILTERS["bicubic"]  # of training; open_clip itself evaluates so
    else:
        unclear["recipe"] = f"its pictures are resized by the filter {wanted.interpolation}"
    if wanted.resize_mode == "longest":
        unclear["crop"] = "its pictures are padded to a square"
    return Recipe(settings, unclear, wanted.resize_mode == "squash")


def _fit(model: "nn.Module", state: State) -> State:
    """Return the part of a file for the picture tower: files hold whole networks."""
    plain = {name.removeprefix("module."): each for name, each in state.items()}
    tower = {
        name.removeprefix("visual."): each
        for name, each in plain.items()
        if name.startswith("visual.")
    }
    return tower or plain


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep open_clip from writing that a network has no weights yet; they are checked here."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
