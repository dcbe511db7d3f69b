"""Every file that a store may hold, one row for each kind: how its path is made and read back.

A name that comes out of a store, from a record or a listing, is looked up here before it is used:
a store is data, and does not tell us where to read, write or delete. FORMAT.md explains the tree.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Literal

from lamella.pipeline.store.form import Form
from lamella.schemas.base import Record
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.files import DoneRecord
from lamella.schemas.job_record import JobRecord
from lamella.schemas.plan import Plan
from lamella.schemas.rankings import QueryRun
from lamella.schemas.report import RetrievalReport
from lamella.schemas.snapshot import IndexSnapshot, Promotion
from lamella.schemas.vocabulary import Vocabulary


def slug(name: str) -> str:
    """Return a readable, safe part of a path: letters, digits, dots and dashes."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.")[:40] or "unnamed"


def keyed(name: str, digest: str) -> str:
    """Return a folder's name: a readable part and a digest of what changes its contents."""
    return f"{slug(name)}-{digest[:12]}"


def shard_key(number: int) -> str:
    """Return a shard's key, such as `00042`."""
    return f"{number:05d}"


def is_key(text: str) -> bool:
    """Say whether a text may be the key of a task."""
    return Form("{key}").read(text) is not None


Mend = Literal["rebuild", "replace", "drop"]
"""How `repair` mends a damaged file.

A `rebuild` removes it and has its job make it again; a `replace` writes it anew where it is; a
`drop` removes it, for the same command makes it again.
"""


@dataclass(frozen=True)
class FileKind:
    """A file that stands by itself: the form of its path, its record, and how it is mended.

    None of these is ever removed by `gc`, except those that are `leftover`.
    """

    form: Form
    mend: Mend
    record: type[Record] | None = None
    leftover: bool = False

    def at(self, **parts: str | int) -> str:
        """Return the path with these parts; numbers have six digits at least."""
        if isinstance(number := parts.get("number"), int):
            parts["number"] = f"{number:06d}"
        return self.form.at(**parts)

    def folder(self, **parts: str | int) -> str:
        """Return the folder that files of these parts lie in."""
        return self.form.text.rpartition("/")[0].format(**parts)


MARKER, MARKER_BYTES = "probe/create-only", b"lamella\n"
"""The file by which a store is known, made before any other."""

CLOCK = FileKind(Form("probe/clock.{token}"), "drop", leftover=True)
JOB = FileKind(Form("jobs/{keyed}.json"), "replace", JobRecord)
PLAN = FileKind(Form("plans/{keyed}/{number}.json"), "drop", Plan)
MANIFEST = FileKind(Form("corpora/{keyed}/manifest.json"), "rebuild", CorpusManifest)
VOCABULARY = FileKind(Form("vocabularies/{keyed}/{layer}/vocabulary.json"), "rebuild", Vocabulary)
SNAPSHOT = FileKind(Form("snapshots/{number}.json"), "replace", IndexSnapshot)
PROMOTION = FileKind(Form("promotions/{number}.json"), "replace", Promotion)
REPORT = FileKind(Form("runs/{run}/report.json"), "drop", RetrievalReport)
PAGE = FileKind(Form("runs/{run}/report.html"), "drop")
RUN = FileKind(Form("runs/{run}/run.json"), "drop", QueryRun)

FILES = (
    *(FileKind(Form(MARKER), "replace"), CLOCK, JOB, PLAN, MANIFEST, VOCABULARY),
    *(SNAPSHOT, PROMOTION, REPORT, PAGE, RUN),
)


@dataclass(frozen=True, eq=False)
class StepKind:
    """A step of a job: where it works, and what must hold of its done records.

    In its folder lie a done record for each task, `done/KEY.json`, the task's data files,
    `[LAYER/]KEY.TOKEN.SUFFIX`, and perhaps verdicts on its pictures. Data that no record names
    goes by `gc`; a verdict once its task is done.

    Attributes:
        name: the `stage` of its done records.
        form: of its folder's path.
        total, states: the count of a record that those of the states add up to, each unit of work
            being in exactly one state; by default the size of the task, where there are states.
        rows: which file has as many rows as which count says.
        summary: the record that stands over the folder: while it is there, nobody looks at the
            tasks, so it is removed with what is damaged below it.
        until: the done record that ends the use of these; `gc` removes them once it is there.
        keyed: whether the folder's name ends in the first digits of the records' inputs.
        mend: how a damaged file below the folder is mended.
    """

    name: str
    form: Form
    total: str = ""
    states: tuple[str, ...] = ()
    rows: Mapping[str, str] = field(default_factory=dict)
    summary: FileKind | None = None
    until: Form | None = None
    keyed: bool = True
    mend: Mend = "rebuild"

    def folder(self, **parts: str | int) -> str:
        """Return the folder with these parts; a layer is named as paths name it."""
        if isinstance(layer := parts.get("layer"), str):
            parts["layer"] = slug(layer)
        if isinstance(number := parts.get("round"), int):
            parts["round"] = f"{number:05d}"
        return self.form.at(**parts)


