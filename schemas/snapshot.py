"""The snapshot: one immutable record of an index, with one root digest; and its promotion."""

from collections.abc import Iterator
from typing import Any, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from lamella.schemas.base import FORMAT_VERSION, FormatVersion, Record, Stored, digest_of
from lamella.schemas.corpus import ShardRef, SourceKind
from lamella.schemas.extraction import ExtractionSpec
from lamella.schemas.files import FileRef
from lamella.schemas.query import FusionSpec, ProposerKind, Weighting
from lamella.schemas.vocabulary import Vocabulary


class LayerScale(Stored):
    """How similar random pairs of pictures are in one layer, as `search.calibrate` measured it.

    Attributes:
        median, high: the median and the 99.9th percentile of the similarities.
        pairs: how many pairs these are of.
    """

    layer: str
    median: float = Field(ge=0.0, le=1.0)
    high: float = Field(ge=0.0, le=1.0)
    pairs: int = Field(ge=1)


class Reach(Stored):
    """How far proposers look, and what share of exact answers they then found.

    Attributes:
        recall: the mean share that was found, less its standard error.
        cells: cells that are looked into (ivf), or entries of the search list (hnsw, cagra).
        proposed: images that a layer proposes at most, over all segments.
        postings: entries of posting lists that are read of a local layer, over all segments.
        decided: of all images that were proposed, how many are scored in all layers.
    """

    recall: float = Field(ge=0.0, le=1.0)
    cells: int = Field(ge=1)
    proposed: int = Field(ge=1)
    postings: int = Field(ge=0)
    decided: int = Field(ge=1)


class Proposers(Stored):
    """What proposes images in the segments of a snapshot, as it was measured when it was made.

    Attributes:
        kind: what the segments have, as `LAYER.proposer`.
        faiss: the version of FAISS that built it; not in the root digest.
        cells: how many cells all segments share; 0 where there are none.
        frames: what all segments share, as `LAYER.axes` and, with cells, `LAYER.centres`.
        k, queries: what was asked to measure: the k best of so many images of the index.
        reaches: from near to far, with rising recall.
    """

    kind: ProposerKind
    faiss: str
    cells: int = Field(ge=0)
    frames: dict[str, FileRef] = Field(default_factory=dict)
    k: int = Field(ge=1)
    queries: int = Field(ge=0)
    reaches: tuple[Reach, ...]

    def content(self) -> dict[str, object]:
        """Return what proposes and how well, whichever FAISS and whichever attempt made it."""
        value = self.model_dump(mode="json", exclude={"faiss", "frames"})
        return value | {"frames": {n: file.content() for n, file in sorted(self.frames.items())}}


class Tuning(Record):
    """The reaches that were measured for an index before it was published.

    Attributes:
        draft: the root digest that the index had before they were known.
        k, queries, reaches: as in `Proposers`.
    """

    format_version: FormatVersion = FORMAT_VERSION
    draft: str = Field(pattern=r"^[0-9a-f]{64}$")
    k: int = Field(ge=1)
    queries: int = Field(ge=0)
    reaches: tuple[Reach, ...] = Field(min_length=1)


class SegmentManifest(Record):
    """The shards of a segment, in order; written once, beside the segment."""

    format_version: FormatVersion = FORMAT_VERSION
    key: str = Field(pattern=r"^[0-9a-f]{16}$")
    shards: tuple[ShardRef, ...] = Field(min_length=1)


class SegmentRef(Stored):
    """Shards indexed together: all layers of their images.

    `key` is made from what the shards hold; they are listed in the segment's manifest, `manifest`.
    `files` are named `images`, for a global layer `LAYER.dense`, `LAYER.sketch` and `LAYER.axes`,
    for a local one `LAYER.postings`, `LAYER.frequencies` and `LAYER.bags`, with residuals
    `LAYER.payload` too, and for all `LAYER.drawn`; a global layer has `LAYER.proposer` where the
    index was asked for proposers.
    """

    key: str = Field(pattern=r"^[0-9a-f]{16}$")
    manifest: str
    images: int = Field(ge=0)
    files: dict[str, FileRef]

    def content(self) -> dict[str, object]:
        """Return what the segment holds, whichever attempt wrote it."""
        files = {name: file.content() for name, file in sorted(self.files.items())}
        return {"key": self.key, "files": files}


