"""The values that `Journey` works with: a stage, what it is made with, and what it results in.

A stage is the part of a job that a person sees, such as `extract` or `vocabulary b11`; it runs one
or more steps. `Hands` has what stages are made with, `Made` the outcomes so far, and `Seen` is a
look at a journey, ended or not.
"""

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lamella.pipeline.corpus.given_vectors import GivenVectors
from lamella.pipeline.corpus.listing import Listing
from lamella.pipeline.extract.extraction import Extraction
from lamella.pipeline.index.encode import Encoding, encoding_place, from_high_to_low
from lamella.pipeline.index.one_pass import WordEncoder
from lamella.pipeline.index.publish import totals_place
from lamella.pipeline.index.stage import Cuts, Index
from lamella.pipeline.proposers.stage import Proposed
from lamella.pipeline.run.drive import OnProgress, quiet
from lamella.pipeline.run.step import Runner
from lamella.pipeline.store import tree
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.vocabulary.stage import OnRound, no_round
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.snapshot import IndexSnapshot
from lamella.schemas.vocabulary import Vocabulary


@dataclass(frozen=True)
class Watch:
    """Callbacks of a job while it runs.

    Attributes:
        progress: called when a step begins and as its tasks end.
        round: called with the report of each round of k-means.
        corpus: called with the manifest once the corpus stage has ended.
        note: called with a line for a person.
    """

    progress: OnProgress = quiet
    round: OnRound = no_round
    corpus: Callable[[CorpusManifest], None] = lambda manifest: None
    note: Callable[[str], None] = lambda line: None


@dataclass(frozen=True)
class Hands:
    """What a stage is made with: the runner, and what the caller of this run decides.
    Attributes:
        runner: runs the tasks.
        threads: threads of a worker in the extract stage.
        watch: callbacks.
        before: the current snapshot. What it knows of pictures is not read or extracted again.
        rehash: read every picture of the source again, whatever its size and version say.
        fresh: the source was listed just now, so entries of it that may have changed right after
            they were read last are read again.
        mend: make again what is gone of the corpus's shards although its manifest is there; only
            `repair` sets this.
        anew: keys of shards to extract again although they are done; only `retry` sets it.
    """

    runner: Runner
    threads: int
    watch: Watch = field(default_factory=Watch)
    before: IndexSnapshot | None = None
    anew: Set[str] = frozenset()
    rehash: bool = False
    fresh: bool = False
    mend: bool = False


class Sources(Protocol):
    """The pictures, weights and vectors of a job. A stage asks only if it has something to make."""

    def listing(self) -> Listing:
        """Return the listing of the picture source."""
        ...

    def moved(self, manifest: CorpusManifest) -> CorpusManifest:
        """Return the manifest with the folder where the pictures are now, if they have moved."""
        ...

    def root(self, manifest: CorpusManifest) -> str:
        """Return the folder or S3 prefix to read the pictures of a manifest from."""
        ...

    def weights(self) -> Path:
        """Return the path of the network's weights."""
        ...

    def vectors(self) -> Mapping[str, GivenVectors]:
        """Return the vectors of the layers that a user brings, opened, by layer."""
        ...


@dataclass(frozen=True)
class Stage:
    """One stage of a job. `Journey` builds it once the stages before it have ended.

    The outcome of a stage is a value that later stages read, such as a `CorpusManifest` or an
    `Extraction`.

    Attributes:
        name: as `route` lists it, such as `extract` or `vocabulary b11`.
        folder: the folder in the store that holds its done records.
        inputs: the digest of everything that decides the outcome.
        find: reads the outcome, None if the stage has not ended.
        make: runs what is missing and returns the outcome.
    """

    name: str
    folder: str
    inputs: str
    find: Callable[[], Any]
    make: Callable[[Hands], Any]