_TRAINING = "vocabularies/{keyed}/{layer}"
_SUMMED_UP = Form(_TRAINING + "/done/{round}.json")

CORPUS = StepKind(
    "corpus",
    Form("corpora/{keyed}"),
    states=("images", "ignored"),
    rows={"images": "images"},
    summary=MANIFEST,
)
EXTRACT = StepKind(
    "extract",
    Form("activations/{keyed}"),
    total="images",
    states=("indexed", "refused"),
    rows={"images": "indexed", "refusals": "refused"},
)
IMPORT = StepKind("import", Form(_TRAINING), summary=VOCABULARY)
SAMPLE = StepKind(
    "sample", Form(_TRAINING + "/sample"), rows={"sample": "descriptors"}, summary=VOCABULARY
)
FIT = StepKind("fit", Form(_TRAINING + "/projection"), summary=VOCABULARY)
PROJECT = StepKind("project", Form(_TRAINING + "/projected"), summary=VOCABULARY)
SEED = StepKind("seed", Form(_TRAINING), summary=VOCABULARY)
LINK = StepKind("link", Form(_TRAINING + "/rounds/{round}"), summary=VOCABULARY, until=_SUMMED_UP)
SUM = StepKind("sum", LINK.form, summary=VOCABULARY, until=_SUMMED_UP)
MERGE = StepKind("merge", LINK.form, summary=VOCABULARY, until=_SUMMED_UP)
ROUND = StepKind("round", Form(_TRAINING), summary=VOCABULARY)
HEALTH = StepKind("health", Form(_TRAINING), summary=VOCABULARY)
ENCODE = StepKind("encode", Form("bags/{keyed}"), states=("images",))
INDEX = StepKind("index", Form("segments/{keyed}"), states=("images",), rows={"images": "images"})
TOTALS = StepKind("totals", Form("segments/{keyed}/totals"))
QUERIES = StepKind("queries", Form("runs/{run}/queries"), summary=RUN, mend="drop")
QUERY = StepKind(  # a run of queries may have any name
    "query", Form("runs/{run}/rankings"), summary=RUN, mend="drop", keyed=False
)

STEPS: list[StepKind] = [
    *(CORPUS, EXTRACT, IMPORT, SAMPLE, FIT, PROJECT, SEED, LINK, SUM, MERGE, ROUND, HEALTH),
    *(ENCODE, INDEX, TOTALS, QUERIES, QUERY),
]

CUT_SHORT = re.compile(r"\.[0-9a-f]{16}\.tmp")
"""The name of a write that has not ended, or never will."""


@cache
def tops() -> tuple[str, ...]:
    """Return the folders right below a store's root, without that of the marker."""
    forms = [*(kind.form for kind in FILES), *(step.form for step in STEPS)]
    found = dict.fromkeys(form.text.partition("/")[0] for form in forms)
    return tuple(top for top in found if top != MARKER.partition("/")[0])


def forget() -> None:
    """Forget what was worked out from the rows, after a row was added."""
    tops.cache_clear()
    step_folder.cache_clear()


def done(folder: str, key: str) -> str:
    """Return the path of a task's done record; `folder` is its step's."""
    return f"{folder}/done/{key}.json"


def data_file(folder: str, key: str, token: str, suffix: str) -> str:
    """Return the path of a task's data file; the token keeps attempts apart."""
    return f"{folder}/{key}.{token}.{suffix}"


def layer_folder(folder: str, layer: str) -> str:
    """Return the folder of one layer's files inside a step's folder."""
    return f"{folder}/{slug(layer)}"


def verdicts(folder: str, key: str) -> str:
    """Return the folder of the verdicts on a task's pictures; `folder` is its step's."""
    return f"{folder}/verdicts/{key}"


def verdict(folder: str, key: str, picture: str) -> str:
    """Return the path of a verdict on a picture of a task."""
    return f"{verdicts(folder, key)}/{picture}.json"


Kind = Literal["marker", "record", "page", "data", "verdict", "leftover"]