class IndexSnapshot(Record):
    """Everything that a query needs, by reference, and the account of every image.

    `root_digest` covers what the index is and not how or when it was made: names of attempts, the
    number and the time stay out. The promise in FORMAT.md says when digests are equal.

    Raises:
        ValueError: images are not all indexed or refused, or the root digest is another.
    """

    format_version: FormatVersion = FORMAT_VERSION
    number: int = Field(ge=1)
    published_at: str
    listed_at: str = Field(
        default="", description="when its source was listed, in UTC; not in the root digest"
    )
    corpus: str
    kind: SourceKind
    root: str = Field(description="where the source was; not in the root digest")
    job: str = Field(
        default="", description="path of the record of the job; not in the root digest"
    )
    corpus_content: str
    keeps_descriptors: bool = Field(
        description="whether local descriptors were stored, and not their words alone; not in the "
        "root digest"
    )
    extraction: ExtractionSpec
    vocabularies: dict[str, Vocabulary]
    segments: tuple[SegmentRef, ...]
    document_frequencies: dict[str, FileRef]
    weighting: Weighting
    fusion: FusionSpec
    calibration: tuple[LayerScale, ...] = Field(
        default=(), description="one a layer; empty where no two pictures could be compared"
    )
    images: int = Field(ge=0)
    indexed: int = Field(ge=0)
    refused: int = Field(ge=0)
    refused_by_reason: dict[str, int]
    ignored: int = Field(ge=0)
    machine: str = Field(
        default="",
        description="kinds of machine that features were extracted on; not in the root digest",
    )
    proposers: Proposers | None = Field(
        default=None, description="what proposes images in mode candidates; None where nothing does"
    )
    root_digest: str = ""

    @model_serializer(mode="wrap")
    def _without_the_default(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what most snapshots do not have."""
        value: dict[str, Any] = dump(self)
        if self.proposers is None:
            value.pop("proposers", None)
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.indexed + self.refused != self.images:
            raise ValueError(
                f"{self.indexed} indexed + {self.refused} refused is not {self.images} images"
            )
        if sum(self.refused_by_reason.values()) != self.refused:
            raise ValueError("the refusals by reason do not add up to the refused images")
        expected = self.content_digest()
        if not self.root_digest:
            object.__setattr__(self, "root_digest", expected)
        elif self.root_digest != expected:
            raise ValueError(
                f"root digest {self.root_digest[:12]} is not that of the contents, {expected[:12]}"
            )
        return self

    def files(self) -> Iterator[FileRef]:
        """Yield every file that queries may need, but the image tables: see `index.shards`."""
        for vocabulary in self.vocabularies.values():
            yield from vocabulary.files()
        for segment in self.segments:
            yield from segment.files.values()
        yield from self.document_frequencies.values()
        if self.proposers is not None:
            yield from self.proposers.frames.values()

    def content_digest(self) -> str:
        """Return the digest of what the index is."""
        scales = [scale.model_dump(mode="json") for scale in self.calibration]
        return digest_of(
            ({"calibration": scales} if scales else {})
            | ({} if self.proposers is None else {"proposers": self.proposers.content()})
            | {
                "format": self.format_version,
                "corpus": self.corpus_content,
                "extraction": self.extraction.digest(),
                "vocabularies": {k: v.identity() for k, v in sorted(self.vocabularies.items())},
                "segments": [segment.content() for segment in self.segments],
                "frequencies": {
                    name: file.content() for name, file in self.document_frequencies.items()
                },
                "weighting": self.weighting,
                "fusion": self.fusion.model_dump(mode="json"),
                "counts": [self.images, self.indexed, self.refused, self.ignored],
            }
        )


class Promotion(Record):
    """Names the snapshot that queries use; the promotion with the highest number counts.

    Attributes:
        held: whether it is a hold: only a person may put another promotion after it.
        forced: whether it was made in spite of the gate, an order or a hold.
        reason: why it was made, for people.
    """

    format_version: FormatVersion = FORMAT_VERSION
    number: int = Field(ge=1)
    snapshot: int = Field(ge=1)
    root_digest: str = Field(default="", description="of the snapshot, to know it by if it is lost")
    promoted_at: str
    commit_id: str
    listed_at: str = Field(
        default="", description="when the source was listed, in UTC; empty where it is not known"
    )
    held: bool = False
    forced: bool = False
    reason: str = ""
