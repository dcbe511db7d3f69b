"""A record against its neighbours: what it stands on is there, and the pictures add up."""

from collections.abc import Iterator

from lamella.pipeline.store import layout
from lamella.pipeline.store.tree import MARKER
from lamella.pipeline.upkeep.inventory import Fault, Inventory
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.files import DoneRecord
from lamella.schemas.job_record import JobRecord
from lamella.schemas.rankings import QueryRun
from lamella.schemas.report import RetrievalReport
from lamella.schemas.snapshot import IndexSnapshot, Promotion
from lamella.schemas.vocabulary import Vocabulary

STATES: dict[str, tuple[str, tuple[str, ...]]] = {"extract": ("images", ("indexed", "refused"))}
"""By stage: the count of a record that the others must add up to."""

ROWS: dict[str, dict[str, str]] = {
    "corpus": {"images": "images"},
    "extract": {"images": "indexed", "refusals": "refused"},
    "index": {"images": "images"},
    "sample": {"sample": "descriptors"},
}
"""By stage: which file has as many rows as which count."""


def neighbour_faults(found: Inventory) -> Iterator[Fault]:
    """Yield what is wrong between records that are each whole."""
    if MARKER not in found.files and found.records:
        yield Fault(MARKER, "is gone: a store is known by it")
    for path, done in found.of(DoneRecord):
        yield from _counts(path, done)
    for path, manifest in found.of(CorpusManifest):
        yield from _manifest(found, path, manifest)
    for path, vocabulary in found.of(Vocabulary):
        yield from _training(found, path.removesuffix("/vocabulary.json"), vocabulary)
    for path, snapshot in found.of(IndexSnapshot):
        yield from _snapshot(found, path, snapshot)
    for path, _ in found.of(RetrievalReport):
        page = path.replace("report.json", "report.html")
        if page not in found.files:  # it is created before the report
            yield Fault(page, "is gone: its report is there")
    for path, run in found.of(QueryRun):
        folder = f"{path.removesuffix('/run.json')}/rankings"
        for number in range(len(run.rankings)):
            yield from _done(found, folder, layout.shard_key(number), f"run {run.run}")[1]
    yield from _series(found)
    yield from _jobs(found)


def _counts(path: str, record: DoneRecord) -> Iterator[Fault]:
    counts = record.counts
    total, parts = STATES.get(record.stage, ("", ()))
    if parts and counts.get(total) != sum(counts.get(part, 0) for part in parts):
        listed = " + ".join(f"{counts.get(part, 0):,} {part}" for part in parts)
        yield Fault(path, f"says {listed} of {counts.get(total, 0):,} {total}")
    for name, count in ROWS.get(record.stage, {}).items():
        rows = record.files[name].rows if name in record.files else -1
        if rows != counts.get(count):
            yield Fault(path, f"says {counts.get(count)} {count}, its file has {rows} rows")


def _manifest(found: Inventory, path: str, manifest: CorpusManifest) -> Iterator[Fault]:
    folder = path.removesuffix("/manifest.json")
    for shard in manifest.shards:
        record, faults = _done(found, folder, shard.key, "the manifest")
        yield from faults
        if record is not None and record.counts.get("images") != shard.images:
            yield Fault(
                layout.done(folder, shard.key),
                f"says {record.counts.get('images')} images, the manifest {shard.images}",
            )


def _done(
    found: Inventory, folder: str, key: str, needed_by: str
) -> tuple[DoneRecord | None, list[Fault]]:
    """Return a done record that must be there, or the fault that it is not."""
    path = layout.done(folder, key)
    record = found.records.get(path)
    if isinstance(record, DoneRecord):
        return record, []
    if path in found.files:
        return None, []  # it is there and damaged, which is said elsewhere
    return None, [Fault(path, f"is gone: {needed_by} was made from it")]


def _training(found: Inventory, folder: str, vocabulary: Vocabulary) -> Iterator[Fault]:
    last: DoneRecord | None = None
    if vocabulary.imported:
        yield from _done(found, folder, "import", "the vocabulary")[1]
        return
    yield from _done(found, folder, "health", "the vocabulary")[1]
    for key in ["seed", *(layout.shard_key(n) for n in range(len(vocabulary.rounds)))]:
        last, faults = _done(found, folder, key, "the vocabulary")
        yield from faults
    made = vocabulary.centroids.content() if vocabulary.centroids else None
    if last is not None and last.files["centroids"].content() != made:
        yield Fault(f"{folder}/vocabulary.json", "is not of the last round of its training")


