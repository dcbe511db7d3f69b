"""What requests and answers hold; the page of the API is written from these."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr

from lamella.schemas.query import SearchMode

MOST_K = 10_000


def _listed(value: Any) -> Any:
    """Return the parts of a text with commas, as forms have it; all else as it is."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _one_or_more(value: Any) -> Any:
    return value if value is None or isinstance(value, list) else [value]


Names = Annotated[list[str] | None, BeforeValidator(_one_or_more)]
Ids = Annotated[list[int] | None, BeforeValidator(_one_or_more)]
Numbers = Annotated[list[float] | None, BeforeValidator(_listed)]


class Fused(BaseModel):
    """How layers are fused; what is left out is the snapshot's own. A form has texts: `0.2,0.4`."""

    model_config = ConfigDict(extra="forbid")

    layers: Annotated[list[str] | None, BeforeValidator(_listed)] = Field(
        None, description="Fuse these layers alone."
    )
    t: Numbers = Field(None, description="Thresholds of the maps, high layer first.")
    p: Numbers = Field(None, description="Powers of the maps, high layer first.")
    w: Numbers = Field(None, description="Weights of the layers in the sum, high layer first.")

    def arguments(self) -> dict[str, Any]:
        """Return what is said, as arguments of the index."""
        said = self.model_dump(include={*Fused.model_fields}, exclude_none=True)
        return {name: value for name, value in said.items() if value}


class Search(Fused):
    """How queries are answered."""

    k: int = Field(10, ge=1, le=MOST_K, description="How many images to return a query.")
    mode: SearchMode = Field(
        "exact",
        description="`exact` is certified; `candidates` fuses the best images of each layer, "
        "`paper` those of the high layer alone.",
    )
    recall: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Of an index with proposers, in mode candidates: what share of the exact "
        "answers is to be found, .95 by default.",
    )
    expand: int = Field(
        0, ge=0, le=100, description="Search again by the mean of each query and so many results."
    )
    exclude_self: bool = Field(
        False, description="Leave an indexed image out of its own answer, which then has k others."
    )
    above: float | None = Field(None, description="The least score of a result.")
    where: str = Field(
        "",
        max_length=10_000,
        description="Only images that this is true of are results, such as "
        '`startswith(name, "cats/")`.',
    )
    format: Literal["json", "arrow"] | None = Field(
        None,
        description="`arrow` is a stream of Arrow, a row a result; without this, the header "
        "`Accept: application/vnd.apache.arrow.stream` asks for it.",
    )

    def arguments(self) -> dict[str, Any]:
        """Return what is said, as arguments of `Index.query`."""
        said: dict[str, Any] = {"k": self.k, "mode": self.mode, "expand": self.expand}
        said |= {"exclude_self": self.exclude_self, "above": self.above, "recall": self.recall}
        return said | ({"where": self.where} if self.where else {}) | super().arguments()


class Asked(Search):
    """Queries in JSON: one of `ids`, `names` and `urls`, a single one or a list."""

    ids: Ids = Field(
        None, description="Ids of indexed images, as numbers or as texts of their digits."
    )
    names: Names = Field(
        None, description="Names of indexed images; of several of one name, the first."
    )
    urls: Names = Field(
        None,
        description="Addresses of pictures that the server fetches; each begins with one that it "
        "allows (`--allow-url`).",
    )


class Refused(BaseModel):
    """Why a picture could not be read."""

    reason: str = Field(description="A word of a closed set, such as `truncated`.")
    meaning: str = Field(description="What the word means, in a line.")
    detail: str = Field(description="What more is known; may be empty.")


class Hit(BaseModel):
    """A result. F = sum of w f(S) over the layers, and `parts` are its addends."""

    rank: int = Field(description="From 1.")
    image_id: str = Field(description="Digits: ids have 63 bits, and numbers of JavaScript 53.")
    name: str = Field(description="Relative to the source of the index.")
    score: float = Field(description="F, to the last bit.")
    similarities: dict[str, float] = Field(description="S, the cosine, by layer, high to low.")
    mapped: dict[str, float] = Field(description="f(S) by layer.")
    parts: dict[str, float] = Field(description="w f(S) by layer.")
    meta: dict[str, Any] = Field(
        description="The columns that the index keeps beside its pictures, by name; null where a "
        "value is not known."
    )


class Answer(BaseModel):
    """The answer to one query."""

    query: str = Field(description="The name of the file, the address, or the image's name.")
    image_id: str | None = Field(description="Of an indexed image that was asked for.")
    certified: bool = Field(description="Proved: no image that was left out scores better.")
    refused: Refused | None = Field(description="Set if the picture could not be read.")
    results: list[Hit] = Field(description="Best first; equal scores by id, rising.")


class FusedLayer(BaseModel):
    """A layer of a fusion: f(S) = t + (1 - t) ((S - t) / (1 - t)) ** p above t, else S."""

    layer: str
    t: float = Field(description="The threshold; 1 leaves S as it is.")
    p: float = Field(description="The power.")
    weight: float = Field(description="Of the layer in the sum.")


class Answers(BaseModel):
    """The answers of one snapshot to all queries of a request, in their order."""

    snapshot: int = Field(description="The number of the snapshot that answered.")
    root_digest: str = Field(description="What that snapshot is, as a SHA-256.")
    fusion: list[FusedLayer] = Field(description="How layers were fused, high to low.")
    answers: list[Answer]
    _kept: Any = PrivateAttr(default=())
    """The names and types of the kept columns, as a pyarrow schema."""


class Failure(BaseModel):
    """What a request that fails is told."""

    error: str = Field(description="The rule, both values, and what to do.")
    code: str = Field(
        description="wrong-request, no-such-path, no-token, wrong-host, wrong-origin, "
        "url-not-allowed, no-picture, picture-gone, too-large, too-slow, busy, stopping, "
        "unavailable or failed."
    )


class Layer(BaseModel):
    """A layer of the index."""

    name: str
    kind: str = Field(description="`global`: a vector a picture; `local`: visual words.")
    given: bool = Field(
        description="Its vectors were given for the indexed pictures: others have none in it, and "
        "are asked with other layers."
    )


class Folder(BaseModel):
    """A folder of the source."""

    name: str = Field(description="Without a slash at its end; empty for all pictures.")
    images: int = Field(description="Indexed images below it.")


class IndexFacts(BaseModel):
    """What is served."""

    snapshot: int
    root_digest: str
    published_at: str = Field(description="In UTC.")
    images: int = Field(description="Pictures of the corpus: indexed and refused.")
    indexed: int
    refused: int
    layers: list[Layer] = Field(description="High to low.")
    fusion: list[FusedLayer] = Field(description="What a query that says nothing is fused by.")
    uploads: bool = Field(description="Whether pictures from elsewhere can be asked.")
    max_upload: int = Field(description="The most bytes of a request.")
    urls: list[str] = Field(description="What addresses of pictures must begin with.")


class Health(BaseModel):
    """Whether the server answers, and what it knows to be wrong."""

    status: Literal["ok"]
    snapshot: int
    waiting: int = Field(description="Requests in the queue.")
    follows: bool = Field(description="Whether a snapshot that is promoted takes over.")
    problem: str = Field(description="Why the promoted snapshot is not served; empty if it is.")


class RandomPicture(BaseModel):
    """An indexed image, drawn at random."""

    image_id: str
    name: str
