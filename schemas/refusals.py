"""Why an image is refused. Stands alone: the process that decodes pictures imports it first."""

from enum import StrEnum


class RefusalReason(StrEnum):
    """Why an image of the corpus gives no pixels. The set is closed: readers know every value."""

    NOT_AN_IMAGE = "not-an-image"
    UNSUPPORTED_FORMAT = "unsupported-format"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    TOO_MANY_PIXELS = "too-many-pixels"
    TOO_LARGE_FILE = "too-large-file"
    EMPTY_FILE = "empty-file"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    FETCH_FAILED = "fetch-failed"
    CHANGED = "changed"
    BAD_NAME = "bad-name"
    OUTSIDE_SOURCE = "outside-source"
    DECODER_CRASHED = "decoder-crashed"
    TOO_SLOW = "too-slow"
    TOO_MUCH_MEMORY = "too-much-memory"
    NO_VECTOR = "no-vector"
    BAD_VECTOR = "bad-vector"

    @property
    def meaning(self) -> str:
        """One line for a person."""
        return _MEANINGS[self]


_MEANINGS = {
    RefusalReason.NOT_AN_IMAGE: "the content is in no known picture format",
    RefusalReason.UNSUPPORTED_FORMAT: "a known picture format, or a variant of one, not read here",
    RefusalReason.TRUNCATED: "the data ends before the picture does",
    RefusalReason.CORRUPT: "the data breaks the rules of its format",
    RefusalReason.TOO_MANY_PIXELS: "the header names more pixels than the limit",
    RefusalReason.TOO_LARGE_FILE: "the file has more bytes than the limit",
    RefusalReason.EMPTY_FILE: "the file has no bytes",
    RefusalReason.MISSING: "nothing is there under this name",
    RefusalReason.UNREADABLE: "it exists but cannot be read: permissions, or an I/O error",
    RefusalReason.FETCH_FAILED: "S3 answers, but did not give this object in any of many tries",
    RefusalReason.CHANGED: "the SHA-256 differs from the one in the manifest",
    RefusalReason.BAD_NAME: "the name cannot be stored: it is not UTF-8, or has a zero byte",
    RefusalReason.OUTSIDE_SOURCE: "the name or the link leads outside the source",
    RefusalReason.DECODER_CRASHED: "it ended the process that decoded it, twice",
    RefusalReason.TOO_SLOW: "decoding took more time than the limit, twice",
    RefusalReason.TOO_MUCH_MEMORY: "decoding took more memory than the limit, twice",
    RefusalReason.NO_VECTOR: "the vectors that were given have none of this name",
    RefusalReason.BAD_VECTOR: "the vector that was given for it is not finite, or all zeros",
}
