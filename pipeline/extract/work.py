"""Take a shard's pictures through the network, batch by batch: decode, resize, forward, keep.

On a CPU a batch is one unit of work in a small pool of threads: the thread that reads its pictures
also runs its forward pass, on that thread alone. That keeps the cores busier than splitting single
operations over them, and it keeps the bits: split over two threads, some operations sum in another
order. On a GPU all threads read pictures, one more has the GPU decode plain JPEGs (`jpegs.py`), and
one more queues pass after pass without waiting for results.
"""

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamella.pipeline.corpus.blame import naming
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.image_table import read_row
from lamella.pipeline.corpus.locations import may_fetch, place_of
from lamella.pipeline.corpus.prefetch import ReadAhead, reading_ahead
from lamella.pipeline.corpus.reader import EntryReader
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.sandbox import see
from lamella.pipeline.corpus.verdicts import Verdicts, judged
from lamella.pipeline.extract.activations import BatchActivations, Refusal, Row
from lamella.pipeline.extract.backbone import Backbone
from lamella.pipeline.extract.batches import Batch, plan_batches
from lamella.pipeline.extract.jpegs import Jpeg, plain_jpeg
from lamella.pipeline.extract.passes import Pass, ask
from lamella.pipeline.extract.preprocess import look_of, reduction_of, view_shape
from lamella.pipeline.signs import signer
from lamella.schemas.corpus import SourceKind
from lamella.schemas.extraction import PreprocessSpec, View

Seen = list[NDArray[np.uint8]]
"""The pixels of a picture's views: (h, w, 3) RGB each."""

BATCHES_AHEAD = 2
"""Batches in flight beyond those being read: one in the network, one to write."""


class PictureSource:
    """Decodes pictures of rows of image tables; each thread has its own reader.

    Readers keep tars and Parquet files open, until `close` or the end of `expecting`.
    """

    def __init__(
        self,
        root: str,
        limits: DecodeLimits,
        kind: SourceKind = "folder",
        verdicts: Verdicts | None = None,
    ) -> None:
        """Read nothing yet. `verdicts` come from earlier attempts at the same rows."""
        self._root = root
        self._limits = limits
        self._kind: SourceKind = kind
        self._verdicts = verdicts
        self._mine = threading.local()
        self._readers: list[EntryReader] = []
        self._sign = signer()
        self._ahead: ReadAhead | None = None

    @contextmanager
    def expecting(self, rows: Iterable[Row]) -> Iterator[None]:
        """Fetch the pictures of these rows ahead inside the block, where they lie in S3.

        At its end, when no thread reads any more, the source is closed.
        """
        files = (row for row in rows if not row["container"] and may_fetch(self._kind, row["name"]))
        places = [(place_of(self._root, row["name"]), row["size_bytes"]) for row in files]
        try:
            with reading_ahead(places, self._limits.max_bytes) as self._ahead:
                yield
        finally:
            self._ahead = None
            self.close()

    def close(self) -> None:
        """Close the containers that readers have open; reading again opens them again."""
        for reader in list(self._readers):
            reader.close()

    def see(self, row: Row, views: Iterable[View], spec: PreprocessSpec) -> Seen | Jpeg:
        """Return what the network sees of a picture in each view, or of the row's `box`.

        With recipe "torch-1" it may be a JPEG that the network's device is to decode.

        Raises:
            Refused: it cannot be read.
        """
        try:
            return self._see(row, views, spec)
        finally:
            self._sign()

    def _see(self, row: Row, views: Iterable[View], spec: PreprocessSpec) -> Seen | Jpeg:
        if not hasattr(self._mine, "reader"):
            self._mine.reader = self._open_reader()
            self._readers.append(self._mine.reader)
        self._mine.reader.ahead = self._ahead
        return self._look(read_row(self._mine.reader, row), row, views, spec)

    def _open_reader(self) -> EntryReader:
        """Return a reader for a thread."""
        return EntryReader(self._root, self._limits, self._kind)

    def _look(
        self, data: bytes, row: Row, views: Iterable[View], spec: PreprocessSpec
    ) -> Seen | Jpeg:
        """Return what is seen of the picture in these bytes, which is that of the row."""
        size, box = (row["height"], row["width"]), row.get("box")
        looks = [look_of(*size, view, spec) for view in views]
        if spec.rgb_recipe == "torch-1" and (jpeg := plain_jpeg(data, size, looks, box)):
            return jpeg
        reduction = reduction_of(*size, looks, spec)
        return self._judged(
            row["sha256"], lambda: see(data, size, looks, self._limits, box, reduction)
        )

    def see_in_sandbox(self, jpeg: Jpeg) -> Seen:
        """Return the views of a JPEG that the device could not decode.

        Raises:
            Refused: the sandbox cannot either.
        """
        try:
            return self._judged(
                hashlib.sha256(jpeg.data).digest(),
                lambda: see(jpeg.data, jpeg.size, jpeg.looks, self._limits, jpeg.box),
            )
        finally:
            self._sign()

    def _judged(self, sha256: bytes, look: Callable[[], Seen]) -> Seen:
        return judged(self._verdicts, sha256, self._limits, look)


