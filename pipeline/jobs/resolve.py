"""From a job's settings to specs: layers looked up, weights found and hashed, maps completed."""

from pathlib import Path

from pydantic import ValidationError

from lamella.pipeline.errors import InputError
from lamella.pipeline.extract.networks import (
    default_layers,
    default_preprocess,
    find_weights,
    resolve_layer,
)
from lamella.pipeline.jobs.settings import explain
from lamella.schemas.extraction import ExtractionSpec, LayerSpec, PreprocessSpec
from lamella.schemas.job import FusionSettings, JobConfig, LayerSettings
from lamella.schemas.query import FusionSpec, LayerMap

PAPER_MAPS = ((0.2, 0.45), (0.4, 0.45))
"""(t, p) of the first and second of two or three layers: Yu et al. 2017, section 4.2."""

NETWORK_MAPS: dict[str, tuple[tuple[float, float], ...]] = {
    # Unrelated pictures have a median similarity of .27 to .37 in this network's head, so the
    # paper's t = .2 would flatten everything. Chosen on UKB and Oxford; see cluster/DECISIONS.md.
    "efficientnet_lite0": ((0.5, 0.6), (0.6, 0.6)),
}


def resolve_extraction(job: JobConfig) -> tuple[ExtractionSpec, Path]:
    """Return what to extract and where the weights lie on this machine.

    Raises:
        InputError: an unknown network or layer, or weights that are absent or not those named.
    """
    settings = job.network
    preprocess = default_preprocess(settings.name).model_dump()
    preprocess |= settings.preprocess.model_dump(exclude_none=True)
    named = settings.layers or default_layers(settings.name)
    layers = tuple(_layer(settings.name, layer) for layer in named)
    weights = Path(settings.weights).expanduser() if settings.weights else None
    reference, path = find_weights(settings.name, weights)
    if settings.weights_sha256 and settings.weights_sha256 != reference.sha256:
        raise InputError(
            f"weights {path.name} have SHA-256 {reference.sha256[:12]}, the job says "
            f"{settings.weights_sha256[:12]}: give the right file or mend network.weights_sha256"
        )
    try:
        spec = ExtractionSpec(
            network=settings.name,
            weights=reference,
            preprocess=PreprocessSpec(**preprocess),
            layers=layers,
            batch_size=settings.batch_size,
            precision=settings.precision,
        )
    except ValidationError as error:
        raise InputError(f"network: {explain(error)}") from None
    return spec, path


def _layer(network: str, layer: LayerSettings | str) -> LayerSpec:
    settings = LayerSettings(name=layer) if isinstance(layer, str) else layer
    try:
        return resolve_layer(
            network,
            settings.name,
            node=settings.node,
            kind=settings.kind,
            pool=settings.pool,
            gem_power=settings.gem_power,
            view=settings.view,
        )
    except ValidationError as error:
        raise InputError(f"layer {settings.name}: {explain(error)}") from None


def resolve_fusion(
    network: str, layers: tuple[LayerSpec, ...], settings: FusionSettings
) -> FusionSpec:
    """Return the fusion over all layers; t and p not given are the network's, or the paper's.

    Raises:
        InputError: as many t or p as layers but the last are needed; or t falls; or out of range.
    """
    count = len(layers) - 1
    maps = NETWORK_MAPS.get(network, PAPER_MAPS)
    default = [*maps, *[maps[-1]] * count][:count]
    for name, given in (("t", settings.t), ("p", settings.p)):
        if given and len(given) not in (count, count + 1):
            raise InputError(
                f"fusion.{name} takes one value a layer, the last may be left out; got "
                f"{len(given)} for layers {', '.join(layer.name for layer in layers)}"
            )
    t = [*(settings.t or [each[0] for each in default]), 1.0][: count + 1]
    p = [*(settings.p or [each[1] for each in default]), 1.0][: count + 1]
    try:
        maps_of = zip(layers, t, p, strict=True)
        return FusionSpec(
            layers=tuple(LayerMap(layer=layer.name, t=ti, p=pi) for layer, ti, pi in maps_of)
        )
    except ValidationError as error:
        raise InputError(f"fusion: {explain(error)}") from None
