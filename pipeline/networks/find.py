"""Which weights a network has, where they lie, and the network with them."""

from pathlib import Path
from typing import TYPE_CHECKING

from lamella.pipeline.errors import InputError
from lamella.pipeline.networks import copies, weights
from lamella.pipeline.networks.foreign import Foreign
from lamella.pipeline.networks.providers import foreign
from lamella.pipeline.store.commit import sha256_of
from lamella.schemas.extraction import WeightsRef

if TYPE_CHECKING:
    from torch import nn

    from lamella.pipeline.networks.foreign import State


def find_weights(network: str, file: Path | None) -> tuple[WeightsRef, Path]:
    """Return which weights a network has and where they lie here, as an absolute path.

    Args:
        network: its name, as in a spec.
        file: the user's file of weights; None for those that the network comes with.

    Raises:
        InputError: the network, its library or its weights are not to be had.
    """
    if file is not None:
        file = file.expanduser().absolute()
    other = foreign(network, file)
    return weights.find_weights(network, file) if other is None else weights_of(other, file)


def weights_of(network: Foreign, file: Path | None) -> tuple[WeightsRef, Path]:
    """Return the same of a network from elsewhere; its own weights are copied into the cache."""
    own_name = f"{network.name.partition(':')[2].rpartition('/')[2]}.safetensors"
    if network.program:
        path = network.at
        assert path is not None
        return WeightsRef(source="file", name=path.name, sha256=sha256_of(path)), path
    if file is not None and not file.is_dir():
        path, sha256 = weights.checked_file(file), sha256_of(file)
        if path == copies.folder() / f"{sha256}.safetensors":
            return WeightsRef(source=network.source, name=own_name, sha256=sha256), path
        return WeightsRef(source="file", name=path.name, sha256=sha256), path
    if network.own is None:
        raise InputError(f"{network.name} comes without weights: give their file with --weights")
    sha256, path = copies.keep(network.own().eval(), network.about)
    return WeightsRef(source=network.source, name=own_name, sha256=sha256), path


def opened(network: Foreign, path: Path, reference: WeightsRef) -> "nn.Module":
    """Return a network with its weights, on the CPU.

    Raises:
        InputError: the file is not there, is not the one that is meant, or does not fit.
    """
    if not path.is_file():
        raise InputError(
            f"the weights {path} are not on this machine: copy them to this place, or let "
            "LAMELLA_CACHE name a folder that all machines share"
        )
    if network.program:
        weights.check_sha256(path, reference.sha256)
        return network.made()
    state: State = weights.load_state(path, reference.sha256)
    model = network.made().eval()
    if reference.source == "file":
        state = network.fit(model, state)
    check_fit(model, state, network.name, reference.name)
    model.load_state_dict(dict(state), strict=False)
    return model


def check_fit(model: "nn.Module", state: "State", network: str, file: str) -> None:
    """Check that weights are those of a network, all of them and no others.

    Raises:
        InputError: they are not; the first one that is missing, left over or of another shape is
            named.
    """
    wanted = model.state_dict()
    missing = [
        name for name in wanted if name not in state and not name.endswith("num_batches_tracked")
    ]
    more = [name for name in state if name not in wanted]
    misfits = [name for name in wanted if name in state and wanted[name].shape != state[name].shape]
    faults = []
    if missing:
        faults.append(f"lack {missing[0]}" + _and_more(missing))
    if more:
        faults.append(f"hold {more[0]}{_and_more(more)}, which {network} does not have")
    if misfits:
        first = misfits[0]
        faults.append(
            f"have {first} as {tuple(state[first].shape)}, where {network} has "
            f"{tuple(wanted[first].shape)}{_and_more(misfits)}"
        )
    if faults:
        raise InputError(
            f"weights {file} do not fit {network}: they {', and '.join(faults)}: they belong to "
            "another network"
        )


def _and_more(names: list[str]) -> str:
    return f" and {len(names) - 1:,} more" if len(names) > 1 else ""
