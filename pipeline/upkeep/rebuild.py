"""Run parts of a recorded job again: missing tasks, a snapshot, a promotion."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lamella.pipeline.corpus.forgotten import earlier_listings
from lamella.pipeline.corpus.given_vectors import GivenVectors
from lamella.pipeline.corpus.joined_listing import list_corpus
from lamella.pipeline.corpus.listing import Listing
from lamella.pipeline.corpus.roots import picture_root, picture_source
from lamella.pipeline.corpus.stage import corpus_inputs, decode_limits
from lamella.pipeline.corpus.vector_listing import list_vectors
from lamella.pipeline.errors import InputError, StoreError
from lamella.pipeline.index.expired import expired_numbers
from lamella.pipeline.index.promotions import now
from lamella.pipeline.jobs.gate import judgements
from lamella.pipeline.jobs.indexing import draft_of
from lamella.pipeline.jobs.recorded import read_jobs
from lamella.pipeline.jobs.resolve import resolve_extraction
from lamella.pipeline.jobs.vectors import check_believed, given_layers, open_layers
from lamella.pipeline.journey import Journey
from lamella.pipeline.networks.copies import held
from lamella.pipeline.stages import Hands, Made
from lamella.pipeline.store import tree
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.upkeep.inventory import Inventory, take_inventory
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.files import DoneRecord
from lamella.schemas.job_record import JobRecord
from lamella.schemas.keeping import Expired, Forgotten
from lamella.schemas.snapshot import IndexSnapshot, Promotion


@dataclass(frozen=True)
class RecordedSources:
    """The pictures, weights and vectors of a recorded job: where its record says, or the user.

    They are looked for only if something must be made from them, and must be unchanged.

    Attributes:
        pictures: where the pictures are now; by default where they were.
    """

    store: Store
    job: JobRecord
    pictures: str | None = None

    def listing(self) -> Listing:
        """See `job_listing`."""
        return job_listing(self.store, self.job, self.pictures)

    def moved(self, manifest: CorpusManifest) -> CorpusManifest:
        """See `Sources`."""
        if self.pictures is None:
            return manifest
        return manifest.model_copy(update={"root": self.root(manifest)})

    def root(self, manifest: CorpusManifest) -> str:
        """See `picture_root`."""
        return picture_root(self.store, manifest.root, self.pictures)

    def weights(self) -> Path:
        """Return the path of the weights, which must be those on record.

        Raises:
            InputError: weights or network have changed.
        """
        recorded = self.job.extraction
        if (kept := held(recorded.weights)) is not None:
            return kept
        layers = {layer.name: layer for layer in recorded.given}
        spec, weights = resolve_extraction(self.job.job, layers, alone=recorded.is_corpus)
        if spec != recorded:
            raise InputError(
                f"weights or network are not those that {self.job.name} was made with "
                f"(SHA-256 {spec.weights.sha256[:12]}, "
                f"{self.job.extraction.weights.sha256[:12]} on record): put the right ones back"
            )
        return weights

    def vectors(self) -> Mapping[str, GivenVectors]:
        """Return the vectors that the job was given, which must be those on record.

        Raises:
            InputError: a file is missing or has changed.
        """
        return recorded_vectors(self.store, self.job, self.pictures)


def recorded_vectors(
    store: Store, job: JobRecord, pictures: str | None = None
) -> dict[str, GivenVectors]:
    """Open the vectors of a job, which must not have changed since.

    Args:
        pictures: where the file is now, of a corpus of vectors.

    Raises:
        InputError: a file is missing or has changed; or the store in S3 names one of this machine.
    """
    settings = list(job.job.vectors)
    told: list[str] = []
    if job.extraction.is_corpus and pictures is not None:
        settings[0] = settings[0].model_copy(update={"file": pictures})
        told = [settings[0].name]
    check_believed(store.url, settings, told)
    found = open_layers(settings)
    now = given_layers(found, are_corpus=job.extraction.is_corpus)
    for layer in job.extraction.given:
        if now.get(layer.name) != layer:
            raise InputError(
                f"the vectors of {layer.name} are not those that {job.name} was made with: put "
                f"{found[layer.name].place} back as it was, or index anew"
            )
    return found


def rebuild_job(store: Store, job: JobRecord, hands: Hands, pictures: str | None = None) -> Made:
    """Run what is missing of a job; return the outcomes of its stages.

    Pictures and weights are needed only if corpus or extraction have something to make.

    Raises:
        InputError: pictures or weights are needed, and missing or changed.
        StageFailed: a task failed.
    """
    return Journey(store, job, RecordedSources(store, job, pictures)).make(hands)


def job_listing(store: Store, job: JobRecord, pictures: str | None = None) -> Listing:
    """List the source of a job, which must not have changed since.

    Args:
        pictures: where the source is now; by default where it was.

    Raises:
        InputError: it is missing or has changed.
    """
    if job.extraction.is_corpus:
        first = next(iter(recorded_vectors(store, job, pictures).values()))
        source, listed = first.place, list_vectors(first)
    else:
        source = picture_source(store, job.source, pictures)
        corpus = job.job.corpus
        listed = list_corpus(source, corpus.column, columns=corpus.columns)
    limits, inputs = decode_limits(job.job), ""
    # A picture may have been forgotten since, which this corpus did not hold.
    for listing in earlier_listings(store, listed):
        inputs = corpus_inputs(listing, job.shard_images, limits)
        if inputs == job.corpus_inputs:
            return listing
    raise InputError(
        f"{source} has changed since corpus {job.name} was made of it (names, sizes or "
        f"times: {inputs[:12]}, {job.corpus_inputs[:12]} on record): put it back as it was, "
        "or index it anew"
    )


def rebuild_snapshot(store: Store, path: str, hands: Hands, pictures: str | None = None) -> None:
    """Write a damaged or lost snapshot again, from the finished job that published it.

    Raises:
        InputError: no finished job gives this snapshot.
    """
    number = int(tree.SNAPSHOT.form.parts(path)["number"])
    found = take_inventory(store)
    wanted = {p.root_digest for _, p in found.of(Promotion) if p.snapshot == number} - {""}
    others = {s.root_digest for p, s in found.of(IndexSnapshot) if p != path}
    for job_path, job in read_jobs(store).items():
        if not _is_whole(store, job):
            continue  # the job has not ended
        made = rebuild_job(store, job, hands, pictures)
        draft = draft_of(store, job_path, job, made, on_progress=hands.watch.progress)
        if draft.root_digest in wanted or (not wanted and draft.root_digest not in others):
            store.replace(path, draft.model_copy(update={"number": number}).to_json())
            return
    raise InputError(
        f"{path} cannot be rebuilt: no finished job in {store.url} gives it; index anew, or "
        "restore the file from a copy"
    )


def rebuild_words(store: Store, found: Inventory, damaged: Sequence[str]) -> Iterator[str]:
    """Write damaged records of vocabularies again whose trainings were freed; yield their paths.

    A snapshot has all that such a record says, while a training would begin with the pictures.
    """
    words = [each for _, s in found.of(IndexSnapshot) for each in s.vocabularies.values()]
    for path in damaged:
        folder = path.rpartition("/")[0]
        if tree.VOCABULARY.form.read(path) is None or any(
            other.startswith(f"{folder}/") for other in damaged if other != path
        ):
            continue
        seed = found.records.get(tree.done(folder, "seed"))
        own = [w for w in words if w.centroids and w.centroids.path.startswith(f"{folder}/")]
        if own and isinstance(seed, DoneRecord) and seed.freed:
            trained = own[0].trained().model_copy(update={"freed": True})
            store.replace(path, trained.to_json())
            yield path


def _is_whole(store: Store, job: JobRecord) -> bool:
    """Say whether all stages of a job have ended and their records are intact."""
    try:
        return Journey(store, job).look().whole
    except StoreError:
        return False


def rebuild_promotion(store: Store, path: str) -> str:
    """Write a damaged or lost promotion again; return a sentence that says what it promotes now.

    If a later promotion follows, it promotes the same, and has no effect. If it is the last, it
    promotes the newest snapshot that did not fail its gate, without a hold.
    """
    number = int(tree.PROMOTION.form.parts(path)["number"])
    found = take_inventory(store)
    later = [p for _, p in found.of(Promotion) if p.number > number]
    snapshots = {s.number: s for _, s in found.of(IndexSnapshot)}
    snapshots = {n: s for n, s in snapshots.items() if n not in expired_numbers(store)}
    if not snapshots:
        raise InputError(f"{path} cannot be rebuilt: {store.url} has no snapshot; index anew")
    judged = judgements(store)
    good = [number for number in snapshots if number not in judged or judged[number].passed]
    named = later[0].snapshot if later else max(good or snapshots)
    promotion = Promotion(
        number=number,
        snapshot=named,
        root_digest=snapshots[named].root_digest if named in snapshots else "",
        promoted_at=now(),
        commit_id=secrets.token_hex(8),
    )
    store.replace(path, promotion.to_json())
    if later:
        return f"{path} was rebuilt; a later promotion holds, so nothing changes"
    return (
        f"{path} was rebuilt and names snapshot {named}, the newest whose gate did not fail: if "
        f"another was promoted, give `lamella snapshots {store.url} --promote NUMBER`"
    )


def rebuild_keeping(store: Store, path: str) -> str:
    """Write a damaged record of an expired snapshot, or of a forgotten picture, again.

    What it must say is in its name, all but when and why; return a sentence that says so.
    """
    parts = tree.parts_of(path)
    lost, when = "this record was damaged, and rebuilt", now()
    record: Expired | Forgotten
    if tree.record_of(path) is Expired:
        record = Expired(number=int(parts["number"]), expired_at=when, reason=lost)
    else:
        value = {
            "by": parts["by"],
            "stands_for": parts["digest"],
            "forgotten_at": when,
            "reason": lost,
        }
        record = Forgotten.model_validate(value)
    store.replace(path, record.to_json())
    return f"{path} was rebuilt: when and why it was written is lost"
