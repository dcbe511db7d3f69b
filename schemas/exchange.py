"""An exported vocabulary: the JSON beside its arrays."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lamella.schemas.base import Stored, digest_of
from lamella.schemas.extraction import LayerKind, Pool, TokenSpec, View
from lamella.schemas.vocabulary import VocabularyHealth

EXCHANGE_FORMAT: Literal["lamella-vocabulary-1"] = "lamella-vocabulary-1"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Word = Annotated[str, Field(min_length=1, max_length=200)]


class SeenRecipe(Stored):
    """How pixels become a network's input in one view.

    The fields of `PreprocessSpec`; those that the view does not look at are left out.
    """

    recipe: Word
    rgb_recipe: Word
    short_edge: int | None = None
    long_edge_multiple: int | None = None
    max_aspect: float | None = None
    crop: int | None = None
    channel_order: Literal["rgb", "bgr"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class OutputRecipe(Stored):
    """Which output of the network is kept, and of which view.

    The fields of `LayerSpec` but its name; `gem_power` only where the pooling is GeM, `tokens` and
    `channels_last` only of layers that give such.
    """

    node: Word
    kind: LayerKind
    pool: Pool
    gem_power: float | None = None
    view: View
    tokens: TokenSpec | None = None
    channels_last: Literal[True] | None = None


class DescriptorRecipe(Stored):
    """All that decides a picture's descriptors, except the last bits, which depend on the batch.

    `descriptor` names what is done to a layer's output; another treatment gets another name.
    """

    descriptor: Word = "unit-float16-1"
    network: Word
    weights: Sha256
    layer: OutputRecipe
    preprocess: SeenRecipe

    def content(self) -> dict[str, object]:
        """Return the recipe as a JSON value, without what does not apply."""
        return self.model_dump(mode="json", exclude_none=True)

    def digest(self) -> str:
        """Return the SHA-256, in hex, of the canonical JSON of `content`."""
        return digest_of(self.content())


class ExchangedFile(Stored):
    """An array in the same folder: its plain name, and what it must be."""

    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,119}\.npy$")
    sha256: Sha256


class ExchangedProjection(Stored):
    """Files of a mean, float64 (D,), and a matrix, float64 (D, d); d is the words' `dimensions`."""

    descriptor_dimensions: int = Field(ge=1, le=65_536)
    explained: float = Field(ge=0.0, le=1.0)
    mean: ExchangedFile
    matrix: ExchangedFile


class ExchangedCells(Stored):
    """Files of the centres, float32 (C, d), and the cell of each word, uint32 (K,)."""

    count: int = Field(ge=1, le=1 << 24)
    probes: int = Field(ge=1, le=1 << 24)
    centres: ExchangedFile
    owners: ExchangedFile


class Provenance(Stored):
    """Where the words came from: digests of the vocabulary, its spec and its extraction."""

    vocabulary: str
    spec: str
    extraction: str
    words_requested: int = Field(ge=1)
    rounds: int = Field(ge=0)
    imported: bool = False


class ExchangedVocabulary(Stored):
    """The visual words of one layer, for another store.

    Words that another tool made leave out `recipe_digest`, `health` and `provenance`. Left out,
    `projection` and `cells` mean that descriptors are compared as they are, and with all words.

    Raises:
        ValueError: the digest is not that of the recipe, or there are more cells than words.
    """

    format: Literal["lamella-vocabulary-1"]
    layer: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")
    words: int = Field(ge=1, le=1 << 24)
    dimensions: int = Field(ge=1, le=65_536)
    centroids: ExchangedFile
    projection: ExchangedProjection | None = None
    cells: ExchangedCells | None = None
    recipe: DescriptorRecipe
    recipe_digest: Sha256 | None = None
    health: VocabularyHealth | None = None
    provenance: Provenance | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        found = self.recipe.digest()
        if self.recipe_digest not in (None, found):
            raise ValueError(
                f"recipe_digest is that of the recipe; it is {str(self.recipe_digest)[:12]}, and "
                f"the recipe has {found[:12]}"
            )
        if self.cells is not None and self.cells.count > self.words:
            raise ValueError(
                f"there is at most one cell a word; got {self.cells.count:,} for {self.words:,}"
            )
        return self
