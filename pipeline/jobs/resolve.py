"""From a job's settings to specs: layers looked up, weights found and hashed, maps completed;
and the snapshot and the fusion that queries mean.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError

from lamella.pipeline.errors import InputError
from lamella.pipeline.index.promotions import current_snapshot, read_snapshot
from lamella.pipeline.index.tags import snapshot_named
from lamella.pipeline.jobs.mistakes import Mistakes
from lamella.pipeline.jobs.settings import explain
from lamella.pipeline.names import known_names, layers_meant, shown
from lamella.pipeline.networks.find import find_weights, weights_of
from lamella.pipeline.networks.foreign import Foreign
from lamella.pipeline.networks.listed import (
    check_network,
    default_layers,
    default_preprocess,
    resolve_layer,
)
from lamella.pipeline.networks.providers import foreign
from lamella.pipeline.networks.resolve import batch_of, resolved
from lamella.pipeline.store.protocol import Store
from lamella.schemas.extraction import ExtractionSpec, LayerSpec, PreprocessSpec, WeightsRef
from lamella.schemas.job import (
    WEIGHTING_OF,
    EncodingSettings,
    FusionSettings,
    JobConfig,
    LayerSettings,
    NetworkSettings,
)
from lamella.schemas.query import FusionSpec, LayerMap, Weighting
from lamella.schemas.snapshot import IndexSnapshot, LayerScale
from lamella.schemas.vocabulary import ProjectionSpec

PAPER_MAPS = ((0.2, 0.45), (0.4, 0.45))
"""(t, p) of the first and second of two or three layers: Yu et al. 2017, section 4.2."""

PAPER_LAYERS = {"efficientnet_lite0": ("head", "b11")}
"""Layers of the profile `paper` where the network has better ones: after ReLU, as in the paper."""

NO_NETWORK = "none"
"""The network of an index whose vectors are all given."""

NEAREST, POWER = 3, 0.5
"""The encoding of the profile `production`; see cluster/decisions/answers.md for the figures."""

SCALES = (0.25, 4.0)
"""The least and the greatest weight that `scaled` gives: with few pictures a percentile may be
anything."""


def settle_profile(job: JobConfig) -> JobConfig:
    """Return the job with the vocabulary and encoding of its profile where it says nothing.

    Raises:
        InputError: a descriptor is to count for more words than there are.
    """
    if job.profile == "production":
        vocabulary = job.vocabulary
        if "projection" not in vocabulary.model_fields_set:
            whitened = ProjectionSpec(whiten=True)
            vocabulary = vocabulary.model_copy(update={"projection": whitened})
        usual = EncodingSettings(nearest=min(NEAREST, vocabulary.words or NEAREST), power=POWER)
        encoding = job.encoding.over(usual)
        job = job.model_copy(update={"vocabulary": vocabulary, "encoding": encoding})
    local = [entry if isinstance(entry, str) else entry.name for entry in job.network.layers]
    for name in ["", *local]:
        words, nearest = job.vocabulary_of(name).words, job.encoding_of(name).nearest
        if words is not None and nearest > words:
            raise InputError(
                f"a descriptor counts for all words at most; {nearest} nearest words of {words:,} "
                "are asked for: ask for fewer (encoding.nearest) or for more words (--words)"
            )
    return job


def resolve_extraction(
    job: JobConfig, given: Mapping[str, LayerSpec] = MappingProxyType({}), *, alone: bool = False
) -> tuple[ExtractionSpec, Path]:
    """Return what to extract and where the weights lie on this machine.

    Args:
        given: by name, the layers whose vectors the user brings.
        alone: there are no pictures, and so no layers of a network.

    Raises:
        InputError: an unknown network or layer, or weights that are absent or not those named.
    """
    settings, mistakes = job.network, Mistakes()
    if alone or (settings.layers and all(_name(each) in given for each in settings.layers)):
        return _without_network(job, given), Path()
    file = Path(settings.weights).expanduser().absolute() if settings.weights else None
    other = foreign(settings.name, file)
    if other is None:
        check_network(settings.name)
    layers: list[LayerSpec] = []
    preprocess = PreprocessSpec()
    try:
        with mistakes.noted():
            if other is None:
                layers = _listed_layers(job, given)
                recipe = default_preprocess(settings.name).model_dump()
                recipe |= settings.preprocess.model_dump(exclude_none=True)
                preprocess = PreprocessSpec(**recipe)
            else:
                preprocess, layers = _foreign_layers(other, settings, given)
        with mistakes.noted():
            reference, path = _weights(settings, other, file)
        mistakes.check()
        spec = ExtractionSpec(
            network=settings.name if other is None else other.name,
            weights=reference,
            preprocess=preprocess,
            layers=tuple(layers),
            batch_size=settings.batch_size if other is None else batch_of(other, settings),
            precision=settings.precision,
        )
    except ValidationError as error:
        raise InputError(f"network: {explain(error)}") from None
    return spec, path


Named = LayerSettings | str
"""A layer as a job names it."""

Find = Callable[[Named], LayerSpec]
"""Returns the full spec of a layer of the network."""


def _name(layer: Named) -> str:
    return layer if isinstance(layer, str) else layer.name


def _without_network(job: JobConfig, given: Mapping[str, LayerSpec]) -> ExtractionSpec:
    """Return the spec of layers that are all given; no network sees the pictures.

    Raises:
        InputError: weights of a network or a layer of one are named.
    """
    if job.network.weights:
        raise InputError(
            f"weights {job.network.weights} are those of a network, and all layers are given by "
            "vectors: leave the weights out"
        )

    def find(layer: Named) -> LayerSpec:
        raise InputError(
            f"layer {shown(_name(layer))} is of a network, which sees pictures, and vectors alone "
            f"have none; given are {known_names(_name(layer), given)}: name a source of pictures "
            "too, or leave the layer out"
        )

    return ExtractionSpec(
        network=NO_NETWORK,
        weights=WeightsRef(source="none", name=NO_NETWORK, sha256="0" * 64),
        preprocess=PreprocessSpec(),
        layers=tuple(_layers(job.network.layers, given, find, said=True)),
    )


def _listed_layers(job: JobConfig, given: Mapping[str, LayerSpec]) -> list[LayerSpec]:
    """Return the layers of a job with a network that is listed here. Raises as `_layers`."""
    network, said = job.network.name, job.network.layers
    usual = PAPER_LAYERS.get(network) if job.profile == "paper" else None
    wanted = said or usual or default_layers(network)
    return _layers(wanted, given, partial(_layer, network), said=bool(said))


def _foreign_layers(
    network: Foreign, settings: NetworkSettings, given: Mapping[str, LayerSpec]
) -> tuple[PreprocessSpec, list[LayerSpec]]:
    """Return how a network from elsewhere sees pictures, and the layers of a job.

    Raises:
        InputError: as `_layers`.
    """
    preprocess, known, wanted = resolved(network, settings)

    def find(layer: Named) -> LayerSpec:
        return _checked(layer, partial(known.layer, layer))

    layers = _layers(wanted, given, find, said=bool(settings.layers))
    return known.shown(preprocess, [each for each in layers if each.vectors is None]), layers


def _layers(
    wanted: Sequence[Named], given: Mapping[str, LayerSpec], find: Find, *, said: bool
) -> list[LayerSpec]:
    """Return the layers of a job, from high to low; given ones that it does not name come first.

    Args:
        said: whether the job names the layers that are wanted; else they are of the network, also
            where a given one has the same name.

    Raises:
        InputError: some are unknown or wrong in other ways, or a given one has settings.
    """
    mistakes = Mistakes()
    found: list[LayerSpec] = []
    for layer in wanted:
        with mistakes.noted():
            is_given = said and _name(layer) in given
            found.append(_given(layer, given) if is_given else find(layer))
    mistakes.check()
    return [*(layer for layer in given.values() if layer not in found), *found]


def _given(layer: Named, given: Mapping[str, LayerSpec]) -> LayerSpec:
    """Return a layer whose vectors are given. Raises InputError: it is to have settings too."""
    if isinstance(layer, LayerSettings) and layer.model_fields_set != {"name"}:
        raise InputError(
            f"layer {layer.name} is given by vectors, and takes no settings of its own: write its "
            "name alone in network.layers"
        )
    return given[_name(layer)]


def _weights(
    settings: NetworkSettings, other: Foreign | None, file: Path | None
) -> tuple[WeightsRef, Path]:
    """Return which weights a job uses, and where they are. Raises InputError: not those named."""
    if other is None:
        reference, path = find_weights(settings.name, file)
    else:
        reference, path = weights_of(other, file)
    if settings.weights_sha256 and settings.weights_sha256 != reference.sha256:
        raise InputError(
            f"weights {path.name} have SHA-256 {reference.sha256[:12]}, the job says "
            f"{settings.weights_sha256[:12]}: give the right file or mend network.weights_sha256"
        )
    return reference, path


def check_weights(spec: ExtractionSpec, weights: Path) -> None:
    """Check that a file holds the weights of a network, as far down as its layers need them.

    Takes as long as a worker takes to open the network.

    Raises:
        InputError: it cannot be read, or belongs to another network.
    """
    from lamella.pipeline.extract.backbone import Backbone

    usual = spec.preprocess.model_copy(update={"rgb_recipe": "rgb-1"})
    # Only workers need what decodes pictures on a card.
    Backbone(spec.of_network.model_copy(update={"preprocess": usual}), weights)


def _layer(network: str, layer: LayerSettings | str) -> LayerSpec:
    settings = LayerSettings(name=layer) if isinstance(layer, str) else layer
    return _checked(
        layer,
        lambda: resolve_layer(
            network,
            settings.name,
            node=settings.node,
            kind=settings.kind,
            pool=settings.pool,
            gem_power=settings.gem_power,
            view=settings.view,
        ),
    )


def _checked(layer: LayerSettings | str, find: Callable[[], LayerSpec]) -> LayerSpec:
    """Return the layer that is found. Raises InputError: its settings do not go together."""
    try:
        return find()
    except ValidationError as error:
        raise InputError(f"layer {_name(layer)}: {explain(error)}") from None


def resolve_fusion(
    layers: tuple[LayerSpec, ...],
    settings: FusionSettings,
    calibration: tuple[LayerScale, ...] | None = None,
) -> FusionSpec:
    """Return the fusion over all layers; what is not given is that of the preset.

    Args:
        calibration: of each layer, for weights that are scaled; None where it is not yet known, and
            weights are then 1.

    Raises:
        InputError: as many t or p as layers but the last, or weights as layers, are needed; or t
            falls; or a number is out of range; or a layer to be scaled was not calibrated.
    """
    count = len(layers) - 1
    default = [*PAPER_MAPS, *[PAPER_MAPS[-1]] * count][:count]
    names = ", ".join(layer.name for layer in layers)
    for name, given in (("t", settings.t), ("p", settings.p)):
        if given and len(given) not in (count, count + 1):
            raise InputError(
                f"fusion.{name} takes one value a layer, the last may be left out; got "
                f"{len(given)} for layers {names}"
            )
    if settings.weights and len(settings.weights) != count + 1:
        raise InputError(
            f"fusion.weights takes one value a layer; got {len(settings.weights)} for layers "
            f"{names}"
        )
    t = [*(settings.t or [each[0] for each in default]), 1.0][: count + 1]
    p = [*(settings.p or [each[1] for each in default]), 1.0][: count + 1]
    weights = list(settings.weights) or [1.0] * (count + 1)
    if not settings.weights and settings.preset == "scaled" and calibration is not None:
        weights = scaled_weights(layers, calibration)
    try:
        return FusionSpec(
            layers=tuple(
                LayerMap(layer=layer.name, t=ti, p=pi, weight=wi)
                for layer, ti, pi, wi in zip(layers, t, p, weights, strict=True)
            )
        )
    except ValidationError as error:
        raise InputError(f"fusion: {explain(error)}") from None


def scaled_weights(
    layers: tuple[LayerSpec, ...], calibration: tuple[LayerScale, ...]
) -> list[float]:
    """Return the weights that bring each layer's 99.9th percentile to that of the first layer.

    In three digits, and within `SCALES`; 1 where nothing is similar, or no pair was measured.

    Raises:
        InputError: a layer was not calibrated.
    """
    high = {scale.layer: scale.high for scale in calibration}
    if not calibration:
        return [1.0] * len(layers)
    absent = [layer.name for layer in layers if layer.name not in high]
    if absent:
        raise InputError(
            f"layer {absent[0]} was not calibrated: index anew, or give fusion.weights"
        )
    first = high[layers[0].name]
    weights = []
    for layer in layers:
        ratio = first / high[layer.name] if first > 0 and high[layer.name] > 0 else 1.0
        weights.append(float(f"{min(max(ratio, SCALES[0]), SCALES[1]):.3g}"))
    return weights


def chosen_snapshot(store: Store, number: int | str | None) -> IndexSnapshot:
    """Return a snapshot by number or tag, or the promoted one.

    Raises:
        InputError: there is none.
    """
    if number is not None:
        return read_snapshot(store, snapshot_named(store, number))
    snapshot = current_snapshot(store)
    if snapshot is None:
        raise InputError(f"{store.url} holds no snapshot yet: make one with `lamella index`")
    return snapshot


def asked_fusion(
    snapshot: IndexSnapshot, job: JobConfig, names: list[str] | None = None
) -> tuple[FusionSpec, Weighting]:
    """Return the fusion and weighting asked for, the snapshot's own where nothing is said.

    Other t and p keep the snapshot's weights, and a layer alone has the weight 1.

    Args:
        names: the layers to fuse, in any order; all of the snapshot by default.

    Raises:
        UnknownLayer: the snapshot has no layer of a name.
        InputError: t, p or weights do not fit the layers, or the snapshot has no calibration.
    """
    layers = snapshot.extraction.layers
    known = [layer.name for layer in layers]
    if names is not None:
        names = layers_meant(f"snapshot {snapshot.number}", names, known)
    chosen = tuple(layer for layer in layers if names is None or layer.name in names)
    fusion, wanted = snapshot.fusion, job.fusion
    if wanted.preset == "scaled" and not (wanted.weights or snapshot.calibration):
        raise InputError(
            f"snapshot {snapshot.number} was made before layers were calibrated, or of one "
            "picture: index anew, or give fusion.weights"
        )
    named = "preset" in wanted.model_fields_set
    if named or wanted.t or wanted.p or wanted.weights or chosen != layers:
        if not (named or wanted.weights) and len(chosen) > 1:
            weight_of = {entry.layer: entry.weight for entry in fusion.layers}
            weights = tuple(weight_of[layer.name] for layer in chosen)
            wanted = wanted.model_copy(update={"weights": weights})
        fusion = resolve_fusion(chosen, wanted, snapshot.calibration)
    said = "profile" in job.model_fields_set
    return fusion, WEIGHTING_OF[job.profile] if said else snapshot.weighting
