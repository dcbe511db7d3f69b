"""What a stage of a job is, what it is made with, and what the stages come to."""

from collections.abc import Callable, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lamella.pipeline.corpus.listing import Listing
from lamella.pipeline.extract.stage import Extraction
from lamella.pipeline.index.encode import Encoding
from lamella.pipeline.index.one_pass import WordEncoder
from lamella.pipeline.index.stage import Index
from lamella.pipeline.run.drive import OnProgress, quiet
from lamella.pipeline.run.step import Runner
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.vocabulary.stage import OnRound, no_round
from lamella.schemas.corpus import CorpusManifest
from lamella.schemas.snapshot import IndexSnapshot
from lamella.schemas.vocabulary import Vocabulary


@dataclass(frozen=True)
class Watch:
    """What a caller wants to hear of a job while it runs; a note is a line for a person."""

    progress: OnProgress = quiet
    round: OnRound = no_round
    corpus: Callable[[CorpusManifest], None] = lambda manifest: None
    note: Callable[[str], None] = lambda line: None


@dataclass(frozen=True)
class Hands:
    """What a stage is made with.

    Attributes:
        threads: of a worker in the extract stage.
        before: the snapshot that the corpus may have grown from.
        anew: keys of shards that are extracted though they are done.
    """

    runner: Runner
    threads: int
    watch: Watch = field(default_factory=Watch)
    before: IndexSnapshot | None = None
    anew: Set[str] = frozenset()


class Sources(Protocol):
    """What a job is made from, each asked for only by a stage that needs it."""

    def listing(self) -> Listing:
        """Return the listing of the source."""
        ...

    def moved(self, manifest: CorpusManifest) -> CorpusManifest:
        """Return the manifest with the source where it lies now, if that is known."""
        ...

    def root(self, manifest: CorpusManifest) -> str:
        """Return the folder or prefix to read the manifest's pictures from."""
        ...

    def weights(self) -> Path:
        """Return where the network's weights lie."""
        ...


@dataclass(frozen=True)
class Stage:
    """One stage of a job, known once those before it have ended.

    Attributes:
        name: such as `extract`, or `vocabulary b11`.
        folder: where its done records, or the records that stand over it, lie.
        inputs: the digest of what decides it.
        find: gives what it came to, None where it has not ended.
        make: gives the same, making what is missing.
    """

    name: str
    folder: str
    inputs: str
    find: Callable[[], Any]
    make: Callable[[Hands], Any]


class Made:
    """What the stages have come to so far, by name."""

    def __init__(self) -> None:
        self._of: dict[str, Any] = {}

    def add(self, name: str, outcome: Any) -> None:
        """Note what a stage came to."""
        self._of[name] = outcome

    @property
    def manifest(self) -> CorpusManifest:
        """The outcome of the corpus stage."""
        found: CorpusManifest = self._of["corpus"]
        return found

    @property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """The words of each layer whose words stand."""
        found = self._of.values()
        return {each.layer: each for each in found if isinstance(each, Vocabulary)}

    @property
    def extraction(self) -> Extraction:
        """The outcome of the extract stage."""
        found: Extraction = self._of["extract"]
        return found

    @property
    def encoding(self) -> Encoding:
        """The outcome of the encode stage, or the words that extraction gave at once."""
        if "encode" in self._of:
            found: Encoding = self._of["encode"]
            return found
        return WordEncoder(self.vocabularies).encoding(self.extraction)

    @property
    def index(self) -> Index:
        """The outcome of the index stage."""
        found: Index = self._of["index"]
        return found


@dataclass(frozen=True)
class Seen:
    """A look at a journey: the stages that are known, what they came to, whether all have ended."""

    stages: tuple[Stage, ...]
    made: Made
    whole: bool

    def stage(self, name: str) -> Stage | None:
        """Return a stage by name, None while it is not known."""
        return next((stage for stage in self.stages if stage.name == name), None)

    def may_hold(self, path: str) -> bool:
        """Say whether a file lies in one of these stages, or may lie in one not known yet."""
        if any(path.startswith(f"{stage.folder}/") for stage in self.stages):
            return True
        ended = self.stages if self.whole else self.stages[:-1]
        return not self.whole and not any(top_of(path) == top_of(stage.folder) for stage in ended)

    def size_bytes(self, store: Store) -> dict[str, int]:
        """Return how many bytes each stage has stored."""
        return {
            stage.name: sum(file.size_bytes for file in store.walk(stage.folder))
            for stage in self.stages
        }


def top_of(path: str) -> str:
    """Return the folder right below the store's root that a path lies in."""
    return path.partition("/")[0]
