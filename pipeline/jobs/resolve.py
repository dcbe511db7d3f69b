"""From a job's settings to specs: layers looked up, weights found and hashed, maps completed;
and the snapshot and the fusion that queries mean.
"""

from pathlib import Path

from pydantic import ValidationError

from lamella.pipeline.errors import InputError, UnknownLayer
from lamella.pipeline.extract.networks import (
    default_layers,
    default_preprocess,
    find_weights,
    resolve_layer,
)
from lamella.pipeline.index.publish import current_snapshot, read_snapshot
from lamella.pipeline.jobs.settings import explain
from lamella.pipeline.store.protocol import Store
from lamella.schemas.extraction import ExtractionSpec, LayerSpec, PreprocessSpec
from lamella.schemas.job import WEIGHTING_OF, FusionSettings, JobConfig, LayerSettings
from lamella.schemas.query import FusionSpec, LayerMap, Weighting
from lamella.schemas.snapshot import IndexSnapshot

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


def chosen_snapshot(store: Store, number: int | None) -> IndexSnapshot:
    """Return a snapshot by number, or the promoted one.

    Raises:
        InputError: there is none.
    """
    if number is not None:
        return read_snapshot(store, number)
    snapshot = current_snapshot(store)
    if snapshot is None:
        raise InputError(f"{store.url} holds no snapshot yet: make one with `lamella index`")
    return snapshot


def asked_fusion(
    snapshot: IndexSnapshot, job: JobConfig, names: list[str] | None = None
) -> tuple[FusionSpec, Weighting]:
    """Return the fusion and weighting asked for, the snapshot's own where nothing is said.

    Args:
        names: the layers to fuse, in any order; all of the snapshot by default.

    Raises:
        UnknownLayer: the snapshot has no layer of a name.
        InputError: t or p do not fit the layers.
    """
    layers = snapshot.extraction.layers
    known = [layer.name for layer in layers]
    if unknown := [name for name in names or () if name not in known]:
        raise UnknownLayer(
            f"snapshot {snapshot.number} has no layer {unknown[0]!r}: it has {', '.join(known)}"
        )
    chosen = tuple(layer for layer in layers if names is None or layer.name in names)
    fusion = snapshot.fusion
    if job.fusion.t or job.fusion.p or chosen != layers:
        fusion = resolve_fusion(snapshot.extraction.network, chosen, job.fusion)
    said = "profile" in job.model_fields_set
    return fusion, WEIGHTING_OF[job.profile] if said else snapshot.weighting
