"""A job's settings, as a person writes them in TOML; everything has a default."""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from lamella.schemas.base import Stored
from lamella.schemas.extraction import LayerKind, Pool, Precision, Resampling, RgbRecipe, View
from lamella.schemas.gate import GateSettings
from lamella.schemas.query import ProposerKind, SearchMode, Weighting
from lamella.schemas.vocabulary import (
    EncodingKind,
    EncodingSpec,
    ProjectionSpec,
    ResidualKind,
    VocabularySpec,
)

Profile = Literal["paper", "production"]
Preset = Literal["published", "scaled"]
Keep = Literal["all", "none"]
EngineKind = Literal["ray", "serial"]
ProductKind = Literal["float32", "bfloat16", "int8"]
WEIGHTING_OF: dict[Profile, Weighting] = {"paper": "tf", "production": "tf-idf"}


class CorpusSettings(Stored):
    """How a source is cut, and what one picture may cost."""

    shard_images: int | None = Field(
        default=None, ge=1, le=100_000, description="chosen from the corpus's size by default"
    )
    max_refused: float = Field(
        default=0.1, ge=0, le=1, description="share of refused pictures above which a job stops"
    )
    max_pixels: int = Field(default=100_000_000, ge=1, le=178_956_970)
    max_bytes: int = Field(default=256 * 2**20, ge=1)
    max_seconds: float = Field(default=30.0, gt=0, le=3600, description="of processor time")
    max_memory: int = Field(default=3 * 2**30, ge=2**20, description="bytes, while it is decoded")
    column: str | None = Field(
        default=None,
        pattern=r"^[^\x00-\x1f]{1,512}$",
        description="of a Parquet source, the column that holds the pictures",
    )
    columns: tuple[Annotated[str, Field(pattern=r"^[^\x00-\x1f]{1,512}$")], ...] = Field(
        default=(), description="of Parquet sources, the columns that are kept beside the pictures"
    )

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what once was not there to be said: digests stay what they were."""
        value: dict[str, Any] = dump(self)
        for name in ("column", "columns"):
            if not value.get(name):
                value.pop(name, None)
        return value


class EncodingSettings(Stored):
    """What differs from the profile's encoding; see `EncodingSpec`."""

    kind: EncodingKind | None = None
    nearest: int | None = Field(default=None, ge=1, le=16)
    power: float | None = Field(default=None, gt=0.0, le=1.0, allow_inf_nan=False)
    residuals: ResidualKind | None = None

    def over(self, other: "EncodingSettings") -> "EncodingSettings":
        """Return these settings, and others where these say nothing."""
        said = self.model_dump(exclude_none=True)
        return other.model_copy(update=said) if said else other

    def spec(self) -> EncodingSpec:
        """Return the encoding, plain where nothing is said."""
        return EncodingSpec(**self.model_dump(exclude_none=True))


class LayerSettings(Stored):
    """A layer, by its short name or its node; what is left out comes from the network.

    `words`, `projection` and `encoding` are those of this local layer, where it is not to have
    those of the job.
    """

    name: str
    node: str | None = None
    kind: LayerKind | None = None
    pool: Pool | None = None
    gem_power: float = Field(default=3.0, gt=0)
    view: View | None = None
    words: int | None = Field(default=None, ge=1, le=1 << 24)
    projection: ProjectionSpec | None = None
    encoding: EncodingSettings = EncodingSettings()


class PreprocessSettings(Stored):
    """What differs from the network's own recipe."""

    recipe: Resampling | None = None
    rgb_recipe: RgbRecipe | None = None
    short_edge: int | None = None
    long_edge_multiple: int | None = None
    max_aspect: float | None = None
    crop: int | None = None
    channel_order: Literal["rgb", "bgr"] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    @model_serializer(mode="wrap")
    def _without_the_default(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what once was not there to be said: digests stay what they were."""
        value: dict[str, Any] = dump(self)
        if value.get("recipe") is None:
            value.pop("recipe", None)
        return value


class NetworkSettings(Stored):
    """Which network sees the pictures, and which of its layers are kept, from high to low."""

    name: str = "efficientnet_lite0"
    weights: str | None = Field(default=None, description="a local .safetensors or .pth file")
    weights_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    layers: tuple[LayerSettings | str, ...] = ()
    batch_size: int = Field(default=1, ge=1, le=1024)
    precision: Precision = "float32"
    preprocess: PreprocessSettings = PreprocessSettings()


class VectorSettings(Stored):
    """A layer whose vectors a user brings: its name, and the file that has a vector a picture."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")
    file: str = Field(min_length=1, description="Parquet, Arrow, .npy or .npz, or a folder of such")


class ActivationSettings(Stored):
    """What is kept of the local layers: their descriptors (`all`), or their words alone (`none`).

    Left out, descriptors are kept only if words are to be trained on them.
    """

    keep: Keep | None = None


class FusionSettings(Stored):
    """t and p of each layer but the last, and the weights of all, high to low.

    What is left out comes from the preset: `published` has the paper's t and p, and weights of 1;
    `scaled` has the paper's t and p too, and weights that bring the 99.9th percentile of each
    layer's similarities between random pictures to that of the highest layer. A preset may stand
    for the whole table: `fusion = "scaled"`.
    """

    preset: Preset = "published"
    t: tuple[float, ...] = ()
    p: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"preset": value} if isinstance(value, str) else value


