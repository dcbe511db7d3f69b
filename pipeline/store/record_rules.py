"""What a record may say: it lies where it belongs, and names only files of its own.

Two records that changed places are both whole and wrong. And a store is data: a name in a record
becomes a path only if it is one that the record's own stage would have made.
"""

from collections.abc import Iterable

from lamella.pipeline.store import layout
from lamella.pipeline.store.tree import is_data, is_key, record_of, stage_folder
from lamella.schemas.base import Record, digest_of
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.files import DoneRecord, FileRef
from lamella.schemas.job_record import JobRecord
from lamella.schemas.plan import Plan
from lamella.schemas.rankings import QueryRun
from lamella.schemas.report import RetrievalReport
from lamella.schemas.snapshot import IndexSnapshot, Promotion
from lamella.schemas.vocabulary import Vocabulary


def broken_rule(path: str, record: Record) -> str | None:
    """Return why a record cannot be the one of this path, None where it can."""
    match record:
        case DoneRecord():
            return _done(path, record)
        case CorpusManifest():
            folder = path.removesuffix("/manifest.json")
            return _keys(shard.key for shard in record.shards) or _files(
                (shard.file for shard in record.shards), folder
            )
        case Vocabulary():
            return _files(record.files(), path.removesuffix("/vocabulary.json"))
        case IndexSnapshot():
            return _other(path, layout.snapshot(record.number)) or _snapshot(record)
        case Promotion():
            return _other(path, layout.promotion(record.number))
        case JobRecord():
            return _other(path, layout.job(layout.keyed(record.name, record.digest())))
        case Plan():
            folder = layout.plans(layout.keyed(record.name, record.subject))
            return None if path.startswith(f"{folder}/") else f"is a plan of {folder}"
        case RetrievalReport():
            return _other(path, layout.run_report(report_run(record), "json"))
        case QueryRun():
            folder = f"{layout.run(record.run)}/rankings"
            return _other(path, layout.run_record(record.run)) or _files(
                (*record.rankings, *record.refusals), folder
            )
    return None


def report_run(report: RetrievalReport) -> str:
    """Return the run's key that an evaluation is stored under: what was evaluated, and found."""
    facts = report.model_dump(mode="json", exclude={"elapsed_seconds"})
    return layout.keyed(f"evaluate {report.protocol}", digest_of(facts))


def _other(path: str, expected: str) -> str | None:
    return None if path == expected else f"is the record of {expected}"


def _files(files: Iterable[FileRef], *folders: str) -> str | None:
    for file in files:
        if not any(is_data(file.path, folder) for folder in folders):
            return f"names {file.path}, which is no data file in {' or '.join(folders)}"
    return None


def _keys(keys: Iterable[str]) -> str | None:
    wrong = next((key for key in keys if not is_key(key)), None)
    return None if wrong is None else f"names a shard {wrong!r}, which is no key"


def _done(path: str, record: DoneRecord) -> str | None:
    folder, _, name = path.rpartition("/done/")
    if record.key != name.removesuffix(".json"):
        return f"is the record of task {record.key}"
    known = stage_folder(folder)
    if known is None:
        strangers = [f.path for f in record.files.values() if not f.path.startswith(f"{folder}/")]
        return f"names {strangers[0]}, which is not in its folder" if strangers else None
    if record.stage not in known.stages:
        wanted = " or ".join(sorted(known.stages))
        return f"is a record of stage {record.stage}, {wanted} belongs here"
    digest = folder.split("/")[1].rpartition("-")[2] if known.keyed else ""
    if not record.inputs.startswith(digest):
        return f"was made from inputs {record.inputs[:12]}, the folder is for {digest}"
    return _files(record.files.values(), folder)


def _snapshot(record: IndexSnapshot) -> str | None:
    for folder in (record.extraction_folder, record.encoding_folder or record.extraction_folder):
        known = stage_folder(folder)
        if known is None or not known.stages & {"extract", "encode"}:
            return f"names {folder}, which is no folder of activations or bags"
    if record.job and record_of(record.job) is not JobRecord:
        return f"names {record.job}, which is no record of a job"
    words = [file for vocabulary in record.vocabularies.values() for file in vocabulary.files()]
    segments = [file for segment in record.segments for file in segment.files.values()]
    keys = [shard.key for shard in record.shards]
    keys += [key for segment in record.segments for key in (segment.key, *segment.shards)]
    return (
        _keys(keys)
        or _files((shard.file for shard in record.shards), "corpora")
        or _files(words, "vocabularies")
        or _files((*segments, *record.document_frequencies.values()), "segments")
    )
