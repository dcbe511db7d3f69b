"""`lamella evaluate`: score a store's snapshot by a protocol; write its report and page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from lamella.cluster.commands.progress import ProgressLines
from lamella.cluster.ray.engine import Engine
from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.page_queries import Matches
from lamella.pipeline.evaluate.protocols.by_name import ProtocolOptions, ground_truths
from lamella.pipeline.evaluate.protocols.holidays import SizeOf
from lamella.pipeline.evaluate.run_report import named
from lamella.pipeline.evaluate.run_table import truth_notes
from lamella.pipeline.evaluate.score_tables import swept_scores
from lamella.pipeline.evaluate.truth import GroundTruth
from lamella.pipeline.jobs.evaluating import Evaluated, evaluate_all
from lamella.pipeline.jobs.pictures_again import opening_at
from lamella.pipeline.jobs.query_run import Place
from lamella.pipeline.jobs.ranking_copies import whole
from lamella.pipeline.jobs.report_page import (
    Wanted,
    Written,
    check_folder,
    page_matches,
    write_pages,
)
from lamella.pipeline.jobs.resolve import asked_fusion, chosen_snapshot
from lamella.pipeline.jobs.scoring import corpus_names, read_judgements, write_judgements
from lamella.pipeline.search.coordinator import Coordinator
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.search.searcher import layer_weights
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.store.tables import write_parquet
from lamella.pipeline.text import printable
from lamella.schemas.job import JobConfig
from lamella.schemas.report import AskedDifficulty, BoxMode, Metric, Protocol, RetrievalReport
from lamella.schemas.snapshot import IndexSnapshot


@dataclass(frozen=True)
class Asked:
    """What to evaluate: by a protocol, or by qrels; `strict` refuses pictures that are unknown.

    What else there is to say of a protocol is in `ProtocolOptions`.

    Without `box` it is the usual one: `roi`, and `full` for a run, whose queries were asked as they
    are.

    Raises:
        InputError: neither a protocol nor qrels are given, or both.
    """

    protocol: Protocol | None
    truth: Path | None = None
    box: BoxMode | None = None
    pattern: str | None = None
    metric: Metric = "mAP"
    difficulty: AskedDifficulty = "medium"
    within: str | None = None
    part: str | None = None
    rotations: Path | None = None
    layers: list[str] | None = None
    qrels: Path | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        if (self.protocol is None) == (self.qrels is None):
            raise InputError(
                f"what is right is said by --protocol or by --qrels; got "
                f"{'neither' if self.protocol is None else 'both'}: give one of them"
            )
        for option in ("truth", "within", "part", "rotations"):
            if self.qrels is not None and (given := getattr(self, option)) is not None:
                raise InputError(
                    f"--{option} is about a protocol; got {given} with --qrels {self.qrels}, which "
                    "says by itself what is right: leave it out"
                )

    def of_protocol(
        self, names: Sequence[str], box: BoxMode, size_of: SizeOf
    ) -> tuple[GroundTruth, ...]:
        """Return the truths by the protocol over these names. Raises as `ground_truths`."""
        if self.protocol is None:
            raise ValueError("qrels say what is right here, no protocol does")
        said = ProtocolOptions(
            truth=self.truth,
            box=self.box or box,
            pattern=self.pattern,
            metric=self.metric,
            difficulty=self.difficulty,
            within=self.within,
            part=self.part,
            rotations=self.rotations,
            size_of=size_of,
        )
        return ground_truths(self.protocol, sorted(names), said)


def sizes_in(store: Store, snapshot: IndexSnapshot, ids: Mapping[str, int]) -> SizeOf:
    """Return what gives width and height of an indexed picture by its name."""
    table = ImageTable(store, snapshot)

    def size_of(name: str) -> tuple[int, int]:
        row = table.row(ids[name])
        return row["width"], row["height"]

    return size_of


@dataclass(frozen=True)
class Copies:
    """Where copies go: scores by query as Parquet, the truth as qrels, the scored run, the page."""

    scores: Path | None = None
    qrels: Path | None = None
    run: Path | None = None
    page: Wanted | None = None

    def of_part(self, protocol: str) -> "Copies":
        """Return where those of one of several parts go: its name ends that of each file."""
        end = protocol.replace(" ", "-")

        def part_of(path: Path | None) -> Path | None:
            return None if path is None else path.with_stem(f"{path.stem}-{end}")

        page = self.page and replace(self.page, path=part_of(self.page.path) or self.page.path)
        return Copies(part_of(self.scores), part_of(self.qrels), part_of(self.run), page)


NO_COPIES = Copies()


def evaluate_store(
    engine: Engine,
    url: str,
    job: JobConfig,
    asked: Asked,
    *,
    number: int | str | None = None,
    weights: Path | None = None,
    quiet: bool = False,
    page: Wanted | None = None,
    pictures: str | None = None,
    copies: Copies = NO_COPIES,
) -> tuple[RetrievalReport, Written]:
    """Return the report of a protocol of one part, and its page, as `evaluate_parts`.

    Raises:
        InputError: the protocol has several parts here.
    """
    found = evaluate_parts(
        *(engine, url, job, asked),
        number=number,
        weights=weights,
        quiet=quiet,
        pictures=pictures,
        copies=replace(copies, page=page or copies.page),
    )
    if len(found) > 1:
        raise InputError(f"one report is wanted; {asked.protocol} has {len(found)} parts here")
    return found[0]


def evaluate_parts(
    engine: Engine,
    url: str,
    job: JobConfig,
    asked: Asked,
    *,
    number: int | str | None = None,
    weights: Path | None = None,
    quiet: bool = False,
    pictures: str | None = None,
    copies: Copies = NO_COPIES,
) -> list[tuple[RetrievalReport, Written]]:
    """Return the report of each part of a protocol, and its page.

    It is that of the run's folder, or the one that `copies` asks for. Copies of several parts have
    the part in the names of their files.

    Raises:
        InputError: as `check_folder`; or shared words are wanted of expanded queries.
    """
    if copies.page is not None and copies.page.shared_words and job.search.expand:
        raise InputError(
            f"--shared-words draws what a query's own picture shares; --expand "
            f"{job.search.expand} asks with the mean of several: leave one of them out"
        )
    store = open_store(url)
    snapshot = chosen_snapshot(store, number)
    fusion, weighting = asked_fusion(snapshot, job, asked.layers)
    written = []
    with ProgressLines(Console(stderr=True), quiet=quiet) as lines:
        place = Place(store, snapshot, engine.runner, engine.threads, lines.stage, pictures)
        with engine.coordinator(store, snapshot, weighting) as coordinator:
            image_ids = coordinator.image_ids()
            names = ImageTable(store, snapshot).names_of(image_ids).to_pylist()
            ids = dict(zip(names, image_ids.tolist(), strict=True))
            truths, unknown = _truths(asked, names, sizes_in(store, snapshot, ids))
            several = len(truths) > 1
            to = [copies.of_part(each.protocol) if several else copies for each in truths]
            for each in to:
                if each.page is not None:
                    check_folder(each.page)
            parts = evaluate_all(
                *(place, coordinator, names, image_ids, truths, fusion, weighting),
                weights=weights,
                expand=job.search.expand,
            )
            for truth, found, each in zip(truths, parts, to, strict=True):
                _copy(store, snapshot, truth, found, each)
                matches = _matches(place, coordinator, found, each.page, weights)
                written.append((found.report, write_pages(place, found, each.page, matches)))
    notes = dict.fromkeys(page.note for _, page in written if page.note)
    for note in [*truth_notes({}, named(unknown)), *notes] if not quiet else []:
        Console(stderr=True).print(Text(printable(note)), style="yellow", soft_wrap=True)
    return written


def _copy(
    store: Store, snapshot: IndexSnapshot, truth: GroundTruth, found: Evaluated, copies: Copies
) -> None:
    """Write the copies that are wanted, but for the page."""
    if copies.scores is not None:
        with whole(copies.scores) as part:
            write_parquet(swept_scores(found.result, truth), part)
    if copies.qrels is not None:
        write_judgements(truth, corpus_names(store, snapshot), copies.qrels)


def _matches(
    place: Place,
    coordinator: Coordinator,
    found: Evaluated,
    page: Wanted | None,
    weights: Path | None,
) -> Matches:
    """Return the shared words that a page draws, as `page_matches`; none where none are wanted."""
    if page is None or not page.shared_words:
        return {}
    word_weights = layer_weights(place.store, place.snapshot, found.report.weighting)
    return page_matches(opening_at(place, coordinator, weights), found, page, word_weights)


def page_json(written: Written) -> dict[str, Any]:
    """Return where a page is and what it takes, for JSON."""
    return {
        "page": str(written.path),
        "page_bytes": written.page_bytes,
        "page_pictures": {
            "folder": str(written.folder) if written.folder else None,
            "pictures": written.pictures,
            "bytes": written.picture_bytes,
            "gone": written.gone,
        },
    }


def _truths(
    asked: Asked, names: Sequence[str], size_of: SizeOf
) -> tuple[tuple[GroundTruth, ...], tuple[str, ...]]:
    """Return what is right over the indexed pictures, and judged pictures that are not indexed."""
    if asked.qrels is None:
        return asked.of_protocol(names, "roi", size_of), ()
    judged = read_judgements(asked.qrels, names, indexed_queries=True, strict=asked.strict)
    return (replace(judged.truth, files=(asked.qrels,)),), judged.unknown
