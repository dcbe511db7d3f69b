"""Write the page of an evaluation: a small one into its run, and all of it to a file of the user's.

The page of the run is one file with the queries that tell most. That of the user lists all queries,
and has its pictures in a folder beside it, or in itself.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lamella.pipeline.arrays import Float64s
from lamella.pipeline.corpus import joined
from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.matches import Box
from lamella.pipeline.evaluate.page import Pictures, render
from lamella.pipeline.evaluate.page_queries import (
    SHOWN_RANKS,
    Matches,
    PageQueries,
    telling_queries,
)
from lamella.pipeline.jobs.evaluating import Evaluated
from lamella.pipeline.jobs.explaining import matched_words
from lamella.pipeline.jobs.pictures_again import Opening, part_seen
from lamella.pipeline.jobs.query_run import Place
from lamella.pipeline.jobs.thumbnails import thumbnails
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import create_once
from lamella.pipeline.store.record_rules import report_run
from lamella.pipeline.store.records import sealed_text
from lamella.pipeline.text import byte_size, counted

STORED_LISTED = 1_000
STORED_PICTURED = 12
"""How many queries the page of a run lists, and of how many it shows the rankings."""

PAGE_QUERIES = 1_000
"""Of how many queries the page of the user shows the rankings, if nothing else is said."""

_OURS = re.compile(r"\d+\.jpg")


@dataclass(frozen=True)
class Wanted:
    """The page that the user asks for.

    Attributes:
        path: of the page.
        single_file: whether the pictures are in it, and not in a folder beside it.
        queries: of how many queries it shows the rankings, those that tell most.
        shared_words: of how many of them it draws the words that they share with their pictures.
    """

    path: Path
    single_file: bool = False
    queries: int = PAGE_QUERIES
    shared_words: int = 0

    @property
    def folder(self) -> Path | None:
        """The folder of its pictures, None where they are in the page."""
        return None if self.single_file else self.path.with_name(f"{self.path.stem}-files")


@dataclass(frozen=True)
class Written:
    """A page, and what it takes.

    Attributes:
        folder: of its pictures, None where they are in the page.
        pictures: how many it has; `picture_bytes` they are in all.
        gone: how many could not be read any more.
        note: what is missing, for a person; empty where nothing is.
    """

    path: Path
    page_bytes: int
    folder: Path | None = None
    pictures: int = 0
    picture_bytes: int = 0
    gone: int = 0
    note: str = ""

    @property
    def extent(self) -> str:
        """Say how large it is."""
        text = byte_size(self.page_bytes)
        if not self.pictures:
            return f"{text}, without pictures"
        shown = counted(self.pictures, "picture")
        if self.folder is None:
            return f"{text}, {shown} in it"
        return f"{text}; {shown} in {self.folder.name}, {byte_size(self.picture_bytes)}"


def wanted_page(
    path: Path | None,
    *,
    single_file: bool = False,
    queries: int | None = None,
    shared_words: int = 0,
) -> Wanted | None:
    """Return the page that the options of a command ask for, None for none.

    Raises:
        InputError: they say how the page is written, and not where.
    """
    if path is not None:
        most = PAGE_QUERIES if queries is None else queries
        return Wanted(path, single_file, most, shared_words)
    given = {
        "--single-file": single_file,
        f"--page-queries {queries}": queries is not None,
        f"--shared-words {shared_words}": shared_words,
    }
    for option, is_given in given.items():
        if is_given:
            raise InputError(
                f"{option} says how a page is written, and none is: give --page FILE.html"
            )
    return None


def check_folder(wanted: Wanted) -> None:
    """Check that the folder of a page's pictures may be replaced, before hours of work.

    Raises:
        InputError: something stands there that is not the pictures of a page.
    """
    folder = wanted.folder
    if folder is None or not folder.exists():
        return
    others = [] if folder.is_dir() else [folder.name]
    if folder.is_dir():
        others = sorted(each.name for each in folder.iterdir() if not _OURS.fullmatch(each.name))
    if others:
        raise InputError(
            f"--page writes its pictures into {folder}, which holds only those of a page; it "
            f"holds {others[0]}: give another name, or --single-file"
        )


def page_matches(
    opening: Opening, found: Evaluated, wanted: Wanted, word_weights: Mapping[str, Float64s]
) -> Matches:
    """Return the words that queries of a page share with the pictures that they show.

    Of the queries that tell most, as many as are wanted. Each of their pictures goes through the
    network once.

    Args:
        word_weights: as `searcher.layer_weights` gives them.
    """
    count, truth = min(wanted.shared_words, wanted.queries), found.plan.truth
    pairs: dict[tuple[int, int], None] = {}
    crops = {}
    for query in telling_queries(found.result)[:count]:
        asked = truth.query_ids[query]
        image_id, box = int(found.image_ids[asked]), truth.truth.queries[query].box
        if box is not None:
            crops[image_id] = box
        shown = found.result.first[:, query, :SHOWN_RANKS].ravel().tolist()
        others = (place for place in shown if place != asked)
        pairs |= dict.fromkeys((image_id, int(found.image_ids[place])) for place in others)
    layers = [entry.layer for entry in found.plan.fusion.layers]
    return matched_words(opening, list(pairs), layers, word_weights, crops)


def write_pages(
    place: Place,
    found: Evaluated,
    wanted: Wanted | None = None,
    matches: Matches | None = None,
) -> Written:
    """Store a report with its page, write the page that is asked for, and return the latter.

    Without one, return the page of the run. Each picture is read once for both. A report that is
    already stored stays as it is. Where pictures are gone the page has their names, and the note
    says so.

    Args:
        matches: words that pictures of the page that is asked for share.
    """
    order = telling_queries(found.result)
    stored = _queries(place, found, order[:STORED_LISTED], STORED_PICTURED)
    asked = _queries(place, found, order, wanted.queries, matches) if wanted else stored
    beside = wanted.folder if wanted else None
    numbers = {image_id: number for number, image_id in enumerate(asked.shown_ids)}
    kept = {*stored.shown_ids, *(asked.shown_ids if beside is None else ())}
    inside: dict[int, bytes] = {}
    with _fresh(beside) as fresh:

        def keep(image_id: int, data: bytes) -> None:
            if fresh is not None and image_id in numbers:
                Path(fresh, f"{numbers[image_id]}.jpg").write_bytes(data)
            if image_id in kept:
                inside[image_id] = data

        made = _make(place, sorted({*numbers, *kept}), keep)
    written = None
    if wanted is not None:
        pictures = made.of(asked, inside, beside)
        text = render(found.report, asked, pictures).encode()
        wanted.path.write_bytes(text)
        written = _written(wanted.path, len(text), beside, pictures)
    pictures = made.of(stored, inside)
    page = sealed_text(render(found.report, stored, pictures))
    run = report_run(found.report)
    create_once(place.store, tree.PAGE.at(run=run), page)
    create_once(place.store, tree.REPORT.at(run=run), found.report.to_json())
    path = place.store.local_path(tree.PAGE.at(run=run))
    return written or _written(path, len(page), None, pictures)


def _queries(
    place: Place,
    found: Evaluated,
    order: list[int],
    pictured: int,
    matches: Matches | None = None,
) -> PageQueries:
    shown = order[:pictured]
    return PageQueries(
        plan=found.plan,
        result=found.result,
        image_ids=found.image_ids,
        listed=tuple(order),
        pictured=len(shown),
        matches=matches or {},
        boxes=_boxes(place, found, shown),
    )


def _boxes(place: Place, found: Evaluated, shown: list[int]) -> dict[int, Box]:
    """Return the part of its picture that a query asks for, of those that do not ask for all."""
    truth, images = found.plan.truth, ImageTable(place.store, place.snapshot)
    boxes: dict[int, Box] = {}
    for query in shown:
        box = truth.truth.queries[query].box
        if box is not None:
            row = images.row(int(found.image_ids[truth.query_ids[query]]))
            boxes[query] = part_seen(row, box)
    return boxes


@dataclass(frozen=True)
class _Made:
    """What came of the thumbnails: the size of each by image id, None for one that is gone."""

    sizes: Mapping[int, int | None]
    where: str
    refused: str = ""

    def of(
        self, queries: PageQueries, inside: Mapping[int, bytes], beside: Path | None = None
    ) -> Pictures:
        """Return the pictures of a page of these queries."""
        ids = queries.shown_ids
        sizes = [size for each in ids if (size := self.sizes.get(each)) is not None]
        gone = frozenset(each for each in ids if self.sizes.get(each) is None)
        return Pictures(
            inside={} if beside else {each: inside[each] for each in ids if each in inside},
            folder=beside.name if beside and sizes else "",
            made=len(sizes),
            size_bytes=sum(sizes),
            gone=gone,
            note=self.refused or self._note(len(gone), len(ids)),
        )

    def _note(self, gone: int, of: int) -> str:
        if not gone:
            return ""
        if gone == of:
            return (
                f"None of {counted(of, 'picture')} can be read in {self.where} as when indexed, so "
                "the page has their names alone. --pictures says where they lie now."
            )
        return (
            f"{gone:,} of {counted(of, 'picture')} can no longer be read in {self.where}, or have "
            "changed since they were indexed: the page has their names."
        )


def _make(place: Place, ids: list[int], keep: Callable[[int, bytes], None]) -> _Made:
    """Make thumbnails, hand each to `keep`, and say what came of them."""
    sizes: dict[int, int | None] = {}
    where = joined.shown(place.pictures or place.snapshot.root)
    try:
        for image_id, data in thumbnails(place, ids):
            sizes[image_id] = None if data is None else len(data)
            if data is not None:
                keep(image_id, data)
    except InputError as error:
        return _Made({}, where, f"The page shows no pictures: {error}")
    return _Made(sizes, where)


@contextlib.contextmanager
def _fresh(folder: Path | None) -> Iterator[Path | None]:
    """Give a new folder, which is then put in the place of the old one, or taken away if empty."""
    if folder is None:
        yield None
        return
    fresh = folder.with_name(f".{folder.name}-{os.getpid()}")
    fresh.mkdir()
    try:
        yield fresh
        if folder.exists():
            shutil.rmtree(folder)
        if any(fresh.iterdir()):
            fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _written(path: Path, size: int, folder: Path | None, pictures: Pictures) -> Written:
    return Written(
        path=path,
        page_bytes=size,
        folder=folder if pictures.folder else None,
        pictures=pictures.made,
        picture_bytes=pictures.size_bytes,
        gone=len(pictures.gone),
        note=pictures.note,
    )
