"""What is alive in a store: all that its snapshots and its recent jobs are made of.

`gc` removes the rest. Everything is reached from a few roots:

- a snapshot that has not expired: its segments and their manifests; the tables, activations and
  words of their shards; its totals, its vocabularies with their trainings, its job and corpus;
- a recent job: all that its stages have made, and all that stages to come may find made;
- records that stand for themselves: promotions, tags, expired and forgotten ones, runs, reports.

A job is recent while its record is younger than the age of garbage, and the newest job of a corpus
for 30 days, so that one that takes long, or was stopped, can go on. Encodings of queries and plans
are caches and forecasts: they go after 30 days.
"""

from collections import defaultdict
from collections.abc import Iterable, Set

from lamella.pipeline.extract.extraction import extraction_place, outcome_key
from lamella.pipeline.index.encode import encoding_place, from_high_to_low
from lamella.pipeline.index.one_pass import WordEncoder
from lamella.pipeline.index.publish import totals_place
from lamella.pipeline.journey import Journey, encodes_at_once, route
from lamella.pipeline.stages import Seen, top_of
from lamella.pipeline.store import tree
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.upkeep.inventory import Inventory, named_files
from lamella.schemas.corpus import CorpusManifest, ShardRef
from lamella.schemas.extraction import ExtractionSpec
from lamella.schemas.files import DoneRecord
from lamella.schemas.gate import Judgement
from lamella.schemas.job_record import JobRecord
from lamella.schemas.keeping import Expired
from lamella.schemas.snapshot import IndexSnapshot, SegmentManifest
from lamella.schemas.vocabulary import Vocabulary

LONG_S = 30 * 86_400.0
"""No job takes longer, and caches that are older than this are made again."""

ROOTED = frozenset(
    {
        top_of(row.form.text)
        for row in (tree.JOB, tree.MANIFEST, tree.VOCABULARY, tree.SEGMENT, tree.GATE)
    }
    | {top_of(step.form.text) for step in tree.STEPS}
) - {"runs"}
"""Folders whose records must be reached from a root."""

_TOPS = {
    "corpus": ("corpora", "looks"),
    "extract": ("activations", "bags"),
    "vocabulary": ("vocabularies",),
    "encode": ("bags",),
    "index": ("segments", "totals"),
    "propose": ("frames", "proposers"),
}
"""By kind of a stage, the folders in which it may find its work done."""


def may_go_at(path: str, age_s: float) -> float | None:
    """Return from what age on a record may go that no root reaches; None for never.

    Args:
        age_s: the age of garbage.
    """
    if tree.SNAPSHOT.form.read(path) is not None:
        return None  # one that has expired goes at once: see `collect_garbage`
    found = tree.read(path)
    if found is None or found.kind != "record":
        return None
    if found.row is tree.PLAN or (tree.QUERIES in found.steps and found.row is None):
        return max(age_s, LONG_S)
    return age_s if top_of(path) in ROOTED else None


