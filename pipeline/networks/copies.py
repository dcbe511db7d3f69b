"""Copies of weights that came with a library or with code: workers and queries load these.

Each lies in the folder `weights` of Lamella's cache, under its SHA-256. Nothing there is removed to
make room: an index is worth little without the weights that it was made with.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamella.pipeline.errors import InputError
from lamella.pipeline.store.cache import Cache
from lamella.schemas.extraction import WeightsRef

if TYPE_CHECKING:
    from torch import nn

ABOUT = "lamella"
"""The key of what a copy says of its network, in the header of its safetensors.

One key alone: safetensors writes several in any order, and equal weights must be equal bytes."""

LARGEST_HEADER = 100 << 20


def folder() -> Path:
    """Return the folder of the copies: LAMELLA_CACHE decides, as for all that is cached."""
    return Cache.standard().folder / "weights"


def held(reference: WeightsRef) -> Path | None:
    """Return where the copy of these weights lies on this machine; None if there is none."""
    if reference.source not in ("library", "code"):
        return None
    path = folder() / f"{reference.sha256}.safetensors"
    return path if path.is_file() else None


def keep(model: "nn.Module", about: Mapping[str, Any]) -> tuple[str, Path]:
    """Write the weights of a network as a copy, once; return its SHA-256 and where it lies.

    Args:
        about: what it takes to build the network again, as JSON.

    Raises:
        InputError: the folder cannot be written.
    """
    from safetensors.torch import save

    # Clones, as safetensors refuses tensors that share memory.
    state = {name: each.detach().clone().contiguous() for name, each in model.state_dict().items()}
    metadata = {ABOUT: json.dumps(about, sort_keys=True)} if about else None
    data = save(state, metadata)
    sha256 = hashlib.sha256(data).hexdigest()
    path = folder() / f"{sha256}.safetensors"
    if path.is_file() and path.stat().st_size == len(data):
        return sha256, path
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(
            f"the weights of the network are kept in {path.parent}, which cannot take their "
            f"{len(data):,} bytes ({error.strerror}): free space there, or name another folder by "
            "LAMELLA_CACHE"
        ) from error
    return sha256, path


def about(path: Path) -> Mapping[str, Any]:
    """Return what a copy says of its network; nothing for any other file."""
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = file.read(size) if size <= LARGEST_HEADER else b""
    try:
        said = json.loads(json.loads(header)["__metadata__"][ABOUT])
    except (ValueError, KeyError, TypeError):
        return {}
    return said if isinstance(said, dict) else {}
