"""Every kind of file that a store may hold: how its path is made, read back, and mended.

There are two tables. `FILES` has a row for each file that stands by itself, such as a snapshot.
`STEPS` has a row for each step of a job, whose folder holds done records and data files. Paths are
made by the rows (`SNAPSHOT.at(number=3)`, `EXTRACT.folder(keyed=...)`), and `read` gets from a path
back to its row. `verify`, `repair` and `gc` know files by these rows alone.

A store is data, and may come from a stranger: it does not tell us where to read, write or delete.
So a path out of a record or a listing is looked up here first. FORMAT.md describes the tree.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, Literal

from lamella.pipeline.store.form import CUT_SHORT, Form
from lamella.pipeline.store.form import slug as slug
from lamella.schemas.base import Record
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.files import DoneRecord
from lamella.schemas.gate import Judgement
from lamella.schemas.job_record import JobRecord
from lamella.schemas.keeping import Expired, Forgotten, Tag
from lamella.schemas.plan import Plan
from lamella.schemas.rankings import QueryRun
from lamella.schemas.report import RetrievalReport
from lamella.schemas.reproduced import Reproduced
from lamella.schemas.snapshot import IndexSnapshot, Promotion, SegmentManifest, Tuning
from lamella.schemas.vocabulary import Vocabulary


def keyed(name: str, digest: str) -> str:
    """Return the name of a folder: a readable part, and 12 digits of what decides its contents."""
    return f"{slug(name)}-{digest[:12]}"


def content_key(digest: str) -> str:
    """Return the key of what has this digest: two of a billion are alike once in forty."""
    return digest[:16]


def shard_key(number: int) -> str:
    """Return a shard's key, such as `00042`."""
    return f"{number:05d}"


Mend = Literal["rebuild", "replace", "drop"]
"""How `repair` mends a damaged file.

`rebuild`: remove it, and run the tasks of its job that make it. `replace`: overwrite it with a new
one. `drop`: remove it; giving the same command again makes it.
"""


@dataclass(frozen=True)
class FileKind:
    """A row for a file that stands by itself, such as a snapshot: no step writes it as a task.

    Attributes:
        form: the form of its path.
        mend: how `repair` mends it.
        record: the type of the record in it, None if it holds none.
        leftover: whether `gc` may remove it; `gc` leaves all others alone.
    """

    form: Form
    mend: Mend
    record: type[Record] | None = None
    leftover: bool = False

    def at(self, **parts: str | int) -> str:
        """Return the path with these parts, as `Form.at` takes them."""
        return self.form.at(**parts)

    def folder(self, **parts: str | int) -> str:
        """Return the folder of the file with these parts."""
        return Form(self.form.text.rpartition("/")[0]).at(**parts)


MARKER, MARKER_BYTES = "probe/create-only", b"lamella\n"
"""The path and the bytes of the file that marks a folder as a store; it is made first."""

CLOCK = FileKind(Form("probe/clock.{token}"), "drop", leftover=True)
BEAT = FileKind(Form("beats/{job}.{number}.json"), "drop", leftover=True)
JOB = FileKind(Form("jobs/{keyed}.json"), "replace", JobRecord)
PLAN = FileKind(Form("plans/{keyed}/{number}.json"), "drop", Plan)
MANIFEST = FileKind(Form("corpora/{keyed}/manifest.json"), "rebuild", CorpusManifest)
VOCABULARY = FileKind(Form("vocabularies/{keyed}/{layer}/vocabulary.json"), "rebuild", Vocabulary)
SEGMENT = FileKind(Form("segments/{keyed}/shards/{key}.json"), "rebuild", SegmentManifest)
TUNING = FileKind(Form("reaches/{keyed}.json"), "drop", Tuning)
SNAPSHOT = FileKind(Form("snapshots/{number}.json"), "replace", IndexSnapshot)
PROMOTION = FileKind(Form("promotions/{number}.json"), "replace", Promotion)
EXPIRED = FileKind(Form("expired/{number}.json"), "replace", Expired)
TAG = FileKind(Form("tags/{tag}.json"), "drop", Tag)
FORGOTTEN = FileKind(Form("forgotten/{by}-{digest}.json"), "replace", Forgotten)
GATE = FileKind(Form("gates/{keyed}.json"), "drop", Judgement)
REPORT = FileKind(Form("runs/{run}/report.json"), "drop", RetrievalReport)
PAGE = FileKind(Form("runs/{run}/report.html"), "drop")
RUN = FileKind(Form("runs/{run}/run.json"), "drop", QueryRun)
REPRODUCED = FileKind(Form("reproduced/{keyed}.json"), "drop", Reproduced)