class Made:
    """The outcomes of the stages that have ended, by name of stage.

    Later stages take their inputs from here.
    """

    def __init__(self, **outcomes: Any) -> None:
        self._of: dict[str, Any] = outcomes
        self._tasks: dict[str, frozenset[tuple[str, str]]] = {}

    def add(self, name: str, outcome: Any) -> None:
        """Add the outcome of a stage."""
        self._of[name] = outcome
        self._tasks.clear()

    def has(self, name: str) -> bool:
        """Say whether a stage has ended."""
        return name in self._of

    @property
    def manifest(self) -> CorpusManifest:
        """The outcome of the corpus stage."""
        found: CorpusManifest = self._of["corpus"]
        return found

    @property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """The vocabularies that are finished, by layer."""
        found = self._of.values()
        return {each.layer: each for each in found if isinstance(each, Vocabulary)}

    @property
    def extraction(self) -> Extraction:
        """The outcome of the extract stage."""
        found: Extraction = self._of["extract"]
        return found

    @property
    def encoding(self) -> Encoding:
        """The outcome of the encode stage; if extraction assigned words itself, made from that."""
        if self.has("encode"):
            found: Encoding = self._of["encode"]
            return found
        return WordEncoder(self.vocabularies).encoding(self.extraction)

    @property
    def index(self) -> Index:
        """The outcome of the index stage."""
        found: Index = self._of["index"]
        return found

    @property
    def proposed(self) -> Proposed | None:
        """The outcome of the propose stage, None for a job without proposers."""
        found: Proposed | None = self._of.get("propose")
        return found

    def shares(self, file: tree.Found) -> bool:
        """Say whether a file in a folder that all corpora share belongs to a task of this one."""
        top = top_of(file.folder)
        if top == top_of(tree.TOTALS.form.text) and self.has("index"):
            return file.folder == totals_place(self.index)[0]
        if top == top_of(tree.FRAME.form.text) and self.proposed is not None:
            return file.folder in self.proposed.own_folders
        if top == top_of(tree.PROPOSE.form.text):
            made = self.proposed  # of other kinds there may be some with the same keys
            return made is not None and made.folder == file.folder and file.key in made.records
        if top not in self._tasks:
            self._tasks[top] = frozenset(self._tasks_in(top))
        # The manifest of a segment lies in a folder of its own, below that of the step.
        folder = f"{top}/{file.parts.get('keyed', '')}"
        return (folder, file.parts.get("key", file.key)) in self._tasks[top]

    def _tasks_in(self, top: str) -> Iterator[tuple[str, str]]:
        """Yield folder and key of each task of this corpus in a folder below the root."""
        if top == top_of(tree.LOOK.form.text):
            looks = (tree.read(shard.file.path) for shard in self.manifest.shards)
            yield from ((look.folder, look.key) for look in looks if look is not None)
        elif top == top_of(tree.EXTRACT.form.text) and self.has("extract"):
            for record in self.extraction.records:
                yield tree.folder_of(record.files["images"].path), record.key
        elif top == top_of(tree.ENCODE.form.text) and self.has("extract"):
            extraction = self.extraction
            words = from_high_to_low(extraction.spec, self.vocabularies)
            folder, _ = encoding_place(extraction.decided, words)
            yield from ((folder, key) for key in extraction.keys)
        elif top == top_of(tree.INDEX.form.text) and self.has("index"):
            yield from ((self.index.folder, task.key) for task in self.index.tasks)


SHARED = frozenset(
    step.form.text.partition("/")[0]
    for step in (
        *(tree.LOOK, tree.EXTRACT, tree.ENCODE, tree.INDEX, tree.TOTALS, tree.FRAME, tree.PROPOSE),
    )
)
"""Folders whose files belong to the corpora that have their shards, however many these are."""


@dataclass(frozen=True)
class Seen:
    """What `Journey.look` found.

    Attributes:
        stages: the stages up to and including the first that has not ended; later ones cannot be
            known yet.
        made: the outcomes of those that have ended.
        whole: whether all stages of the job have ended.
        cuts: how large its shards and segments are to be.
    """

    stages: tuple[Stage, ...]
    made: Made
    whole: bool
    cuts: Cuts

    def stage(self, name: str) -> Stage | None:
        """Return a stage by name, None if it is not known yet."""
        return next((stage for stage in self.stages if stage.name == name), None)

    def may_hold(self, path: str) -> bool:
        """Say whether a file belongs to one of these stages, or may belong to one not known yet."""
        file = tree.read(path)
        if file is not None and self.made.shares(file):
            return True
        own = (stage for stage in self.stages if top_of(stage.folder) not in SHARED)
        if any(path.startswith(f"{stage.folder}/") for stage in own):
            return True
        ended = self.stages if self.whole else self.stages[:-1]
        return not self.whole and not any(top_of(path) == top_of(stage.folder) for stage in ended)

    def size_bytes(self, store: Store) -> dict[str, int]:
        """Return the bytes that each stage has stored of this corpus, by name."""
        return {stage.name: sum(self._sizes(store, stage)) for stage in self.stages}

    def _sizes(self, store: Store, stage: Stage) -> Iterator[int]:
        folders = {stage.folder}
        if stage.name == "corpus" and self.made.has("corpus"):
            folders |= {tree.folder_of(shard.file.path) for shard in self.made.manifest.shards}
        if stage.name == "index" and self.made.has("index"):
            folders.add(totals_place(self.made.index)[0])
        if stage.name == "propose" and self.made.proposed is not None:
            folders |= self.made.proposed.own_folders
        for folder in sorted(folders):
            for file in store.walk(folder):
                found = tree.read(file.path) if top_of(file.path) in SHARED else None
                if found is None or self.made.shares(found):
                    yield file.size_bytes


def top_of(path: str) -> str:
    """Return the first part of a path: a folder right below the store's root."""
    return path.partition("/")[0]
