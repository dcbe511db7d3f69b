"""Read pictures again, to find the places of their words, and compare these with the index."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.corpus import resize, sandbox
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.image_table import read_row
from lamella.pipeline.corpus.reader import EntryReader
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.errors import InputError, SourceGone, one_line
from lamella.pipeline.evaluate.pair import Found
from lamella.pipeline.evaluate.pair_page import SHOWN_EDGE, Shown
from lamella.pipeline.jobs.query_run import Place
from lamella.pipeline.page.jpeg import jpeg_of
from lamella.pipeline.run.drive import OnProgress, Progress, quiet
from lamella.pipeline.search.coordinator import Coordinator
from lamella.pipeline.search.encode import (
    Encoder,
    Row,
    cropped,
    find_query_weights,
    open_encoder,
)
from lamella.pipeline.search.given_queries import check_computed
from lamella.pipeline.search.located import Again, Box, locate_pictures, same_words
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.search.searcher import take_queries
from lamella.pipeline.search.segment import Features
from lamella.schemas.refusals import RefusalReason
from lamella.schemas.snapshot import IndexSnapshot

if TYPE_CHECKING:
    from lamella.pipeline.extract.given import Given

Crop = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the picture."""


@dataclass(frozen=True)
class Opening:
    """A snapshot that is open, and what reads its pictures.

    Attributes:
        images: knows where the pictures lie now.
        coordinator: has their features.
        encoder: opens the network when it is first needed, and gives the same one again; raises
            InputError where it cannot.
        progress: told of pictures that went through the network.
        limits: what one picture may cost.
    """

    snapshot: IndexSnapshot
    images: ImageTable
    coordinator: Coordinator
    encoder: Callable[[], Encoder]
    progress: OnProgress = quiet
    limits: DecodeLimits = field(default_factory=DecodeLimits)


def opening_at(place: Place, coordinator: Coordinator, weights: Path | None) -> Opening:
    """Return a snapshot as a job has it open; the network is opened in this process."""
    held: list[Encoder] = []

    def encoder() -> Encoder:
        if not held:
            found = find_query_weights(place.snapshot, weights)
            held.append(open_encoder(place.store, place.snapshot, found, place.threads))
        return held[0]

    images = ImageTable(place.store, place.snapshot, pictures=place.pictures)
    return Opening(place.snapshot, images, coordinator, encoder, place.progress)


@dataclass(frozen=True, eq=False)
class SeenAgain:
    """A picture of a pair.

    Attributes:
        layers: its features, those of the index where it is indexed and not cropped.
        again: what it gives now; None where it was not read.
        found, note: as of `pair.Side`.
        within: the part that was seen, as shares of the picture.
    """

    layers: Mapping[str, Features]
    again: Again | None
    found: Found
    note: str = ""
    within: Box = (0.0, 0.0, 1.0, 1.0)

    def boxes(self, layer: str, word: int) -> tuple[Box, ...]:
        """Return where a word is in the whole picture; nothing where that is not known."""
        if self.again is None:
            return ()
        left, top, width, height = self.within
        return tuple(
            (left + x * width, top + y * height, w * width, h * height)
            for x, y, w, h in self.again.places[layer].boxes(word)
        )


def seen_again(
    opening: Opening,
    image_ids: Sequence[int],
    layers: Sequence[str],
    crops: Mapping[int, Crop] | None = None,
) -> dict[int, SeenAgain]:
    """Return indexed images with the places of their words; each is read once.

    A cropped one that cannot be read is left out, for the index has no features of a part.

    Args:
        image_ids: each once.
        layers: of which features are wanted; without a local one, no picture is read.
        crops: what is seen of a picture, by id, where that is not all of it.

    Raises:
        InputError: an image is not in the snapshot.
    """
    crops = crops or {}
    batch = opening.coordinator.features(image_ids, layers)
    stored = {
        image_id: take_queries(batch, [place]).layers for place, image_id in enumerate(image_ids)
    }
    local = [name for name in layers if name in opening.snapshot.vocabularies]
    if not local and not crops:
        return {each: SeenAgain(stored[each], None, "not read") for each in image_ids}
    rows = {each: opening.images.row(each) for each in image_ids}
    read = _read(opening, [_seen_row(rows[each], crops.get(each)) for each in image_ids])
    found: dict[int, SeenAgain] = {}
    for image_id, said in zip(image_ids, read, strict=True):
        if image_id in crops:
            if isinstance(said, Again):
                taken = {name: said.layers[name] for name in layers}
                within = part_seen(rows[image_id], crops[image_id])
                found[image_id] = SeenAgain(taken, said, "same", within=within)
        elif isinstance(said, Again):
            found[image_id] = _compared(stored[image_id], said, local)
        else:
            found[image_id] = SeenAgain(stored[image_id], None, "not read", said)
    return found