class Alive:
    """The records that a root reaches, and folders in which everything is held by a recent job.

    `snapshots` are those that have not expired. `waiting` has the folders of activations whose
    descriptors a recent job is still to read, each with the name of the job.

    Raises:
        StoreError: a file on the way is gone or damaged.
    """

    def __init__(self, store: Store, found: Inventory, now: float, age_s: float) -> None:
        self._store, self._found = store, found
        self._trainings: dict[str, list[str]] = defaultdict(list)
        for path in found.records:
            if top_of(path) == "vocabularies":
                self._trainings["/".join(path.split("/")[:3])].append(path)
        self.paths: set[str] = set()
        self.tops: set[str] = set()
        self.waiting: dict[str, str] = {}
        gone = {record.number for _, record in found.of(Expired)}
        there = {path: each for path, each in found.of(IndexSnapshot) if each.number not in gone}
        self.snapshots = tuple(there.values())
        for path, snapshot in there.items():
            self.paths.add(path)
            self._snapshot(snapshot)
        self.paths |= {path for path, judged in found.of(Judgement) if judged.snapshot not in gone}
        for path in _recent(found, now, age_s):
            self._job(path)
            job = found.records[path]
            assert isinstance(job, JobRecord)
            self._recent(job)

    def reaches(self, path: str) -> bool:
        """Say whether a root reaches a record."""
        return path in self.paths or top_of(path) in self.tops

    def _done(self, folder: str, key: str) -> DoneRecord | None:
        path = tree.done(folder, key)
        record = self._found.records.get(path)
        self.paths.add(path)
        return record if isinstance(record, DoneRecord) else None

    def _training(self, folder: str) -> None:
        self.paths.update(self._trainings.get(folder, ()))

    def _looks(self, shards: Iterable[ShardRef]) -> None:
        for shard in shards:
            if (look := tree.read(shard.file.path)) is not None:
                self._done(look.folder, look.key)

    def _snapshot(self, snapshot: IndexSnapshot) -> None:
        self._job(snapshot.job)
        for segment in snapshot.segments:
            for file in segment.files.values():
                self._done(tree.folder_of(file.path), segment.key)
            self.paths.add(segment.manifest)
            manifest = self._found.records.get(segment.manifest)
            if isinstance(manifest, SegmentManifest):
                self._looks(manifest.shards)
                self._features(manifest.shards, snapshot.extraction, snapshot.vocabularies)
        frames = {} if snapshot.proposers is None else snapshot.proposers.frames
        for file in (*snapshot.document_frequencies.values(), *frames.values()):
            found = tree.read(file.path)
            if found is not None:
                self._done(found.folder, found.key)
        for vocabulary in snapshot.vocabularies.values():
            for file in vocabulary.files():
                self._training(tree.SEED.folder(**tree.parts_of(file.path)))

    def _features(
        self,
        shards: Iterable[ShardRef],
        spec: ExtractionSpec,
        words: dict[str, Vocabulary],
    ) -> None:
        """Mark vectors and words of shards, made in one pass or in two."""
        together, _ = extraction_place(spec, WordEncoder(words))
        apart, _ = extraction_place(spec, None)
        bags, _ = encoding_place(spec.digest(), from_high_to_low(spec, words))
        for shard in shards:
            self._done(together, shard.key)
            record = self._done(apart, shard.key)
            if record is not None:
                self._done(bags, outcome_key(self._store, shard, record))

    def _job(self, path: str) -> None:
        job = self._found.records.get(path)
        if not isinstance(job, JobRecord):
            return
        corpus = tree.MANIFEST.at(keyed=tree.keyed(job.name, job.corpus_inputs))
        self.paths |= {path, corpus}
        manifest = self._found.records.get(corpus)
        if isinstance(manifest, CorpusManifest):
            self._looks(manifest.shards)
        for vocabulary in job.kept.values():
            self._training(vocabulary.rpartition("/")[0])
        self.paths.update(job.frames.values())

    def _recent(self, job: JobRecord) -> None:
        """Mark what the stages of a job have made, and hold what later ones may find."""
        seen = Journey(self._store, job).look()
        names = route(job.extraction, job.job, job.imports, job.kept)
        if not seen.whole and not encodes_at_once(job.job, job.imports or job.kept):
            self.waiting[extraction_place(job.extraction, None)[0]] = job.name
        for name in names:
            if not seen.made.has(name):
                self.tops.update(_TOPS[name.partition(" ")[0]])
        for stage in seen.stages:
            if stage.name.startswith("vocabulary"):
                self._training(stage.folder)
        self._made(seen)

    def _made(self, seen: Seen) -> None:
        made = seen.made
        if made.has("extract"):
            self._features(made.extraction.shards, made.extraction.spec, made.vocabularies)
        if made.has("encode"):
            bags, _ = encoding_place(made.extraction.decided, made.vocabularies)
            for key in made.extraction.keys:
                self._done(bags, key)
        if made.has("index"):
            for task in made.index.tasks:
                self._done(made.index.folder, task.key)
                parts = tree.parts_of(made.index.folder)
                self.paths.add(tree.SEGMENT.at(**parts, key=task.key))
            self._done(totals_place(made.index)[0], "totals")
        if made.proposed is not None:
            self.paths.update(made.proposed.frame_paths.values())
            for key in made.proposed.records:
                self._done(made.proposed.folder, key)


def _recent(found: Inventory, now: float, age_s: float) -> list[str]:
    """Return the paths of the records of recent jobs."""
    age = {path: now - found.files[path].modified for path, _ in found.of(JobRecord)}
    newest: dict[str, str] = {}
    for path, job in found.of(JobRecord):
        known = newest.get(job.name)
        if known is None or age[path] < age[known]:
            newest[job.name] = path
    last = {path for path in newest.values() if age[path] <= max(age_s, LONG_S)}
    return [path for path in age if age[path] <= age_s or path in last]


def spent(found: Inventory) -> set[str]:
    """Return the records of a round's sums whose checkpoint is there."""

    def is_spent(path: str) -> bool:
        file = tree.read(path)
        return file is not None and file.until() in found.records

    return {path for path, _ in found.of(DoneRecord) if is_spent(path)}


def needed_files(found: Inventory, without: Set[str]) -> set[str]:
    """Return the files that records name, those records left out that go."""
    return {
        file.path
        for path, record in found.records.items()
        if path not in without
        for file in named_files(record)
    }
