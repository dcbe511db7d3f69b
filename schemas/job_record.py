"""The record of a job: all that is needed to do any part of it again."""

from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from lamella.schemas.base import FORMAT_VERSION, FormatVersion, Record
from lamella.schemas.extraction import ExtractionSpec
from lamella.schemas.job import JobConfig


class JobRecord(Record):
    """The request for an index, written once before any other file of the job.

    `source` and the weights' path are those of the machine that ran it; `job` holds the settings
    without the engine's, which change no bit. `corpus_inputs` is the digest that names the
    corpus's folder, `entries` how many files the source listed. `imports` has the SHA-256 of the
    JSON of the words of each layer that were taken from elsewhere, `kept` the path of the record
    of each layer's words that an earlier snapshot of this store has. Where the index gets
    proposers, `faiss` is the version of FAISS that builds them, and `frames` has the path of the
    done record of each layer's frame that an earlier snapshot has.
    """

    format_version: FormatVersion = FORMAT_VERSION
    name: str = Field(min_length=1)
    source: str = Field(min_length=1)
    corpus_inputs: str = Field(pattern=r"^[0-9a-f]{64}$")
    entries: int = Field(ge=0)
    shard_images: int = Field(ge=1)
    extraction: ExtractionSpec
    job: JobConfig
    imports: dict[str, str] = Field(default_factory=dict)
    kept: dict[str, str] = Field(default_factory=dict)
    faiss: str = ""
    frames: dict[str, str] = Field(default_factory=dict)

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what once was not there to be said: digests stay what they were."""
        value: dict[str, Any] = dump(self)
        for name in ("faiss", "frames"):
            if not value.get(name):
                value.pop(name, None)
        return value
