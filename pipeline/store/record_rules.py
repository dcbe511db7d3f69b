"""Rules for records: each lies at its own path, and names only files that it may name.

The seal of a record does not show that it was moved, so its path is checked too. And a store may
come from a stranger: a path in a record is used only if the record's own step could have made it.
"""

from collections.abc import Iterable, Iterator

from lamella.pipeline.store import tree
from lamella.pipeline.store.form import Form
from lamella.schemas.base import Record, digest_of
from lamella.schemas.beat import Beat
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.files import DoneRecord, FileRef
from lamella.schemas.gate import Judgement
from lamella.schemas.job_record import JobRecord
from lamella.schemas.keeping import Expired, Forgotten, Tag
from lamella.schemas.plan import Plan
from lamella.schemas.rankings import QueryRun
from lamella.schemas.report import RetrievalReport
from lamella.schemas.reproduced import DataSetName, Reproduced
from lamella.schemas.snapshot import IndexSnapshot, Promotion, SegmentManifest, Tuning
from lamella.schemas.vocabulary import Vocabulary

LOOKS = tree.LOOK.form.text.partition("/")[0]
"""The folder of all image tables."""


def broken_rule(path: str, record: Record) -> str | None:
    """Return which rule a record at this path breaks, None if it breaks none."""
    match record:
        case DoneRecord():
            return _done(path, record)
        case CorpusManifest():
            return _files(_tables(record), LOOKS)
        case SegmentManifest():
            expected = tree.SEGMENT.at(**tree.SEGMENT.form.parts(path) | {"key": record.key})
            return _other(path, expected) or _files(_tables(record), LOOKS)
        case Vocabulary():
            return _files(record.files(), tree.folder_of(path))
        case Tuning():
            return _other(path, tuning_path(record.draft, record.k))
        case IndexSnapshot():
            return _other(path, tree.SNAPSHOT.at(number=record.number)) or _snapshot(record)
        case Promotion():
            return _other(path, tree.PROMOTION.at(number=record.number))
        case Expired():
            return _other(path, tree.EXPIRED.at(number=record.number))
        case Tag():
            return _other(path, tree.TAG.at(tag=record.name))
        case Forgotten():
            return _other(path, tree.FORGOTTEN.at(by=record.by, digest=record.stands_for))
        case Judgement():
            return _other(path, judgement_path(record.snapshot, record.subject()))
        case JobRecord():
            expected = tree.JOB.at(keyed=tree.keyed(record.name, record.digest()))
            return _other(path, expected) or _frames(record.frames.values())
        case Beat():
            return _other(path, tree.BEAT.at(job=record.job, number=record.number))
        case Plan():
            folder = tree.PLAN.folder(keyed=tree.keyed(record.name, record.subject))
            return None if path.startswith(f"{folder}/") else f"is a plan of {folder}"
        case RetrievalReport():
            return _other(path, tree.REPORT.at(run=report_run(record)))
        case Reproduced():
            return _other(path, reproduced_path(record.data_set, record.inputs))
        case QueryRun():
            folder = tree.QUERY.folder(run=record.run)
            return _other(path, tree.RUN.at(run=record.run)) or _files(
                (*record.rankings, *record.refusals), folder
            )
    return None


def report_run(report: RetrievalReport) -> str:
    """Return the name of the run that a report is stored under, from all it says but its time."""
    facts = report.model_dump(mode="json", exclude={"elapsed_seconds"})
    return tree.keyed(f"evaluate {report.protocol}", digest_of(facts))


def reproduced_path(data_set: DataSetName, inputs: str) -> str:
    """Return the path of the scores of a data set, from the digest of what decides them."""
    return tree.REPRODUCED.at(keyed=tree.keyed(data_set, inputs))


def judgement_path(snapshot: int, subject: str) -> str:
    """Return the path of a judgement of the gate, from the snapshot and what was judged."""
    return tree.GATE.at(keyed=tree.keyed(f"{snapshot:06d}", subject))


def tuning_path(draft: str, k: int) -> str:
    """Return the path of the reaches of an index, from its root digest without them."""
    return tree.TUNING.at(keyed=tree.keyed(f"k {k}", digest_of([draft, k])))


def _other(path: str, expected: str) -> str | None:
    return None if path == expected else f"is the record of {expected}"


def _files(files: Iterable[FileRef], *folders: str) -> str | None:
    for file in files:
        if not any(_is_data(file.path, folder) for folder in folders):
            return f"names {file.path}, which is no data file in {' or '.join(folders)}"
    return None


def _frames(paths: Iterable[str]) -> str | None:
    for path in paths:
        found = tree.read(path)
        if found is None or found.record is not DoneRecord or tree.FRAME not in found.steps:
            return f"names {path}, which is no record of a frame"
    return None


def _tables(record: CorpusManifest | SegmentManifest) -> Iterator[FileRef]:
    return (file for shard in record.shards for file in shard.files)


def _keys(keys: Iterable[str]) -> str | None:
    wrong = next((key for key in keys if not _is_key(key)), None)
    return None if wrong is None else f"names a segment {wrong!r}, which is no key"


def _done(path: str, record: DoneRecord) -> str | None:
    found = tree.read(path)
    if found is None:
        folder = path.rpartition("/done/")[0]
        strangers = [f.path for f in record.made.values() if not f.path.startswith(f"{folder}/")]
        return f"names {strangers[0]}, which is not in its folder" if strangers else None
    if record.key != found.key:
        return f"is the record of task {record.key}"
    names = {step.name: step for step in found.steps}
    if record.stage not in names:
        return f"is a record of stage {record.stage}, {' or '.join(sorted(names))} belongs here"
    digest = found.digest if names[record.stage].keyed else ""
    if not record.inputs.startswith(digest):
        return f"was made from inputs {record.inputs[:12]}, the folder is for {digest}"
    step = names[record.stage]
    freed = {name for name in step.freeable.split() if name in record.freed}
    for what, wanted, there in (
        ("file", step.files, record.files.keys() | freed),
        ("count", step.counts, record.counts),
    ):
        if missing := [name for name in wanted.split() if name not in there]:
            return f"has no {what} {missing[0]!r}, which every record of {step.name} has"
    return _files(record.made.values(), found.folder)


def _snapshot(record: IndexSnapshot) -> str | None:
    if record.job and tree.record_of(record.job) is not JobRecord:
        return f"names {record.job}, which is no record of a job"
    words = [file for vocabulary in record.vocabularies.values() for file in vocabulary.files()]
    segments = [file for segment in record.segments for file in segment.files.values()]
    frames = [] if record.proposers is None else record.proposers.frames.values()
    for segment in record.segments:
        if tree.SEGMENT.form.read(segment.manifest) is None:
            return f"names {segment.manifest}, which is no manifest of a segment"
    totals = record.document_frequencies.values()
    return (
        _keys(segment.key for segment in record.segments)
        or _files(words, "vocabularies")
        or _files(segments, "segments", "proposers")
        or _files(frames, "frames")
        or _files(totals, "totals")
    )


def _is_key(text: str) -> bool:
    """Say whether a text is a valid key of a task."""
    return Form("{key}").read(text) is not None


def _is_data(path: str, folder: str) -> bool:
    """Say whether a path is that of a data file somewhere below a folder."""
    if not path.startswith(f"{folder}/"):
        return False
    found = tree.read(path)
    return found is not None and found.kind == "data"
