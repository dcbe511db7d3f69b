"""What is extracted from a network: layers, preprocessing, weights. The digest keys activations."""

from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from lamella.schemas.base import FORMAT_VERSION, FormatVersion, Stored

LayerKind = Literal["local", "global"]
Pool = Literal["none", "average", "maximum", "gem", "class"]
View = Literal["whole", "crop", "warp"]
Precision = Literal["float32", "tf32", "bfloat16", "float16"]
RgbRecipe = Literal["rgb-1", "rgb-2", "torch-1"]
Resampling = Literal["pillow-bilinear-1", "pillow-bicubic-1"]


class TokenSpec(Stored):
    """What the tokens of a transformer are, an output (B, prefix + rows * columns, C).

    The first `prefix` tokens belong to no place: the class token, if there is one, then registers.
    The others are the patches of the picture, row by row, each `patch` pixels high and wide.
    """

    prefix: int = Field(ge=0, le=256)
    patch: int = Field(ge=1, le=256, description="edge of a patch in pixels of the input")


class VectorsRef(Stored):
    """Vectors that a user brings: which ones, and how many numbers each has."""

    sha256: str = Field(
        pattern=r"^([0-9a-f]{64})?$",
        description="of the names and vectors in the file, as `corpus.given_vectors` makes it; "
        "empty where the vectors are the corpus itself",
    )
    dimensions: int = Field(ge=1, le=65_536)


class LayerSpec(Stored):
    """One layer: where it is in the network and what is kept of it.

    A local layer keeps a descriptor at every position; a global one keeps a single vector: the
    output itself (fc), an output pooled over its positions, or the class token (pool "class").

    `tokens` is of a layer that gives tokens; `channels_last` of a map (B, H, W, C), where others
    are (B, C, H, W). `vectors` is of a layer that no network computes: a user brings its vectors.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")
    node: str = Field(min_length=1, description="the network's own name of the output")
    kind: LayerKind
    pool: Pool = "none"
    gem_power: float = Field(default=3.0, gt=0, description="exponent of GeM pooling")
    view: View = Field(default="whole", description="which pixels the layer sees")
    tokens: TokenSpec | None = None
    channels_last: bool = False
    vectors: VectorsRef | None = None

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what once was not there to be said: digests stay what they were."""
        value: dict[str, Any] = dump(self)
        for name in ("tokens", "channels_last", "vectors"):
            if not value.get(name):
                value.pop(name, None)
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "local" and self.pool != "none":
            raise ValueError(f"layer {self.name} is local and asks for pooling {self.pool}")
        if self.pool == "class" and (self.tokens is None or not self.tokens.prefix):
            raise ValueError(f"layer {self.name} asks for a class token, and has none")
        if self.tokens is not None and self.channels_last:
            raise ValueError(f"layer {self.name} gives tokens or a map, not both")
        if self.vectors is not None and self.kind != "global":
            raise ValueError(f"layer {self.name} has vectors of its own, and is {self.kind}")
        return self


class PreprocessSpec(Stored):
    """One fixed recipe from RGB pixels to the network's input: (pixel - mean) / std.

    The shorter edge becomes `short_edge` and the longer one keeps its proportion, rounded to a
    multiple of `long_edge_multiple` and at most `max_aspect` times the shorter. A multiple above
    1 lets pictures of many proportions share batches, and costs accuracy: .603 to .579 mAP on
    Oxford (head of EfficientNet-Lite0, roi) at 32. `recipe` names Pillow's filter, which is always
    antialiased.

    `rgb_recipe` is how pictures become RGB pixels: "rgb-1" decodes all of them; "rgb-2" decodes a
    JPEG to one for 2, 4 or 8 along each axis (libjpeg's scaled inverse cosine transform) where that
    leaves 3 times the height and width that are wanted. Other formats give the same in both.
    With "torch-1" the device of the network decodes JPEGs of the usual kinds to all pixels and
    resizes them, bilinear and antialiased too, outside the sandbox; the rest is as in "rgb-2", and
    what it cannot decode as in "rgb-1".
    """

    recipe: Resampling = "pillow-bilinear-1"
    rgb_recipe: RgbRecipe = "rgb-2"
    short_edge: int = Field(default=256, ge=16, le=4096)
    long_edge_multiple: int = Field(default=1, ge=1, le=256)
    max_aspect: float = Field(default=4.0, ge=1.0, le=16.0)
    crop: int = Field(default=224, ge=16, le=4096, description="edge of the crop and warp views")
    channel_order: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if min(self.std) <= 0:
            raise ValueError(f"std must be above 0; got {self.std}")
        if self.crop > self.short_edge:
            raise ValueError(
                f"the crop cannot exceed the short edge; got crop {self.crop}, "
                f"short edge {self.short_edge}"
            )
        return self


class WeightsRef(Stored):
    """Which weights: from the network's own source, or a file; the checksum decides.

    `library` weights came with a network of timm, open_clip or transformers, `code` weights with a
    network of the user's own code; the checksum of both is that of their copy as safetensors.
    `none` is of an index all of whose vectors were given, and has a checksum of zeros.
    """

    source: Literal["package", "torchvision", "file", "library", "code", "none"]
    name: str = Field(description="the file's name without its folder, for people")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class ExtractionSpec(Stored):
    """Everything that decides activations, for one kind of machine: see the promise in FORMAT.md.

    The batch size belongs to it: the last bits of a forward pass depend on the batch's shape.

    So does the precision. `float32` is full precision, on GPUs too; with `tf32` a GPU cuts the
    factors of float32 products to 11 bits, and a CPU computes float32; the others keep weights and
    activations in half the bytes. Stored types are the same for every precision.
    """

    format_version: FormatVersion = FORMAT_VERSION
    network: str
    weights: WeightsRef
    preprocess: PreprocessSpec
    layers: tuple[LayerSpec, ...] = Field(min_length=1, description="from high to low")
    batch_size: int = Field(default=1, ge=1, le=1024)
    precision: Precision = "float32"

    @model_serializer(mode="wrap")
    def _without_the_default(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave float32 out, as before there was a choice: its digests stay what they were."""
        value: dict[str, Any] = dump(self)
        if value.get("precision") == "float32":
            del value["precision"]
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [layer.name for layer in self.layers]
        if len(set(names)) != len(names):
            raise ValueError(f"each layer needs its own name; got {', '.join(names)}")
        return self

    @property
    def computed(self) -> tuple[LayerSpec, ...]:
        """The layers that the network computes, from high to low."""
        return tuple(layer for layer in self.layers if layer.vectors is None)

    @property
    def given(self) -> tuple[LayerSpec, ...]:
        """The layers whose vectors a user brings, from high to low."""
        return tuple(layer for layer in self.layers if layer.vectors is not None)

    @property
    def of_network(self) -> "ExtractionSpec":
        """The same without given layers: what a network computes; no layer if all are given."""
        return self.model_copy(update={"layers": self.computed}) if self.given else self

    @property
    def is_corpus(self) -> bool:
        """Whether the corpus itself consists of given vectors, without pictures."""
        return any(layer.vectors is not None and not layer.vectors.sha256 for layer in self.layers)

    def is_like(self, other: "ExtractionSpec") -> bool:
        """Say whether both compute the same of a picture, whatever vectors are given beside it."""
        return self.of_network == other.of_network

    def layer(self, name: str) -> LayerSpec:
        """Return the layer of that name; KeyError if there is none."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)