FILES = (
    *(FileKind(Form(MARKER), "replace"), CLOCK, BEAT, JOB, PLAN, MANIFEST, VOCABULARY, SEGMENT),
    *(TUNING, SNAPSHOT, PROMOTION, GATE, EXPIRED, TAG, FORGOTTEN, REPORT, PAGE, RUN, REPRODUCED),
)


@dataclass(frozen=True, eq=False)
class StepKind:
    """A row for a step of a job: the form of its folder, and what its done records must satisfy.

    The folder holds a done record for each finished task, `done/KEY.json`, data files,
    `[LAYER/]KEY.TOKEN.SUFFIX`, and for some steps verdicts on pictures. `gc` removes data files
    that no record names, and verdicts of tasks that are done. Steps may share a folder.

    Attributes:
        name: the `stage` in its done records.
        form: the form of its folder.
        files, counts: names of what every done record has, apart by spaces; there may be more.
        states: the counts of a done record that say how its units of work (pictures) ended. Each
            unit is in exactly one state, so they add up to the units of the task.
        total: the count that holds that sum; `verify` compares them.
        rows: by name of a file in the record, the count that equals its number of rows.
        summary: the record that stands over the folder, such as a manifest over its shards. While
            it is there, jobs read it and skip the tasks, so `repair` removes it together with
            what is damaged below it.
        until: the done record after which this step's files are no longer needed: `gc` removes
            them once it is there.
        freeable: those of `files` that `gc --intermediate` may have moved to `freed`.
        keyed: whether the name of the folder ends in the first digits of the records' inputs.
        mend: how a damaged file in the folder is mended.
    """

    name: str
    form: Form
    files: str = ""
    counts: str = ""
    total: str = ""
    states: tuple[str, ...] = ()
    rows: Mapping[str, str] = field(default_factory=dict)
    summary: FileKind | None = None
    until: Form | None = None
    freeable: str = ""
    keyed: bool = True
    mend: Mend = "rebuild"

    def folder(self, **parts: str | int) -> str:
        """Return the folder with these parts, as `Form.at` takes them."""
        return self.form.at(**parts)


_TRAINING = "vocabularies/{keyed}/{layer}"
_ROUND = "/rounds/{round}"
_SUMMED_UP = Form(_TRAINING + "/done/{round}.json")

LOOK = StepKind(
    *("corpus", Form("looks/{keyed}"), "images seen", "images refused ignored unsure"),
    states=("images", "ignored"),
    rows={"images": "images"},
)
EXTRACT = StepKind(
    "extract",
    Form("activations/{keyed}"),
    "images refusals",
    "images indexed refused",
    total="images",
    states=("indexed", "refused"),
    rows={"images": "indexed", "refusals": "refused"},
)


def _trained(name: str, below: str, files: str, counts: str, **more: Any) -> StepKind:
    """Return a step of a training, in a folder below that of the training."""
    return StepKind(name, Form(_TRAINING + below), files, counts, summary=VOCABULARY, **more)


IMPORT = _trained("import", "", "centroids", "dimensions probes")
SAMPLE = _trained(
    *("sample", "/sample", "sample held", "descriptors held"),
    rows={"sample": "descriptors"},
    freeable="sample held",
)
FIT = _trained("fit", "/projection", "projection", "rows")
PROJECT = _trained(
    "project", "/projected", "sample held", "descriptors held", freeable="sample held"
)
SEED = _trained("seed", "", "centroids held", "words held", freeable="centroids held")
LINK = _trained("link", _ROUND, "near", "words", until=_SUMMED_UP)
SUM = _trained("sum", _ROUND, "spares", "rows squared_error checked nearest", until=_SUMMED_UP)
MERGE = _trained("merge", _ROUND, "moved", "words rows", until=_SUMMED_UP)
ROUND = _trained("round", "", "centroids counts report", "done words", freeable="centroids counts")
HEALTH = _trained("health", "", "health", "probes")
ENCODE = StepKind("encode", Form("bags/{keyed}"), "", "images", states=("images",))
INDEX = StepKind(
    *("index", Form("segments/{keyed}"), "images", "images"),
    states=("images",),
    rows={"images": "images"},
)
TOTALS = StepKind("totals", Form("totals/{keyed}"))
FRAME = StepKind("frame", Form("frames/{keyed}"), "axes", "indexed sampled cells")
PROPOSE = StepKind("propose", Form("proposers/{keyed}"), "", "images", states=("images",))
QUERIES = StepKind(
    "queries", Form("runs/{run}/queries"), "refusals", "queries refused", summary=RUN, mend="drop"
)
QUERY = StepKind(  # a run of queries may have any name
    "query",
    Form("runs/{run}/rankings"),
    "rankings",
    "queries refused certified",
    summary=RUN,
    mend="drop",
    keyed=False,
)

