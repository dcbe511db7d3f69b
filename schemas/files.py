"""References to stored files, and the done record that makes a task's files exist."""

from pydantic import Field

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
    record from another's.
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

    def content(self) -> dict[str, object]:
        """Return what was made, without names or tokens: equal for every attempt.

        Without what was passed over, and without how much was taken over and what was measured of
        the rest: that depends on what was there before.
        """
        return {
            "stage": self.stage,
            "key": self.key,
            "inputs": self.inputs,
            "files": {name: file.content() for name, file in sorted(self.files.items())},
            "counts": {
                name: count
                for name, count in sorted(self.counts.items())
                if not name.startswith((PASSED_OVER, TAKEN, ROWS, ERROR, MEASURED))
            },
        }
