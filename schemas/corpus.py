"""What a corpus is: its images in order, cut into shards, with a reason for each refused one."""

from typing import Annotated, Any, Self

import pyarrow as pa
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from lamella.schemas.base import FORMAT_VERSION, FormatVersion, Record, Stored
from lamella.schemas.files import FileRef

SourceKind = Annotated[
    str,
    Field(
        pattern=r"^(folder|list|webdataset|vectors|parquet(:[^\x00-\x1f]{1,512})?|"
        r"several:\{[^\x00-\x1f]+\})$"
    ),
]
"""How entries are read. `vectors` has no pictures: its entries are the names in a file of vectors.
`parquet:NAME` has its pictures in the column of that name; `several:` is
followed by a JSON object with the kind of each source by its name."""


IMAGES: Any = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("container", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("size_bytes", pa.int64()),
        pa.field("sha256", pa.binary(32)),
        pa.field("format", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("refusal", pa.string()),
        pa.field("detail", pa.string(), nullable=False),
    ]
)
"""One row an image, in the order of the listing; a refused one keeps its row.

`image_id` is made by `corpus.identity`: of the image's name, container and bytes, not of its place.
`container` is "" for a plain file, else the tar or Parquet file, relative to the corpus's root;
`offset` is the byte where the data starts in a tar, or the row in a Parquet file. `width` and
`height` are those after EXIF orientation. `size_bytes` and `sha256` are null where the bytes
could not be read, `format` where it is not known, `width` and `height` where refused. Of a corpus
of vectors the bytes are the vector's as little-endian float32, `format` is "vector", `width` how
many numbers it has, and `height` 1. `refusal` is a `RefusalReason`, null where the header was read
without fault; `detail` says more, or is "".
"""


SEEN: Any = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("container", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("version", pa.int64()),
        pa.field("occurrence", pa.int32(), nullable=False),
        pa.field("row", pa.int32()),
        pa.field("passed_over", pa.string()),
    ]
)
"""One row an entry of a shard, as it was listed when it was last read: see `listing.Entry`.

`version` is null where the entry may have changed unnoticed, so that it is read again. `row` is its
row in the image table, null for a file that is no picture; `passed_over` is the kind of such a one.
An entry that comes again with the same facts is not read again.
"""


class ShardRef(Stored):
    """One shard of the corpus: `images` rows of its file, `refused` of them refused.

    `key` is made from the image table, so a shard with other pictures has another key, and the same
    pictures have the same key in every corpus. `ignored` counts the files between them that are no
    pictures and got no id. `first` and `last` are the places of its first and last entry, as
    `Entry.place` gives them, and `mark` is the number that ends shards and segments; see
    `corpus.cut`. `columns` is the table of the columns that are kept beside the images, a row for
    each of them in the same order; then `key` is made from it too.

    Raises:
        ValueError: more images refused than there are, or a file with another number of rows.
    """

    key: str = Field(pattern=r"^[0-9a-f]{16}$")
    images: int = Field(ge=0)
    refused: int = Field(ge=0)
    ignored: int = Field(ge=0)
    file: FileRef
    columns: FileRef | None = None
    first: str
    last: str
    mark: int = Field(ge=0)

    @model_serializer(mode="wrap")
    def _without_columns(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave no columns out, as before any could be kept: records stay what they were."""
        value: dict[str, Any] = dump(self)
        if self.columns is None:
            value.pop("columns", None)
        return value

    @property
    def files(self) -> tuple[FileRef, ...]:
        """The image table, and the kept columns if there are any."""
        return (self.file,) if self.columns is None else (self.file, self.columns)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.refused > self.images:
            raise ValueError(f"shard {self.key} refuses {self.refused} of {self.images} images")
        for file in self.files:
            if file.rows != self.images:
                raise ValueError(
                    f"shard {self.key} has {self.images} images, {file.path} {file.rows} rows"
                )
        return self


class CorpusManifest(Record):
    """A corpus: the partition into shards that every later stage keeps.

    `images` counts every image with an id, the refused ones among them. `content_digest` is over
    the image tables, so it changes when any name, place or content does. `passed_over` counts by
    kind the ignored files and what was not listed at all; it is in no digest. `listed_at` is when
    the source was listed, in UTC; `unsure` counts the entries that may have changed unnoticed since
    they were read.

    Raises:
        ValueError: shards that do not add up to the totals.
    """

    format_version: FormatVersion = FORMAT_VERSION
    name: str = Field(min_length=1)
    root: str
    kind: SourceKind
    shards: tuple[ShardRef, ...]
    images: int = Field(ge=0)
    refused: int = Field(ge=0)
    ignored: int = Field(ge=0)
    passed_over: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    content_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    listed_at: str = ""
    unsure: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for field in ("images", "refused", "ignored"):
            total = sum(getattr(shard, field) for shard in self.shards)
            if total != getattr(self, field):
                raise ValueError(f"{field} is {getattr(self, field)}; the shards add up to {total}")
        return self
