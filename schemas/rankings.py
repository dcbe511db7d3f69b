"""Rankings as they are stored, and the record of a run."""

from collections.abc import Sequence
from typing import Any, Literal, Self

import pyarrow as pa
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from lamella.schemas.base import FORMAT_VERSION, FormatVersion, Record
from lamella.schemas.files import FileRef
from lamella.schemas.query import FusionSpec, SearchMode, Weighting
from lamella.schemas.snapshot import Reach


def rankings_schema(layers: Sequence[str]) -> Any:
    """Return the schema of rankings: one row a query and rank, similarities as `S.LAYER`."""
    return pa.schema(
        [
            pa.field("query", pa.int64(), nullable=False),
            pa.field("query_name", pa.string(), nullable=False),
            pa.field("rank", pa.int32(), nullable=False),
            pa.field("image_id", pa.int64(), nullable=False),
            pa.field("name", pa.string(), nullable=False),
            pa.field("score", pa.float64(), nullable=False),
            *(pa.field(f"S.{layer}", pa.float64(), nullable=False) for layer in layers),
            pa.field("certified", pa.bool_(), nullable=False),
        ]
    )


def query_refusals_schema() -> Any:
    """Return the schema of query pictures that could not be read."""
    return pa.schema(
        [
            pa.field("query", pa.int64(), nullable=False),
            pa.field("name", pa.string(), nullable=False),
            pa.field("reason", pa.string(), nullable=False),
            pa.field("detail", pa.string(), nullable=False),
        ]
    )


class QueryRun(Record):
    """The queries of a run, their snapshot, and its files; created when all batches are done.

    `query` in its tables is the number of a query picture in its source, or of a vector in its
    file, counted from 0, or the image id of an indexed one, as `asked` says. Ranks are counted from
    1. `certified` counts queries whose answers are proved complete. Without that proof, some
    queries of each batch are audited, that is answered exactly too: `audit_wanted` counts the
    images of those answers, `audit_found` how many of them the run has. With `expand`, every query
    was averaged with so many of its best pictures, and all of this is said of the answers to the
    expanded queries. Where proposers found the images, `target` is the share of the exact answers
    that they were asked to find, and `reach` how far they looked.

    Raises:
        ValueError: not every query is answered or refused.
    """

    format_version: FormatVersion = FORMAT_VERSION
    run: str
    inputs: str = Field(description="digest of the snapshot, the queries and the settings")
    snapshot: str = Field(description="root digest")
    asked: Literal["pictures", "images"]
    fusion: FusionSpec
    weighting: Weighting
    mode: SearchMode
    k: int = Field(ge=1, description="as asked: there may be fewer images than that")
    expand: int = Field(default=0, ge=0, description="best pictures that a query was averaged with")
    images: int = Field(ge=0, description="of the snapshot, in each ranking if k reaches so far")
    queries: int = Field(ge=0)
    answered: int = Field(ge=0)
    refused: int = Field(ge=0)
    certified: int = Field(ge=0)
    audited: int = Field(default=0, ge=0)
    audit_wanted: int = Field(default=0, ge=0)
    audit_found: int = Field(default=0, ge=0)
    exclude_self: bool = Field(default=False, description="no picture is in its own ranking")
    above: float | None = Field(default=None, description="the least score of an answer, if any")
    where: str | None = Field(default=None, description="what is true of all answers, if anything")
    target: float | None = Field(default=None, description="the recall asked of proposers, if any")
    reach: Reach | None = Field(default=None, description="how far they looked")
    rankings: tuple[FileRef, ...] = Field(description="one a batch, in order")
    refusals: tuple[FileRef, ...] = Field(description="of the batches that have any, in order")

    @property
    def longest(self) -> int:
        """The most images that a ranking can hold."""
        return min(self.k, max(self.images - self.exclude_self, 0))

    @property
    def recall(self) -> float | None:
        """The share of the exact answers that was found, None where nothing was audited."""
        return self.audit_found / self.audit_wanted if self.audit_wanted else None

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what once was not there to be said: records stay what they were."""
        value: dict[str, Any] = dump(self)
        for name in ("expand", "exclude_self", "above", "where", "target", "reach"):
            if value.get(name) in (None, 0, False):
                value.pop(name, None)
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.answered + self.refused != self.queries:
            raise ValueError(
                f"{self.answered} answered + {self.refused} refused is not {self.queries} queries"
            )
        return self
