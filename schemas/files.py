"""References to stored files, and the done record that makes a task's files exist."""

from collections.abc import Collection
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from lamella.schemas.base import FORMAT_VERSION, FormatVersion, Record, Stored

PASSED_OVER = "passed over: "
"""Begins the name of a count of what a task passed over; a kind follows."""

TAKEN = "taken over: "
"""Begins the name of a count of what was at hand from an earlier index, and not made again."""

ROWS = "rows."
"""Begins the name of a count of a layer's descriptors that went through the network."""

ERROR, MEASURED = "error.", "measured."
"""Begin the names of a layer's summed squared distance to its words, and of its descriptors."""

_SAFE_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]*"


class FileRef(Stored):
    """A committed file: where it is, and what it must be."""

    path: str = Field(pattern=rf"^{_SAFE_NAME}(/{_SAFE_NAME})*$")
    size_bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    rows: int = Field(default=0, ge=0)

    def content(self) -> dict[str, object]:
        """Return what the file holds, without its name: equal for every attempt that made it."""
        return {"size_bytes": self.size_bytes, "sha256": self.sha256, "rows": self.rows}


class DoneRecord(Record):
    """The last file a task creates; only through it do the task's other files exist.

    Every attempt draws a new `commit_id`, so that a writer who lost the reply can tell its own
    record from another's. `gc --intermediate` moves files from `files` to `freed` and removes them:
    the task is done all the same, and whoever needs such a file has it made again.
    """

    format_version: FormatVersion = FORMAT_VERSION
    stage: str
    key: str
    inputs: str = Field(description="digest of everything the task read and was told")
    files: dict[str, FileRef] = Field(default_factory=dict)
    counts: dict[str, int] = Field(default_factory=dict)
    commit_id: str
    machine: str = Field(
        default="", description="kind of machine that features were extracted on; in no digest"
    )
    freed: dict[str, FileRef] = Field(
        default_factory=dict, description="files that were made and then freed on purpose"
    )

    @property
    def made(self) -> dict[str, FileRef]:
        """All files that the task made, those that were freed since too."""
        return self.files | self.freed

    @model_serializer(mode="wrap")
    def _without_the_default(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave an empty `freed` out, as before there was one: records stay what they were."""
        value: dict[str, Any] = dump(self)
        if not self.freed:
            value.pop("freed", None)
        return value

    def without(self, names: Collection[str]) -> "DoneRecord":
        """Return the record once these of its files are freed."""
        kept = {name: file for name, file in self.files.items() if name not in names}
        gone = {name: file for name, file in self.files.items() if name in names}
        return self.model_copy(update={"files": kept, "freed": self.freed | gone})

    def content(self) -> dict[str, object]:
        """Return what was made, without names or tokens: equal for every attempt.

        Without what was passed over, and without how much was taken over and what was measured of
        the rest: that depends on what was there before.
        """
        return {
            "stage": self.stage,
            "key": self.key,
            "inputs": self.inputs,
            "files": {name: file.content() for name, file in sorted(self.made.items())},
            "counts": {
                name: count
                for name, count in sorted(self.counts.items())
                if not name.startswith((PASSED_OVER, TAKEN, ROWS, ERROR, MEASURED))
            },
        }