STEPS: list[StepKind] = [
    *(LOOK, EXTRACT, IMPORT, SAMPLE, FIT, PROJECT, SEED, LINK, SUM, MERGE, ROUND, HEALTH),
    *(ENCODE, INDEX, TOTALS, FRAME, PROPOSE, QUERIES, QUERY),
]


@cache
def tops() -> tuple[str, ...]:
    """Return the names of the folders right below a store's root, without that of the marker."""
    forms = [*(kind.form for kind in FILES), *(step.form for step in STEPS)]
    found = dict.fromkeys(form.text.partition("/")[0] for form in forms)
    return tuple(top for top in found if top != MARKER.partition("/")[0])


def done(folder: str, key: str) -> str:
    """Return the path of a task's done record in the folder of its step."""
    return f"{folder}/done/{key}.json"


def data_file(folder: str, key: str, token: str, suffix: str) -> str:
    """Return the path of a task's data file; each attempt has its own token."""
    return f"{folder}/{key}.{token}.{suffix}"


def layer_folder(folder: str, layer: str) -> str:
    """Return the folder of one layer's files inside a step's folder."""
    return f"{folder}/{slug(layer)}"


def verdicts(folder: str, key: str) -> str:
    """Return the folder of the verdicts on a task's pictures, in the folder of its step."""
    return f"{folder}/verdicts/{key}"


def verdict(folder: str, key: str, picture: str) -> str:
    """Return the path of the verdict on one picture of a task."""
    return f"{verdicts(folder, key)}/{picture}.json"


Kind = Literal["marker", "record", "page", "data", "verdict", "leftover"]


@dataclass(frozen=True)
class Found:
    """What the path of a file says about it: the result of `read`.

    Attributes:
        kind: `leftover` is a write that was cut short, the file by which the store's clock is
            read, or the beat of a job; `verdict` is a verdict on a picture.
        parts: the parts of the path; for a file of a step, those of the step's folder.
        mend: how it is mended.
        record: the type of the record in it, if it holds one.
        folder: the folder of its step; for a file of no step, the folder it lies in.
        key: the key of its task, if it belongs to a step.
        steps: the steps that work in its folder; for a record that stands over steps, those.
        place: for a data file, the folder between the step's and its name, such as a layer.
        suffix: for a data file, what its name ends in, such as `parquet`.
        row: its row in `FILES`, if it belongs to no step.
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
        """The number of a snapshot (expired or not), a promotion or a plan."""
        return int(self.parts["number"])

    @property
    def digest(self) -> str:
        """The digits of the inputs that end the name of its folder."""
        named = self.parts.get("keyed") or self.parts.get("run", "")
        return named.rpartition("-")[2]

    def summary(self) -> str | None:
        """Return the path of the record that stands over its folder, None if there is none."""
        over = self.steps[0].summary if self.steps else None
        return None if over is None else over.form.at(**self.parts)

    def until(self) -> str | None:
        """Return the path of the done record after which it is no longer needed, if any."""
        end = self.steps[0].until if self.steps else None
        return None if end is None else end.at(**self.parts)


_DONE = Form("done/{key}.json")
_VERDICT = Form("verdicts/{key}/{picture}.json")
_DATA = Form("{key}.{token}.{suffix}")
_PLACED = Form("{layer}/{key}.{token}.{suffix}")


def read(path: str) -> Found | None:
    """Return what a path says about its file, None for a file that Lamella did not write."""
    for kind in FILES:
        if (parts := kind.form.read(path)) is not None:
            return _standing(kind, parts, path)
    below = path.split("/")
    # Try the longest folder first: the folders of rounds lie below that of their training.
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
    """Return the parts of a step's folder and the steps that work there, None for other paths."""
    steps = tuple(step for step in STEPS if step.form.read(path) is not None)
    return (steps[0].form.read(path) or {}, steps) if steps else None


def kind_of(path: str) -> Kind | None:
    """Return the kind of file of a path, None for a file that Lamella did not write."""
    found = read(path)
    return None if found is None else found.kind


def folder_of(path: str) -> str:
    """Return the folder of the step that a file belongs to.

    Raises:
        ValueError: no row has this path.
    """
    found = read(path)
    if found is None or not found.folder:
        raise ValueError(f"a file of a step is wanted; got {path!r}")
    return found.folder


def parts_of(path: str) -> Mapping[str, str]:
    """Return the parts of a file's path or of a step's folder; {} for any other path."""
    known = step_folder(path)
    found = None if known else read(path)
    return known[0] if known else found.parts if found is not None else {}


def steps_of(path: str) -> tuple[StepKind, ...]:
    """Return the steps that may have written a file, or that a record stands over."""
    found = read(path)
    return () if found is None else found.steps


def record_of(path: str) -> type[Record] | None:
    """Return the type of the record at a path, None for any other file."""
    found = read(path)
    return None if found is None else found.record
