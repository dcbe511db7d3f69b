"""Check records against each other: what a record was made from is there, and counts add up."""

from collections.abc import Iterator, Sequence

from lamella.pipeline.extract.extraction import extraction_place
from lamella.pipeline.index.encode import encoding_place, from_high_to_low
from lamella.pipeline.index.one_pass import WordEncoder
from lamella.pipeline.index.stage import segment_key
from lamella.pipeline.store import tree
from lamella.pipeline.upkeep.inventory import Fault, Inventory
from lamella.schemas.corpus import CorpusManifest, ShardRef
from lamella.schemas.files import DoneRecord
from lamella.schemas.job_record import JobRecord
from lamella.schemas.keeping import Tag
from lamella.schemas.rankings import QueryRun
from lamella.schemas.report import RetrievalReport
from lamella.schemas.snapshot import IndexSnapshot, Promotion, SegmentManifest
from lamella.schemas.vocabulary import Vocabulary


def neighbour_faults(found: Inventory) -> Iterator[Fault]:
    """Yield what is wrong between records that are each intact."""
    if tree.MARKER not in found.files and found.records:
        yield Fault(tree.MARKER, "is gone: a store is known by it")
    for path, done in found.of(DoneRecord):
        yield from _counts(path, done)
    for _, manifest in found.of(CorpusManifest):
        yield from _looks(found, manifest.shards)
    for _, segment in found.of(SegmentManifest):
        yield from _looks(found, segment.shards)
    for path, vocabulary in found.of(Vocabulary):
        yield from _training(found, path, vocabulary)
    for path, snapshot in found.of(IndexSnapshot):
        yield from _snapshot(found, path, snapshot)
    for path, _ in found.of(RetrievalReport):
        page = tree.PAGE.at(**tree.parts_of(path))
        if page not in found.files:  # the page is created before the report
            yield Fault(page, "is gone: its report is there")
    for _, run in found.of(QueryRun):
        folder = tree.QUERY.folder(run=run.run)
        for number in range(len(run.rankings)):
            yield from _done(found, folder, tree.shard_key(number), f"run {run.run}")[1]
    yield from _series(found)
    yield from _tags(found)
    yield from _jobs(found)


def _counts(path: str, record: DoneRecord) -> Iterator[Fault]:
    """Yield the counts of a record that contradict the row of its step in the tree."""
    found, counts = tree.read(path), record.counts
    for step in found.steps if found is not None else ():
        if step.name != record.stage:
            continue
        if step.total and counts.get(step.total) != sum(counts.get(s, 0) for s in step.states):
            listed = " + ".join(f"{counts.get(state, 0):,} {state}" for state in step.states)
            yield Fault(path, f"says {listed} of {counts.get(step.total, 0):,} {step.total}")
        for name, count in step.rows.items():
            rows = record.made[name].rows if name in record.made else -1
            if rows != counts.get(count):
                yield Fault(path, f"says {counts.get(count)} {count}, its file has {rows} rows")


def _looks(found: Inventory, shards: Sequence[ShardRef]) -> Iterator[Fault]:
    """Yield what is wrong with the records of the looks at shards."""
    for shard in shards:
        look = tree.read(shard.file.path)
        if look is None:
            continue
        record, faults = _done(found, look.folder, look.key, "a corpus")
        yield from faults
        if record is not None and record.counts.get("images") != shard.images:
            yield Fault(
                tree.done(look.folder, look.key),
                f"says {record.counts.get('images')} images, the manifest {shard.images}",
            )


def _done(
    found: Inventory, folder: str, key: str, needed_by: str
) -> tuple[DoneRecord | None, list[Fault]]:
    """Return a done record that must be there, or the fault that it is missing."""
    path = tree.done(folder, key)
    record = found.records.get(path)
    if isinstance(record, DoneRecord):
        return record, []
    if path in found.files:
        return None, []  # there and damaged, which the inventory reports
    return None, [Fault(path, f"is gone: {needed_by} was made from it")]


def _training(found: Inventory, path: str, vocabulary: Vocabulary) -> Iterator[Fault]:
    folder, last = tree.folder_of(path), None
    if vocabulary.imported:
        yield from _done(found, folder, "import", "the vocabulary")[1]
        return
    yield from _done(found, folder, "health", "the vocabulary")[1]
    for key in ["seed", *(tree.shard_key(n) for n in range(len(vocabulary.rounds)))]:
        last, faults = _done(found, folder, key, "the vocabulary")
        yield from faults
    for file in vocabulary.sample:
        drawn = tree.read(file.path)
        if drawn is not None:
            yield from _done(found, drawn.folder, drawn.key, "the vocabulary")[1]
    made = vocabulary.centroids.content() if vocabulary.centroids else None
    if last is not None and last.made["centroids"].content() != made:
        yield Fault(path, "is not of the last round of its training")


