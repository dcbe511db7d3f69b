"""Make small JPEGs of indexed pictures: each is read once, and decoded in the sandbox."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from lamella.pipeline.cores import available_cores
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.image_table import read_row
from lamella.pipeline.corpus.reader import EntryReader
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.sandbox import shrink
from lamella.pipeline.errors import SourceGone
from lamella.pipeline.jobs.query_run import Place
from lamella.pipeline.page.jpeg import jpeg_of
from lamella.pipeline.run.drive import Progress
from lamella.pipeline.search.names import ImageTable

THUMBNAIL_EDGE = 160
"""The height of a thumbnail in pixels; its width is at most twice that."""

QUALITY = 78
"""Of the JPEGs: at this size, what is above it cannot be seen on the page."""

PICTURES_A_BATCH = 16

Row = Mapping[str, Any]
Made = list[tuple[int, bytes | None]]


def thumbnails(
    place: Place, image_ids: Sequence[int], threads: int | None = None
) -> Iterator[tuple[int, bytes | None]]:
    """Yield a JPEG for each image id, in the order of the corpus, and tell the progress.

    None stands for a picture that cannot be read any more, has changed since it was indexed, or
    cannot be decoded. A few batches at a time are in memory, for any number of pictures.

    Args:
        threads: how many pictures are read and decoded at once; by default one a core.

    Raises:
        InputError: the pictures may not be read at all, as `picture_root`.
        KeyError: an id is not in the index.
    """
    images = ImageTable(place.store, place.snapshot, pictures=place.pictures)
    root, kind, total = images.root, images.kind, len(image_ids)

    def make(rows: Sequence[Row]) -> Made:
        with EntryReader(root, DecodeLimits(), kind) as reader:
            return [(row["image_id"], _thumbnail_of(reader, row)) for row in rows]

    rows = images.rows_in_order(image_ids)
    batches = iter(lambda: list(itertools.islice(rows, PICTURES_A_BATCH)), [])
    made = _in_threads(make, batches, threads or available_cores())
    for done, (image_id, data) in enumerate(made, start=1):
        yield image_id, data
        place.progress(Progress("thumbnails", done, total, done, total))


def _in_threads(
    make: Callable[[Sequence[Row]], Made], batches: Iterator[Sequence[Row]], threads: int
) -> Iterator[tuple[int, bytes | None]]:
    """Yield what `make` gives for each batch, in their order, a few batches ahead of the reader."""
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(threads, "thumbnails") as pool:
        try:
            for batch in batches:
                waiting.append(pool.submit(make, batch))
                if len(waiting) > 2 * threads:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _thumbnail_of(reader: EntryReader, row: Row) -> bytes | None:
    try:
        return thumbnail(read_row(reader, row))
    except (Refused, SourceGone):
        return None


def thumbnail(data: bytes) -> bytes | None:
    """Return a picture as a small JPEG, None if it cannot be decoded."""
    try:
        small = shrink(data, 2 * THUMBNAIL_EDGE, THUMBNAIL_EDGE, DecodeLimits())
    except Refused:
        return None
    return jpeg_of(small, QUALITY, optimize=True)