class IndexSettings(Stored):
    """How segments are cut, which changes no exact answer; and what proposes pictures in them."""

    segment_images: int = Field(default=20_000, ge=1)
    proposer: ProposerKind = Field(
        default="none",
        description='what `search.mode = "candidates"` finds likely pictures by, without a look at '
        "all; FAISS builds it",
    )

    @model_serializer(mode="wrap")
    def _without_the_default(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what once was not there to be said: digests stay what they were."""
        value: dict[str, Any] = dump(self)
        if value.get("proposer") == "none":
            value.pop("proposer")
        return value


class SearchSettings(Stored):
    """How queries are answered."""

    k: int = Field(default=100, ge=1, le=1_000_000)
    mode: SearchMode = "exact"
    candidates: int = Field(
        default=1_000, ge=1, description="proposed by a layer where the index has no proposer"
    )
    recall: float | None = Field(
        default=None,
        gt=0.0,
        lt=1.0,
        description="share of the exact answer that an index with a proposer is to find in mode "
        "candidates; .95 by default",
    )
    batch_queries: int = Field(default=64, ge=1, le=10_000)
    expand: int = Field(
        default=0, ge=0, le=100, description="best pictures that a query is averaged with"
    )
    exclude_self: bool = Field(
        default=False, description="an indexed picture is no answer to itself"
    )
    above: float | None = Field(
        default=None, ge=0, description="only pictures of at least this score are answers"
    )
    where: str | None = Field(
        default=None,
        min_length=1,
        max_length=10_000,
        description='only pictures that this is true of are answers: year >= 2020 and lens == "50"',
    )

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what once was not there to be said: digests stay what they were."""
        value: dict[str, Any] = dump(self)
        for name in ("expand", "exclude_self", "above", "where", "recall"):
            if value.get(name) in (None, 0, False):
                value.pop(name, None)
        return value


class EngineSettings(Stored):
    """Where the work is done; no setting here changes what is stored on one kind of machine."""

    kind: EngineKind = "ray"
    address: str | None = None
    workers: int | None = Field(default=None, ge=1)
    cpus_per_worker: int | None = Field(
        default=None,
        ge=1,
        description="and its threads; by default one, but in stages with a network up to four, "
        "or on GPUs all CPUs that there are for each",
    )
    task_timeout_s: float = Field(
        default=3600.0, gt=0, description="how long a task may give no sign of progress"
    )
    start_timeout_s: float = Field(
        default=180.0,
        gt=0,
        description="how long a cluster without room for any worker is waited for",
    )
    search_on: Literal["auto", "cpu", "gpu"] = Field(
        default="auto", description="what leaves images out; auto is GPUs where there are any"
    )
    products: ProductKind | Literal["auto"] = Field(
        default="auto",
        description="numbers of the products that propose on CPUs, which change no answer; auto is "
        "what is fastest on the CPU",
    )

    @model_serializer(mode="wrap")
    def _without_the_default(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the default out, as before it could be set: records stay what they were."""
        value: dict[str, Any] = dump(self)
        for name, default in (("start_timeout_s", 180.0), ("products", "auto")):
            if value.get(name) == default:
                value.pop(name)
        return value


class JobConfig(Stored):
    """All settings of a job.

    The profile decides what is left out: `production` has the layers, the encoding and the fusion
    that answer best, `paper` those of Yu et al. 2017.
    """

    name: str | None = Field(default=None, description="of the corpus; the source's by default")
    profile: Profile = "production"
    corpus: CorpusSettings = CorpusSettings()
    network: NetworkSettings = NetworkSettings()
    vectors: tuple[VectorSettings, ...] = Field(
        default=(), description="layers whose vectors are given, before those of the network"
    )
    vocabulary: VocabularySpec = VocabularySpec()
    encoding: EncodingSettings = EncodingSettings()
    vocabulary_from: str | None = Field(
        default=None, description="a folder of exported words, to use instead of training"
    )
    activations: ActivationSettings = ActivationSettings()
    fusion: FusionSettings = FusionSettings()
    index: IndexSettings = IndexSettings()
    search: SearchSettings = SearchSettings()
    gate: GateSettings = GateSettings()
    engine: EngineSettings = EngineSettings()

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what once was not there to be said: digests stay what they were."""
        value: dict[str, Any] = dump(self)
        if self.gate == GateSettings():
            value.pop("gate", None)
        if not self.vectors:
            value.pop("vectors", None)
        return value

    def vocabulary_of(self, layer: str) -> VocabularySpec:
        """Return what decides the words of a local layer."""
        own = self._own(layer)
        said = {"words": own.words, "projection": own.projection}
        given = {name: value for name, value in said.items() if value is not None}
        return self.vocabulary.model_copy(update=given) if given else self.vocabulary

    def encoding_of(self, layer: str) -> EncodingSpec:
        """Return how pictures are described in a local layer."""
        return self._own(layer).encoding.over(self.encoding).spec()

    def _own(self, layer: str) -> LayerSettings:
        named = [each for each in self.network.layers if isinstance(each, LayerSettings)]
        return next((each for each in named if each.name == layer), LayerSettings(name=layer))