@dataclass(frozen=True)
class Found:
    """What a path says of its file.

    Attributes:
        kind: a `verdict` is on a picture of a task; a `leftover` is a write that was cut short, in
            a folder of ours, or the file by which the store's clock was read.
        parts: of the path, or of its step's folder, by name.
        record: what kind of record it is, if it is one.
        mend: how it is mended.
        folder: its step's folder, if it is a step's, else the one it lies in.
        key: its task, if it is a step's.
        steps: those that work in this folder, or in those that this record stands over.
        place: what lies between folder and name of a data file.
        suffix: of a data file's name.
        row: of a file that is no step's.
    """

    kind: Kind
    parts: Mapping[str, str]
    mend: Mend
    record: type[Record] | None = None
    folder: str = ""
    key: str = ""
    steps: tuple[StepKind, ...] = ()
    place: str = ""
    suffix: str = ""
    row: FileKind | None = None

    @property
    def number(self) -> int:
        """The number of a snapshot, a promotion or a plan."""
        return int(self.parts["number"])

    @property
    def digest(self) -> str:
        """The first digits of the inputs that its folder is for."""
        named = self.parts.get("keyed") or self.parts.get("run", "")
        return named.rpartition("-")[2]

    def summary(self) -> str | None:
        """Return the path of the record that stands over the folder, None where none does."""
        over = self.steps[0].summary if self.steps else None
        return None if over is None else over.form.text.format(**self.parts)

    def until(self) -> str | None:
        """Return the path of the done record that ends the use of this file's folder."""
        end = self.steps[0].until if self.steps else None
        return None if end is None else end.text.format(**self.parts)


_DONE = Form("done/{key}.json")
_VERDICT = Form("verdicts/{key}/{picture}.json")
_DATA = Form("{key}.{token}.{suffix}")
_PLACED = Form("{layer}/{key}.{token}.{suffix}")


def read(path: str) -> Found | None:
    """Return what a path says of its file, None for what is not ours."""
    for kind in FILES:
        if (parts := kind.form.read(path)) is not None:
            return _standing(kind, parts, path)
    below = path.split("/")
    # The longest folder is the one that a file is of: rounds lie below their training.
    for cut in range(len(below) - 1, 1, -1):
        if found := _of_step("/".join(below[:cut]), "/".join(below[cut:])):
            return found
    ours = below[0] in tops() or below[0] == MARKER.partition("/")[0]
    if ours and CUT_SHORT.fullmatch(below[-1]):
        return Found("leftover", {}, "drop")
    return None


def _standing(kind: FileKind, parts: Mapping[str, str], path: str) -> Found:
    name: Kind = "record" if kind.record is not None else "leftover" if kind.leftover else "page"
    if path == MARKER:
        name = "marker"
    below = tuple(step for step in STEPS if step.summary is kind)
    folder = path.rpartition("/")[0]
    return Found(name, parts, kind.mend, kind.record, folder, steps=below, row=kind)


def _of_step(folder: str, rest: str) -> Found | None:
    if (known := step_folder(folder)) is None:
        return None
    parts, steps = known
    mend = steps[0].mend
    if (own := _DONE.read(rest)) is not None:
        return Found("record", parts, mend, DoneRecord, folder, own["key"], steps)
    if (own := _VERDICT.read(rest)) is not None:
        return Found("verdict", parts, mend, None, folder, own["key"], steps)
    own = _DATA.read(rest) or _PLACED.read(rest)
    if own is None:
        return None
    place = own.get("layer", "")
    return Found("data", parts, mend, None, folder, own["key"], steps, place, own["suffix"])


@lru_cache(maxsize=4096)
def step_folder(path: str) -> tuple[Mapping[str, str], tuple[StepKind, ...]] | None:
    """Return the parts of a step's folder and the steps that work in it, None for another path."""
    steps = tuple(step for step in STEPS if step.form.read(path) is not None)
    return (steps[0].form.read(path) or {}, steps) if steps else None


def kind_of(path: str) -> Kind | None:
    """Return what a file of this path is to a store, None for what is not ours."""
    found = read(path)
    return None if found is None else found.kind


def folder_of(path: str) -> str:
    """Return the folder of the step that a file is of.

    Raises:
        ValueError: it is not ours, or lies in no folder of a step.
    """
    found = read(path)
    if found is None or not found.folder:
        raise ValueError(f"a file of a step is wanted; got {path!r}")
    return found.folder


def parts_of(path: str) -> Mapping[str, str]:
    """Return the parts of a file's path, or of a step's folder, by name; none of another."""
    known = step_folder(path)
    found = None if known else read(path)
    return known[0] if known else found.parts if found is not None else {}


def steps_of(path: str) -> tuple[StepKind, ...]:
    """Return the steps that a file, or the record over a step's folder, may be of."""
    found = read(path)
    return () if found is None else found.steps


def record_of(path: str) -> type[Record] | None:
    """Return what kind of record lies under a path, None for any other file."""
    found = read(path)
    return None if found is None else found.record


def is_data(path: str, folder: str) -> bool:
    """Say whether a path is that of a data file below a folder."""
    if not path.startswith(f"{folder}/"):
        return False
    found = read(path)
    return found is not None and found.kind == "data"


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