def _snapshot(found: Inventory, path: str, snapshot: IndexSnapshot) -> Iterator[Fault]:
    who = f"snapshot {snapshot.number}"
    images, known = 0, True
    for segment in snapshot.segments:
        for folder in sorted({tree.folder_of(file.path) for file in segment.files.values()}):
            record, faults = _done(found, folder, segment.key, who)
            yield from faults
            if record is not None and record.counts.get("images") != segment.images:
                yield Fault(
                    tree.done(folder, segment.key),
                    f"says {record.counts.get('images')} images, {who} {segment.images}",
                )
        manifest = found.records.get(segment.manifest)
        if isinstance(manifest, SegmentManifest):
            images += sum(shard.images for shard in manifest.shards)
            yield from _features(found, snapshot, manifest, who)
        else:
            known = False
            if segment.manifest not in found.files:  # else damaged, which the inventory reports
                yield Fault(segment.manifest, f"is gone: {who} was made from it")
    if known and images != snapshot.images:
        yield Fault(path, f"says {snapshot.images:,} images, its shards have {images:,}")
    for file in list(snapshot.document_frequencies.values())[:1]:
        yield from _done(found, tree.folder_of(file.path), "totals", who)[1]
    for file in () if snapshot.proposers is None else snapshot.proposers.frames.values():
        yield from _done(found, tree.folder_of(file.path), "frame", who)[1]
    for vocabulary in snapshot.vocabularies.values():
        if vocabulary.centroids is not None:
            named = _summary(vocabulary.centroids.path)
            record_there = found.records.get(named)
            if named not in found.files:
                yield Fault(named, f"is gone: {who} was made from it")
            elif isinstance(record_there, Vocabulary) and (
                record_there.identity() != vocabulary.trained().identity()
            ):
                yield Fault(named, f"is another vocabulary than that of {who}")


def _features(
    found: Inventory, snapshot: IndexSnapshot, segment: SegmentManifest, who: str
) -> Iterator[Fault]:
    """Yield what is missing of the vectors and words of a segment, made in one pass or in two."""
    encoder = WordEncoder(snapshot.vocabularies)
    together, _ = extraction_place(snapshot.extraction, encoder)
    apart, _ = extraction_place(snapshot.extraction, None)
    vocabularies = from_high_to_low(snapshot.extraction, snapshot.vocabularies)
    words, _ = encoding_place(snapshot.extraction.digest(), vocabularies)
    # Words of a shard with pictures that were refused late have a key that a retry makes unknown.
    all_read = segment_key([shard.key for shard in segment.shards]) == segment.key
    for shard in segment.shards:
        both = found.records.get(tree.done(together, shard.key))
        one = found.records.get(tree.done(apart, shard.key))
        if both is None and one is None:
            folder = apart if snapshot.keeps_descriptors else together
            yield from _done(found, folder, shard.key, who)[1]
        elif both is None and all_read:
            yield from _done(found, words, shard.key, who)[1]


def _series(found: Inventory) -> Iterator[Fault]:
    """Yield gaps in the numbers of snapshots and promotions, and promotions without a snapshot."""
    for series in (tree.SNAPSHOT, tree.PROMOTION):
        numbers = _numbers(found, series)
        if series is tree.SNAPSHOT:
            numbers += _numbers(found, tree.EXPIRED)
        for number in range(1, max(numbers, default=0)):
            if number not in numbers:
                yield Fault(series.at(number=number), "is gone: later numbers are there")
    snapshots = {s.number: s for _, s in found.of(IndexSnapshot)}
    for path, promotion in found.of(Promotion):
        named_one = snapshots.get(promotion.snapshot)
        if named_one and promotion.root_digest not in ("", named_one.root_digest):
            yield Fault(
                tree.SNAPSHOT.at(number=promotion.snapshot),
                f"has root digest {named_one.root_digest[:12]}, {path} names "
                f"{promotion.root_digest[:12]}",
            )
    named = {p.snapshot for _, p in found.of(Promotion)}
    both = (*_numbers(found, tree.SNAPSHOT), *_numbers(found, tree.EXPIRED))
    last = max(both, default=0)
    for number in sorted(named):
        if number > last:
            yield Fault(tree.SNAPSHOT.at(number=number), "is gone: a promotion names it")


def _tags(found: Inventory) -> Iterator[Fault]:
    """Yield tags whose snapshots are gone."""
    there = set(_numbers(found, tree.SNAPSHOT))
    for path, tag in found.of(Tag):
        if tag.snapshot not in there:
            yield Fault(path, f"names snapshot {tag.snapshot}, which is gone")


def _numbers(found: Inventory, series: tree.FileKind) -> list[int]:
    """Return the numbers in a series whose files are there, damaged or not."""
    parts = (series.form.read(path) for path in found.files)
    return [int(each["number"]) for each in parts if each is not None]


def _summary(path: str) -> str:
    """Return the path of the record that stands over the folder of a file, "" if there is none."""
    found = tree.read(path)
    return (found and found.summary()) or ""


def _jobs(found: Inventory) -> Iterator[Fault]:
    jobs = dict(found.of(JobRecord))
    known = {
        tree.MANIFEST.folder(keyed=tree.keyed(job.name, job.corpus_inputs)) for job in jobs.values()
    }
    damaged = any(tree.record_of(fault.path) is JobRecord for fault in found.faults)
    for _, snapshot in found.of(IndexSnapshot):
        if snapshot.job not in ("", *found.files):
            yield Fault(snapshot.job, f"is gone: snapshot {snapshot.number} was made by it")
        job = jobs.get(snapshot.job)
        if job is not None:
            manifest = tree.MANIFEST.at(keyed=tree.keyed(job.name, job.corpus_inputs))
            if manifest not in found.files:
                yield Fault(manifest, f"is gone: snapshot {snapshot.number} was made from it")
    indexed = {snapshot.corpus_content for _, snapshot in found.of(IndexSnapshot)}
    for path, corpus in found.of(CorpusManifest):
        named = path.rpartition("/")[0] in known or corpus.content_digest in indexed
        if not named and not damaged:
            yield Fault(
                tree.JOB.at(**tree.parts_of(path)), "is gone: no record of a job names its corpus"
            )
