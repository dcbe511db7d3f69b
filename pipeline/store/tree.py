"""Every file that a store may hold, read back from its path: what is not here is not ours.

`layout` makes these paths. A name that comes out of a store, from a record or a listing, is looked
up here before it is used: a store is data, and says nothing of where we read, write or delete.
"""

import re
from dataclasses import dataclass
from typing import Literal

from lamella.schemas.base import Record
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.files import DoneRecord
from lamella.schemas.job_record import JobRecord
from lamella.schemas.plan import Plan
from lamella.schemas.rankings import QueryRun
from lamella.schemas.report import RetrievalReport
from lamella.schemas.snapshot import IndexSnapshot, Promotion
from lamella.schemas.vocabulary import Vocabulary

MARKER, MARKER_BYTES = "probe/create-only", b"lamella\n"
"""The file by which a store is known, made before any other."""

_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,39}"
"""What `layout.slug` gives: at most 40 characters, no dot or dash at the beginning."""

_KEYED = rf"{_NAME}-[0-9a-f]{{12}}"
_RUN = rf"runs/(?:{_NAME}|{_KEYED})"
_KEY = r"[a-z0-9][a-z0-9-]*"
_DATA = rf"(?:/{_NAME})?/{_KEY}\.[0-9a-f]{{12}}(?:\.[a-z0-9-]+)+"
_TRAINING = rf"vocabularies/{_KEYED}/{_NAME}"


@dataclass(frozen=True)
class StageFolder:
    """Where a stage works: the form of the folder's path, and the stages of its done records.

    `keyed` says that the folder's name ends in the first digits of the inputs of its records.
    """

    form: re.Pattern[str]
    stages: frozenset[str]
    keyed: bool = True


def _folder(form: str, stages: str, *, keyed: bool = True) -> StageFolder:
    return StageFolder(re.compile(form), frozenset(stages.split()), keyed)


STAGE_FOLDERS = (
    _folder(rf"corpora/{_KEYED}", "corpus"),
    _folder(rf"activations/{_KEYED}", "extract"),
    _folder(_TRAINING, "seed round health import"),
    _folder(rf"{_TRAINING}/sample", "sample"),
    _folder(rf"{_TRAINING}/projection", "fit"),
    _folder(rf"{_TRAINING}/projected", "project"),
    _folder(rf"{_TRAINING}/rounds/\d{{5,}}", "link sum merge"),
    _folder(rf"bags/{_KEYED}", "encode"),
    _folder(rf"segments/{_KEYED}", "index"),
    _folder(rf"segments/{_KEYED}/totals", "totals"),
    _folder(rf"{_RUN}/queries", "queries"),
    # A run of queries may have any name.
    _folder(rf"{_RUN}/rankings", "query", keyed=False),
)

_STAGE_FORMS = "|".join(f"(?:{folder.form.pattern})" for folder in STAGE_FOLDERS)

RECORDS: tuple[tuple[re.Pattern[str], type[Record]], ...] = (
    (re.compile(rf"jobs/{_KEYED}\.json"), JobRecord),
    (re.compile(rf"plans/{_KEYED}/\d{{6,}}\.json"), Plan),
    (re.compile(rf"corpora/{_KEYED}/manifest\.json"), CorpusManifest),
    (re.compile(rf"{_TRAINING}/vocabulary\.json"), Vocabulary),
    (re.compile(r"snapshots/\d{6,}\.json"), IndexSnapshot),
    (re.compile(r"promotions/\d{6,}\.json"), Promotion),
    (re.compile(rf"{_RUN}/report\.json"), RetrievalReport),
    (re.compile(rf"{_RUN}/run\.json"), QueryRun),
    (re.compile(rf"(?:{_STAGE_FORMS})/done/{_KEY}\.json"), DoneRecord),
)
_PAGE = re.compile(rf"{_RUN}/report\.html")
_DATA_FILE = re.compile(rf"(?:{_STAGE_FORMS}){_DATA}")
_VERDICT = re.compile(rf"(?P<folder>{_STAGE_FORMS})/verdicts/(?P<key>{_KEY})/[0-9a-f]{{32}}\.json")
_CLOCK = re.compile(r"probe/clock\.[0-9a-f]{12}")
CUT_SHORT = re.compile(r"\.[0-9a-f]{16}\.tmp")
"""The name of a write that has not ended, or never will."""

TOPS = (
    *("jobs", "plans", "corpora", "activations", "vocabularies"),
    *("bags", "segments", "snapshots", "promotions", "runs"),
)
"""The folders right below a store's root, without that of the marker."""

Kind = Literal["marker", "record", "page", "data", "verdict", "leftover"]


def kind_of(path: str) -> Kind | None:
    """Return what a file of this path is to a store, None for what is not ours.

    A `verdict` is on a picture of a task, which `verdict_of` names. A `leftover` is a write that
    was cut short, in a folder of ours, or the file by which the store's clock was read.
    """
    if path == MARKER:
        return "marker"
    if record_of(path) is not None:
        return "record"
    if _PAGE.fullmatch(path):
        return "page"
    if _DATA_FILE.fullmatch(path):
        return "data"
    if verdict_of(path) is not None:
        return "verdict"
    top, _, _ = path.partition("/")
    cut_short = top in (*TOPS, "probe") and CUT_SHORT.fullmatch(path.rpartition("/")[2])
    return "leftover" if cut_short or _CLOCK.fullmatch(path) else None


def record_of(path: str) -> type[Record] | None:
    """Return what kind of record lies under a path, None for any other file."""
    return next((kind for form, kind in RECORDS if form.fullmatch(path)), None)


def verdict_of(path: str) -> tuple[str, str] | None:
    """Return the folder and the key of the task that a verdict is of, None for any other file."""
    found = _VERDICT.fullmatch(path)
    return (found["folder"], found["key"]) if found else None


def stage_folder(path: str) -> StageFolder | None:
    """Return what is known of a stage's folder, None for any other path."""
    return next((folder for folder in STAGE_FOLDERS if folder.form.fullmatch(path)), None)


def is_data(path: str, folder: str) -> bool:
    """Say whether a path is that of a data file below a folder."""
    return path.startswith(f"{folder}/") and _DATA_FILE.fullmatch(path) is not None


def is_key(text: str) -> bool:
    """Say whether a text may be the key of a task."""
    return re.fullmatch(_KEY, text) is not None


def checked_name(path: str) -> str:
    """Return the path if it stays inside the store, else raise ValueError."""
    *folders, name = path.split("/")
    parts = folders if CUT_SHORT.fullmatch(name) else [*folders, name]
    hidden = any(part == "" or part.startswith(".") for part in parts)
    if hidden or "\0" in path or "\\" in path:
        raise ValueError(
            f"a stored name is relative, without empty parts or ones that start with a dot; "
            f"got {path!r}"
        )
    return path