def _seen_row(row: Row, crop: Crop | None) -> Row:
    return row if crop is None else cropped(row, crop)


def part_seen(row: Row, crop: Crop) -> Box:
    """Return the part of a picture that is seen of a crop, as shares of the picture."""
    left, top, right, bottom = cropped(row, crop)["box"]
    width, height = row["width"], row["height"]
    return left / width, top / height, (right - left) / width, (bottom - top) / height


def _compared(stored: Mapping[str, Features], again: Again, local: Sequence[str]) -> SeenAgain:
    others = [name for name in local if not same_words(stored[name], again.layers[name])]
    if not others:
        return SeenAgain(stored, again, "same")
    note = (
        f"its words in {', '.join(others)} are not quite those of the index: it was indexed on "
        "another kind of machine, or with other versions of packages; weights are those of the "
        "index, boxes those of now"
    )
    return SeenAgain(stored, again, "others", note)


def _read(opening: Opening, rows: Sequence[Row]) -> list[Again | str]:
    """Return what each picture gives now, or why it was not read."""
    from lamella.pipeline.extract.work import PictureSource

    found: list[Again | str] = ["its source did not answer"] * len(rows)
    try:
        source = PictureSource(opening.images.root, opening.limits, opening.images.kind)
        located = locate_pictures(opening.encoder(), source, rows)
        for done, (number, said) in enumerate(located):
            found[number] = said if isinstance(said, Again) else _said(*said)
            opening.progress(Progress("explain", done + 1, len(rows), done + 1, len(rows)))
    except (InputError, SourceGone) as error:
        rest = one_line(error)
        return [each if isinstance(each, Again) else rest for each in found]
    return found


def _said(reason: RefusalReason, detail: str) -> str:
    more = f" ({detail})" if detail else ""
    if reason is RefusalReason.CHANGED:
        return f"it has changed since it was indexed{more}: its words are those of the index"
    return f"it cannot be read any more, {reason.meaning}{more}: its words are those of the index"


def given_again(opening: Opening, picture: "Given", layers: Sequence[str]) -> SeenAgain:
    """Return a picture from elsewhere, with the places of its words.

    Raises:
        InputError: it cannot be read, a layer is of given vectors, or the network cannot be
            opened.
    """
    from lamella.pipeline.extract.given import GivenPictures, rows_of_given

    check_computed(opening.snapshot.extraction, layers, "a picture from elsewhere")
    rows = rows_of_given([picture], opening.limits)
    ((_, said),) = locate_pictures(opening.encoder(), GivenPictures(opening.limits), rows)
    opening.progress(Progress("explain", 1, 1, 1, 1))
    if not isinstance(said, Again):
        reason, detail = said
        raise InputError(
            f"the query picture {one_line(repr(picture.name), 200)} cannot be read: "
            f"{reason.meaning}{f' ({one_line(detail)})' if detail else ''}: mend it, or give "
            "another"
        )
    return SeenAgain({name: said.layers[name] for name in layers}, said, "same")


def shown_picture(opening: Opening, who: "int | Given") -> Shown | None:
    """Return a picture as a page shows it, upright; None if it is gone or cannot be decoded.

    Args:
        who: the id of an indexed image, or a picture from elsewhere.
    """
    content = _content(opening, who)
    if content is None:
        return None
    if isinstance(content, bytes):
        try:
            pixels = sandbox.shrink(content, SHOWN_EDGE, SHOWN_EDGE, opening.limits)
        except Refused:
            return None
    else:
        pixels = resize.shrink(resize.picture_of(content), SHOWN_EDGE, SHOWN_EDGE)
    return Shown(jpeg_of(pixels), pixels.shape[1], pixels.shape[0])


def _content(opening: Opening, who: "int | Given") -> bytes | NDArray[np.uint8] | None:
    """Return the bytes of a picture's file, or the RGB pixels of a given one; None if gone."""
    from lamella.pipeline.extract.given import ROOT, rows_of_given

    if isinstance(who, int):
        try:
            return opening.images.picture_bytes(who)
        except InputError:  # a store in S3 may not name a folder of this machine
            return None
    if not isinstance(who.content, str):
        return None if isinstance(who.content, Refused) else who.content
    (row,) = rows_of_given([who], opening.limits)
    with EntryReader(ROOT, opening.limits, "list") as reader:
        try:
            return read_row(reader, row)
        except (Refused, SourceGone):
            return None
