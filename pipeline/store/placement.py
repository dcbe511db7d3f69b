"""Whether a record lies where it belongs: two that changed places are both whole and wrong."""

import re

from pipeline.store import layout
from schemas.base import Record, digest_of
from schemas.corpus import CorpusManifest
from schemas.files import DoneRecord
from schemas.job_record import JobRecord
from schemas.plan import Plan
from schemas.rankings import QueryRun
from schemas.report import RetrievalReport
from schemas.snapshot import IndexSnapshot, Promotion
from schemas.vocabulary import Vocabulary

STAGES: tuple[tuple[str, str], ...] = (
    (r"corpora/[^/]+", "corpus"),
    (r"activations/[^/]+", "extract"),
    (r"vocabularies/[^/]+/[^/]+/sample", "sample"),
    (r"vocabularies/[^/]+/[^/]+/rounds/\d+", "link|sum|merge"),
    (r"vocabularies/[^/]+/[^/]+/projection", "fit"),
    (r"vocabularies/[^/]+/[^/]+/projected", "project"),
    (r"vocabularies/[^/]+/[^/]+", "seed|round|health|import"),
    (r"bags/[^/]+", "encode"),
    (r"segments/[^/]+", "index"),
    (r"segments/[^/]+/totals", "totals"),
    (r"runs/[^/]+/queries", "queries"),
    (r"runs/[^/]+/rankings", "query"),
)


def misplaced(path: str, record: Record) -> str | None:
    """Return why a record cannot be the one of this path, None where it can."""
    match record:
        case DoneRecord():
            return _misplaced_done(path, record)
        case CorpusManifest():
            folder = path.removesuffix("manifest.json")
            strangers = [s.file.path for s in record.shards if not s.file.path.startswith(folder)]
            return (
                f"is the manifest of another corpus: it names {strangers[0]}" if strangers else None
            )
        case Vocabulary():
            folder = path.removesuffix("vocabulary.json")
            named = record.centroids.path if record.centroids else folder
            return (
                None if named.startswith(folder) else f"is another's vocabulary: it names {named}"
            )
        case IndexSnapshot():
            return _other(path, layout.snapshot(record.number))
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
            return _other(path, layout.run_record(record.run))
    return None


def report_run(report: RetrievalReport) -> str:
    """Return the run's key that an evaluation is stored under: what was evaluated, and found."""
    facts = report.model_dump(mode="json", exclude={"elapsed_seconds"})
    return layout.keyed(f"evaluate {report.protocol}", digest_of(facts))


def _other(path: str, expected: str) -> str | None:
    return None if path == expected else f"is the record of {expected}"


def _misplaced_done(path: str, record: DoneRecord) -> str | None:
    folder, _, name = path.rpartition("/done/")
    if record.key != name.removesuffix(".json"):
        return f"is the record of task {record.key}"
    stage = next((stage for form, stage in STAGES if re.fullmatch(form, folder)), None)
    if stage is not None and record.stage not in stage.split("|"):
        return f"is a record of stage {record.stage}, {stage} belongs here"
    # A run of queries may have any name.
    keyed = stage not in (None, "query")
    digest = folder.split("/")[1].rpartition("-")[2] if keyed else ""
    if not record.inputs.startswith(digest):
        return f"was made from inputs {record.inputs[:12]}, the folder is for {digest}"
    for reference in record.files.values():
        if not reference.path.startswith(f"{folder}/"):
            return f"names {reference.path}, which is not in its folder"
    return None
