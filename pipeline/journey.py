"""The journey of a job: its stages in order, what each one reads, and where it stores its results.

A stage (`corpus`, `extract`, `vocabulary b11`, `encode`, `index`) is a part of a job that a person
knows by name; it runs one or more steps. `route` lists the stages, and `Journey` walks them:

- `Journey.make` runs what is missing; `index`, `retry` and `repair` call it.
- `Journey.look` only reads records; `status`, `repair` and `retry` call it.
- `plan` estimates each stage of `route`.

The name of a stage's folder has a digest of the outcome of earlier stages. For example, pictures
that are refused late change the folders of everything after extraction. So the folder of a stage
is known only once the stages before it have ended, and the walk builds each stage when it gets
there.

To add a stage, add its name to `route`, a method that returns its `Stage`, and a case for it in
`Journey._stage`.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from lamella.pipeline import events
from lamella.pipeline.accounts import check_extraction, check_manifest, on_several_machines
from lamella.pipeline.corpus.stage import build_corpus, decode_limits
from lamella.pipeline.errors import InputError
from lamella.pipeline.extract.extraction import (
    Extraction,
    extraction_place,
    find_extracted,
    find_extraction,
)
from lamella.pipeline.extract.stage import extract_corpus
from lamella.pipeline.index.encode import Encoding, encode_corpus, encoding_place, find_encoding
from lamella.pipeline.index.freed import freed_and_needed, note_freed
from lamella.pipeline.index.one_pass import WordEncoder
from lamella.pipeline.index.publish import find_totals, make_totals
from lamella.pipeline.index.reuse import take_over
from lamella.pipeline.index.shards import find_at_once, shards_of
from lamella.pipeline.index.stage import Cuts, Index, find_index, index_corpus, index_place
from lamella.pipeline.index.words_in_use import in_use
from lamella.pipeline.proposers.stage import Proposing
from lamella.pipeline.stages import Hands, Made, Seen, Sources, Stage
from lamella.pipeline.store import tree
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import read_record
from lamella.pipeline.vocabulary.exchange import recipe_digest
from lamella.pipeline.vocabulary.import_words import (
    import_inputs,
    import_vocabulary,
    words_folder,
)
from lamella.pipeline.vocabulary.stage import train_vocabulary, vocabulary_inputs
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.extraction import ExtractionSpec
from lamella.schemas.job import JobConfig
from lamella.schemas.job_record import JobRecord
from lamella.schemas.vocabulary import Vocabulary


def route(
    spec: ExtractionSpec, job: JobConfig, imports: Mapping[str, str], kept: Mapping[str, str]
) -> list[str]:
    """Return the names of a job's stages in the order in which they run.

    This is the one list of stages; `index`, `status`, `repair`, `retry` and `plan` follow it.

    Args:
        job: settings as recorded, with `activations.keep` resolved.
        imports: the layers whose vocabulary is imported, with its SHA-256.
        kept: the layers with the words of an earlier snapshot, with the path of their record.
    """
    words = [f"vocabulary {layer.name}" for layer in spec.layers if layer.kind == "local"]
    last = ["index"] if job.index.proposer == "none" else ["index", "propose"]
    if encodes_at_once(job, imports or kept):
        return ["corpus", *words, "extract", *last]
    return ["corpus", "extract", *words, "encode", *last]


def encodes_at_once(job: JobConfig, given: Mapping[str, str]) -> bool:
    """Say whether extraction assigns words itself, so that no descriptors are stored.

    Args:
        given: the layers whose words are there before extraction.
    """
    return job.activations.keep == "none" and bool(given)


@dataclass(frozen=True)
class Journey:
    """Walks the stages of a recorded job, to make them or to look at them.

    Attributes:
        sources: pictures and weights; only needed to make stages, not to look at them.
    """

    store: Store
    job: JobRecord
    sources: Sources | None = None

    def make(self, hands: Hands) -> Made:
        """Run what is missing of all stages; return their outcomes.

        Raises:
            InputError: a source that is needed is gone or changed, or has no pictures.
            StageFailed: tasks failed, or more pictures were refused than the job allows.
        """
        made = Made()
        for name in self._route():
            began = time.monotonic()
            with events.within(stage=name):
                events.debug("stage-begun")
                made.add(name, self._stage(name, made).make(hands))
                events.info("stage-done", seconds=round(time.monotonic() - began, 1))
        return made

    def make_corpus(self, hands: Hands) -> CorpusManifest:
        """Run what is missing of the corpus stage; return the manifest."""
        manifest: CorpusManifest = self._corpus().make(hands)
        return manifest

    def look(self) -> Seen:
        """Return the stages up to and including the first that has not ended, without running any.

        Raises:
            CorruptFile: a record on the way is damaged.
        """
        made = Made()
        stages = tuple(self.walk(made))
        return Seen(stages, made, whole=made.has(self._route()[-1]), cuts=self._cuts)

    def walk(self, made: Made) -> Iterator[Stage]:
        """Yield each stage that is known, without running any.

        Args:
            made: takes the outcome of each stage, which is read when the next stage is asked for.

        Raises:
            CorruptFile: a record on the way is damaged.
        """
        for name in self._route():
            stage = self._stage(name, made)
            yield stage
            if (outcome := stage.find()) is None:
                return
            made.add(name, outcome)

    def _route(self) -> Sequence[str]:
        return route(self.job.extraction, self.job.job, self.job.imports, self.job.kept)

    def _stage(self, name: str, made: Made) -> Stage:
        kind, _, layer = name.partition(" ")
        match kind:
            case "corpus":
                return self._corpus()
            case "extract":
                return self._extract(made)
            case "vocabulary" if layer in self.job.kept:
                return self._keep(layer)
            case "vocabulary" if layer in self.job.imports:
                return self._import(made, layer)
            case "vocabulary":
                return self._train(made, layer)
            case "encode":
                return self._encode(made)
            case "index":
                return self._index(made)
            case "propose":
                return self._propose(made)
        raise ValueError(f"no stage is called {name!r}")

    @property
    def _at_once(self) -> bool:
        return encodes_at_once(self.job.job, self.job.imports or self.job.kept)

    @property
    def _cuts(self) -> Cuts:
        return Cuts(self.job.shard_images, self.job.job.index.segment_images)

    def _asked(self) -> Sources:
        if self.sources is None:
            raise ValueError("a journey without sources can be looked at, and not made")
        return self.sources

    def _corpus(self) -> Stage:
        key = tree.keyed(self.job.name, self.job.corpus_inputs)
        path = tree.MANIFEST.at(keyed=key)

        def find() -> CorpusManifest | None:
            if not self.store.exists(path):
                return None
            return read_record(self.store, path, CorpusManifest)

        def make(hands: Hands) -> CorpusManifest:
            sources, manifest = self._asked(), None if hands.rehash else find()
            again = manifest is not None and (
                (hands.fresh and manifest.unsure) or (hands.mend and self._lacks_looks(manifest))
            )
            if manifest is None or again:
                listing, before = sources.listing(), hands.before
                known = before is not None and before.root == listing.root
                manifest = build_corpus(
                    self.store,
                    hands.runner,
                    listing,
                    self.job.name,
                    shard_size=self.job.shard_images,
                    limits=decode_limits(self.job.job),
                    before=shards_of(self.store, before) if known and before else (),
                    rehash=hands.rehash,
                    mend=hands.mend,
                    fresh=hands.fresh,
                    on_progress=hands.watch.progress,
                )
            manifest = sources.moved(manifest)
            hands.watch.corpus(manifest)
            return manifest

        folder = tree.MANIFEST.folder(keyed=key)
        return Stage("corpus", folder, self.job.corpus_inputs, find, make)

    def _lacks_looks(self, manifest: CorpusManifest) -> bool:
        """Say whether the record of a look at a shard is gone."""
        looks = [tree.read(shard.file.path) for shard in manifest.shards]
        return any(
            look is None or not self.store.exists(tree.done(look.folder, look.key))
            for look in looks
        )

    def _extract(self, made: Made) -> Stage:
        spec, manifest, words = self.job.extraction, made.manifest, made.vocabularies
        encoder = WordEncoder(words) if self._at_once else None
        folder, inputs = extraction_place(spec, encoder)
        lookup = find_extracted(self.store, spec, None)
        if self._at_once:
            lookup = find_at_once(self.store, spec, words)

        def find() -> Extraction | None:
            return find_extraction(self.store, manifest, spec, lookup, kept=encoder is None)

        def make(hands: Hands) -> Extraction:
            check_manifest(self.store, manifest, self.job.job.corpus.max_refused)
            watch = hands.watch
            take = take_over(
                self.store,
                hands.before,
                spec,
                encoder,
                on_progress=watch.progress,
                note=watch.note,
            )

            def extract(anew: Set[str]) -> Extraction:
                return extract_corpus(
                    self.store,
                    hands.runner,
                    manifest,
                    spec,
                    lambda: (self._asked().root(manifest), self._asked().weights()),
                    find=lookup,
                    encoder=encoder,
                    take=take,
                    given=lambda: self._asked().vectors(),
                    anew=anew,
                    limits=decode_limits(self.job.job),
                    threads=hands.threads,
                    on_progress=watch.progress,
                )

            extraction = extract(hands.anew)
            if not self._at_once and any(record.freed for record in extraction.records):
                done = Made(corpus=manifest, extract=extraction)
                wanted = freed_and_needed(self.store, extraction, self._words_there(done))
                note_freed(extraction, wanted, watch.note)
                extraction = extract(wanted) if wanted else extraction
            check_extraction(self.store, extraction, manifest, self.job.job)
            if len(extraction.machines) > 1:
                hands.watch.note(on_several_machines(manifest.name, extraction.machines))
            return extraction

        return Stage("extract", folder, inputs, find, make)

    def _words_there(self, made: Made) -> dict[str, Vocabulary] | None:
        """Return the words of all local layers, None where some are still to be made."""
        for name in self._route():
            if name.startswith("vocabulary") and not made.has(name):
                if (words := self._stage(name, made).find()) is None:
                    return None
                made.add(name, words)
        return made.vocabularies

    def _import(self, made: Made, layer: str) -> Stage:
        spec, sha256 = self.job.extraction, self.job.imports[layer]
        extraction = None if self._at_once else made.extraction
        tried_on = recipe_digest(spec, layer) if extraction is None else extraction.inputs

        def make(hands: Hands) -> Vocabulary:
            folder = words_folder(self.job.job)
            return import_vocabulary(
                self.store, hands.runner, spec, layer, folder, sha256, extraction
            )

        return self._words(layer, import_inputs(sha256, tried_on, layer), make)

    def _keep(self, layer: str) -> Stage:
        """Return the stage of words that an earlier snapshot has: they are there, or damaged."""
        path = self.job.kept[layer]
        parts = tree.VOCABULARY.form.parts(path)
        key = parts["keyed"]

        def find() -> Vocabulary | None:
            return self._find_words(path, layer)

        def make(hands: Hands) -> Vocabulary:
            found = find()
            if found is None:
                raise InputError(
                    f"{path}, the words of the snapshot before, is gone: `lamella repair "
                    f"{self.store.url}`, or train words anew with --retrain"
                )
            return found

        folder = tree.SEED.folder(keyed=key, layer=layer)
        return Stage(f"vocabulary {layer}", folder, key.rpartition("-")[2], find, make)

    def _train(self, made: Made, layer: str) -> Stage:
        settings, extraction = self.job.job.vocabulary_of(layer), made.extraction

        def make(hands: Hands) -> Vocabulary:
            return train_vocabulary(
                self.store,
                hands.runner,
                extraction,
                layer,
                settings,
                threads=hands.runner.threads,
                on_progress=hands.watch.progress,
                on_round=hands.watch.round,
            )

        return self._words(layer, vocabulary_inputs(settings, extraction.inputs, layer), make)

    def _words(self, layer: str, inputs: str, make: Callable[[Hands], Vocabulary]) -> Stage:
        key = tree.keyed(layer, inputs)
        path = tree.VOCABULARY.at(keyed=key, layer=layer)
        encoding = self.job.job.encoding_of(layer)

        def find() -> Vocabulary | None:
            return self._find_words(path, layer)

        folder = tree.SEED.folder(keyed=key, layer=layer)
        return Stage(
            f"vocabulary {layer}", folder, inputs, find, lambda hands: in_use(make(hands), encoding)
        )

    def _find_words(self, path: str, layer: str) -> Vocabulary | None:
        """Return the words of a layer as the job uses them, None where they are missing."""
        if not self.store.exists(path):
            return None
        return in_use(read_record(self.store, path, Vocabulary), self.job.job.encoding_of(layer))

    def _encode(self, made: Made) -> Stage:
        extraction, words = made.extraction, made.vocabularies
        folder, inputs = encoding_place(extraction.decided, words)

        def find() -> Encoding | None:
            return find_encoding(self.store, extraction, words)

        def make(hands: Hands) -> Encoding:
            progress = hands.watch.progress
            return encode_corpus(self.store, hands.runner, extraction, words, on_progress=progress)

        return Stage("encode", folder, inputs, find, make)

    def _index(self, made: Made) -> Stage:
        encoding, cuts = made.encoding, self._cuts
        folder, inputs = index_place(encoding)

        def find() -> Index | None:
            index = find_index(self.store, encoding, cuts)
            if index is None or find_totals(self.store, index) is None:
                return None
            return index

        def make(hands: Hands) -> Index:
            progress = hands.watch.progress
            index = index_corpus(self.store, hands.runner, encoding, cuts, on_progress=progress)
            make_totals(self.store, encoding, index)
            return index

        return Stage("index", folder, inputs, find, make)

    def _propose(self, made: Made) -> Stage:
        job, kind = self.job, self.job.job.index.proposer
        layers = [layer.name for layer in job.extraction.layers if layer.kind == "global"]
        asked = Proposing(self.store, made.index, layers, kind, job.faiss, job.frames)
        return Stage(
            *("propose", asked.folder, asked.inputs, asked.find),
            lambda hands: asked.make(hands.runner, hands.watch.progress),
        )