def _snapshot(found: Inventory, path: str, snapshot: IndexSnapshot) -> Iterator[Fault]:
    who = f"snapshot {snapshot.number}"
    images = indexed = 0
    for shard in snapshot.shards:
        corpus = shard.file.path.split("/images/")[0]
        _, faults = _done(found, corpus, shard.key, who)
        yield from faults
        if shard.images:
            record, faults = _done(found, snapshot.extraction_folder, shard.key, who)
            yield from faults
            images += shard.images
            indexed += record.counts.get("indexed", 0) if record is not None else 0
            yield from _samples(found, snapshot, record, shard.key, who)
    if snapshot.shards:
        manifest = f"{snapshot.shards[0].file.path.split('/images/')[0]}/manifest.json"
        if manifest not in found.files:
            yield Fault(manifest, f"is gone: {who} was made from it")
    if images != snapshot.images:
        yield Fault(path, f"says {snapshot.images:,} images, its shards have {images:,}")
    bags = snapshot.encoding_folder
    for segment in snapshot.segments:
        folder = segment.files["images"].path.split("/images/")[0]
        record, faults = _done(found, folder, segment.key, who)
        yield from faults
        if record is not None and record.counts.get("images") != segment.images:
            yield Fault(
                layout.done(folder, segment.key),
                f"says {record.counts.get('images')} images, {who} {segment.images}",
            )
        for shard_key in segment.shards:
            yield from _done(found, bags, shard_key, who)[1] if bags else ()
        yield from _done(found, f"{folder}/totals", "totals", who)[1]
    for vocabulary in snapshot.vocabularies.values():
        if vocabulary.centroids is not None:
            named = f"{vocabulary.centroids.path.split('/rounds/')[0]}/vocabulary.json"
            record_there = found.records.get(named)
            if named not in found.files:
                yield Fault(named, f"is gone: {who} was made from it")
            elif isinstance(record_there, Vocabulary) and (
                record_there.identity() != vocabulary.identity()
            ):
                yield Fault(named, f"is another vocabulary than that of {who}")


def _samples(
    found: Inventory, snapshot: IndexSnapshot, record: DoneRecord | None, key: str, who: str
) -> Iterator[Fault]:
    for layer, vocabulary in snapshot.vocabularies.items():
        if vocabulary.imported or vocabulary.centroids is None:
            continue
        if record is not None and layer in record.files:
            folder = f"{vocabulary.centroids.path.split('/rounds/')[0]}/sample"
            yield from _done(found, folder, key, who)[1]


def _series(found: Inventory) -> Iterator[Fault]:
    """Snapshots and promotions are numbered without gaps, and a promotion's snapshot is there."""
    for folder, path_of in (("snapshots", layout.snapshot), ("promotions", layout.promotion)):
        numbers = [
            int(p[-11:-5])
            for p in found.files
            if p.startswith(f"{folder}/") and p[-11:-5].isdigit()
        ]
        for number in range(1, max(numbers, default=0)):
            if number not in numbers:
                yield Fault(path_of(number), "is gone: later numbers are there")
    snapshots = {s.number: s for _, s in found.of(IndexSnapshot)}
    for path, promotion in found.of(Promotion):
        named_one = snapshots.get(promotion.snapshot)
        if named_one and promotion.root_digest not in ("", named_one.root_digest):
            yield Fault(
                layout.snapshot(promotion.snapshot),
                f"has root digest {named_one.root_digest[:12]}, {path} names "
                f"{promotion.root_digest[:12]}",
            )
    named = {p.snapshot for _, p in found.of(Promotion)}
    last = max((int(p[-11:-5]) for p in found.files if p.startswith("snapshots/")), default=0)
    for number in sorted(named):
        if number > last:
            yield Fault(layout.snapshot(number), "is gone: a promotion names it")


def _jobs(found: Inventory) -> Iterator[Fault]:
    jobs = dict(found.of(JobRecord))
    known = {layout.corpus(layout.keyed(job.name, job.corpus_inputs)) for job in jobs.values()}
    damaged = any(fault.path.startswith("jobs/") for fault in found.faults)
    for _, snapshot in found.of(IndexSnapshot):
        if snapshot.job not in ("", *found.files):
            yield Fault(snapshot.job, f"is gone: snapshot {snapshot.number} was made by it")
    for path, _ in found.of(CorpusManifest):
        folder = path.removesuffix("/manifest.json")
        if folder not in known and not damaged and not _named_by_a_snapshot(found, folder):
            yield Fault(
                f"jobs/{folder.split('/')[1]}", "is gone: no record of a job names its corpus"
            )


def _named_by_a_snapshot(found: Inventory, folder: str) -> bool:
    return any(
        snapshot.shards[0].file.path.startswith(f"{folder}/")
        for _, snapshot in found.of(IndexSnapshot)
        if snapshot.shards
    )