def threads_for(cpus: int, backbone: Backbone) -> int:
    """Return how many threads keep that many CPUs busy with `forward_pictures`.

    One more where children decode: a thread that waits for its child has no work for its CPU, and
    the kernel is slow to move another thread there.
    """
    in_children = backbone.spec.preprocess.rgb_recipe != "torch-1"
    return cpus + (in_children and not backbone.lane.queues)


def forward_pictures(
    backbone: Backbone,
    source: PictureSource,
    rows: Sequence[Row],
    image_ids: NDArray[np.int64],
    *,
    threads: int,
    at_hand: Set[int] = frozenset(),
    turn: AbstractContextManager[object] | None = None,
) -> Generator[BatchActivations, None, None]:
    """Yield the activations of some pictures, batch after batch, in the order of the plan.

    Args:
        rows: of an image table; those with a refusal are left out.
        image_ids: (n,), of the rows.
        threads: batches worked on at once, or pictures read at once for a GPU; changes no bit of
            the result.
        at_hand: ids of pictures that are planned with the others and not read: their activations
            are known. So the others are in the same batches as if all were read.
        turn: a lock, held from the first picture read to the last batch; while waiting for it,
            objects in S3 are fetched.
    """
    sizes = [(row["height"], row["width"]) if row["refusal"] is None else None for row in rows]
    batches = plan_batches(sizes, backbone.spec)
    in_order = [
        rows[row] for batch in batches for row in batch.rows if int(image_ids[row]) not in at_hand
    ]
    # For a GPU: batches that threads are reading, the end of one and the start of the next.
    being_read = -(-threads // backbone.spec.batch_size) + 1 if backbone.lane.queues else threads
    with ExitStack() as stack:
        stack.enter_context(source.expecting(in_order))
        stack.enter_context(turn or nullcontext())
        readers = _pool(stack, threads)
        decoder, asker = _pool(stack, 1), _pool(stack, 1)

        def begin(batch: Batch) -> Future[_BatchInHand]:
            hand = _BatchInHand(backbone, source, rows, image_ids, at_hand, batch)
            if not backbone.lane.queues:
                return readers.submit(hand.do_all)
            # Not one by one: handing over a picture takes as long as opening its file.
            slots, parts = range(len(batch.rows)), min(threads, len(batch.rows))
            reads = [readers.submit(hand.read, slots[n::parts]) for n in range(parts)]
            return asker.submit(hand.ask, decoder.submit(hand.decode, reads))

        waiting: deque[Future[_BatchInHand]] = deque()
        for batch in batches:
            waiting.append(begin(batch))
            if len(waiting) >= being_read + BATCHES_AHEAD:
                yield waiting.popleft().result().activations()
        while waiting:
            yield waiting.popleft().result().activations()


def _pool(stack: ExitStack, threads: int) -> ThreadPoolExecutor:
    """Return a pool that ends with the stack, at once after an error."""
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    stack.callback(pool.shutdown, cancel_futures=True)
    return pool


class _BatchInHand:
    """A batch on its way: pictures being read, then the pass, then its activations."""

    def __init__(
        self,
        backbone: Backbone,
        source: PictureSource,
        rows: Sequence[Row],
        image_ids: NDArray[np.int64],
        at_hand: Set[int],
        batch: Batch,
    ) -> None:
        self._backbone = backbone
        self._source = source
        self._rows = [rows[row] for row in batch.rows]
        self._image_ids = image_ids[np.array(batch.rows, np.int64)]
        self._to_read = np.array([int(each) not in at_hand for each in self._image_ids], np.bool_)
        self._refusals: list[Refusal | None] = [None] * len(batch.rows)
        self._jpegs: dict[int, Jpeg] = {}
        self._decoded: dict[int, list[Tensor]] = {}
        self._pass: Pass | None = None
        spec, room = backbone.spec, backbone.lane.room
        self._kept = room((spec.batch_size,), torch.bool).zero_()
        self._pixels: dict[View, Tensor] = {}
        for view in backbone.views:
            shape = view_shape(*batch.shape, view, spec.preprocess)
            self._pixels[view] = room((spec.batch_size, *shape, 3), torch.uint8)
            self._pixels[view][len(batch.rows) :] = 0
        self._arrays = {view: pixels.numpy() for view, pixels in self._pixels.items()}

    def read(self, slots: Iterable[int]) -> None:
        """Read pictures into their slots, or note their refusals; for any thread."""
        spec = self._backbone.spec.preprocess
        for slot in slots:
            if not self._to_read[slot]:
                self._clear(slot)
                continue
            self._fill(slot, partial(self._source.see, self._rows[slot], self._arrays, spec))

    def _fill(self, slot: int, see: Callable[[], Seen | Jpeg]) -> None:
        try:
            with naming(self._rows[slot]["name"]):
                seen = see()
        except Refused as refused:
            self._clear(slot)
            self._refusals[slot] = Refusal(
                int(self._image_ids[slot]),
                self._rows[slot]["name"],
                refused.reason,
                refused.detail,
            )
            return
        if isinstance(seen, Jpeg):
            self._jpegs[slot] = seen
            return
        for array, pixels in zip(self._arrays.values(), seen, strict=True):
            array[slot] = pixels

    def _clear(self, slot: int) -> None:
        """Fill a slot with zeros: the batch keeps its shape, and the others their bits."""
        for array in self._arrays.values():
            array[slot] = 0

    def decode(self, reads: Iterable[Future[None]]) -> None:
        """Have the device decode its JPEGs, once all pictures are read.

        The sandbox decodes, or refuses, those that the device cannot.
        """
        for each in reads:
            each.result()
        jpegs, self._jpegs = self._jpegs, {}
        found = self._backbone.decode(list(jpegs.values())) if jpegs else ()
        for (slot, jpeg), seen in zip(jpegs.items(), found, strict=True):
            if seen is None:
                self._fill(slot, partial(self._source.see_in_sandbox, jpeg))
            else:
                self._decoded[slot] = seen

    def ask(self, decoded: Future[None] | None = None) -> Self:
        """Start the pass once all is decoded, unless all were refused."""
        if decoded is not None:
            decoded.result()
        kept = self._read_well()
        if kept.any():
            self._kept[: len(kept)] = torch.from_numpy(kept)
            self._pass = ask(self._backbone, self._pixels, self._kept, len(kept), self._decoded)
        self._pixels, self._arrays, self._decoded = {}, {}, {}
        return self

    def do_all(self) -> Self:
        """Do all steps in one thread."""
        self.read(range(len(self._rows)))
        self.decode(())
        return self.ask()

    def activations(self) -> BatchActivations:
        """Wait for the pass; return its activations."""
        kept = self._read_well()
        vectors, descriptors = self._pass.results(self._image_ids) if self._pass else ({}, {})
        if not kept.all():
            vectors = {name: found[kept] for name, found in vectors.items()}
        refusals = tuple(refusal for refusal in self._refusals if refusal is not None)
        asked = self._image_ids
        return BatchActivations(asked[kept], vectors, descriptors, refusals, asked)

    def _read_well(self) -> NDArray[np.bool_]:
        """Say of each picture whether it was read, and not refused."""
        return self._to_read & np.array([refusal is None for refusal in self._refusals], np.bool_)
