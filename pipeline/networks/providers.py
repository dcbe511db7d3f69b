"""Who makes a network from elsewhere, by its name."""

import re
from pathlib import Path

from lamella.pipeline.errors import InputError
from lamella.pipeline.names import shown
from lamella.pipeline.networks.foreign import Foreign

CODE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""`package.module:factory`."""


def foreign(given: str, weights: Path | None = None) -> Foreign | None:
    """Return the network from elsewhere that a name means, None for one that is listed here.

    Args:
        given: `timm:NAME`, `open_clip:NAME@PRETRAINED`, `transformers:ID_OR_FOLDER`,
            `package.module:factory`, or a file of `torch.export` (.pt2).
        weights: its file of weights, where there is one.

    Raises:
        InputError: there is no network of that name, or its library is not installed.
    """
    kind, colon, name = given.partition(":")
    if given.endswith(".pt2") or kind == "export":
        from lamella.pipeline.networks.exported import program

        return program(given, weights)
    if not colon:
        return None
    if not name:
        raise InputError(f"{shown(given)} names no network: say which, as in timm:resnet18")
    if kind == "timm":
        from lamella.pipeline.networks.from_timm import timm_network

        return timm_network(name)
    if kind == "open_clip":
        from lamella.pipeline.networks.from_open_clip import open_clip_network

        return open_clip_network(name)
    if kind == "transformers":
        from lamella.pipeline.networks.from_transformers import transformers_network

        return transformers_network(name, weights)
    if CODE.fullmatch(given):
        from lamella.pipeline.networks.own_code import own_network

        return own_network(given)
    raise InputError(
        f"there is no network {shown(given)}: before the colon stands timm, open_clip, "
        "transformers, or the module of your own code, as in package.module:factory"
    )


def absolute_name(given: str) -> str:
    """Return the name of a network, with the full path if it names a file or a folder."""
    kind, colon, place = given.partition(":")
    if not colon and given.endswith(".pt2"):
        return str(Path(given).expanduser().absolute())
    path = Path(place).expanduser()
    if kind == "transformers" and place and path.is_dir():
        return f"{kind}:{path.absolute()}"
    return given
