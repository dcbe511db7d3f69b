"""A shard's pictures through the network: decode, resize, forward, keep; batch by batch.

Each batch is one unit of work in a small pool of threads, and each thread runs the network with
one thread of its own. That keeps the cores busier than splitting single operations over them, and
it keeps the bits: split over two threads, some operations sum in another order than over one.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.corpus.ahead import ReadAhead, reading_ahead
from pipeline.corpus.build import see_row
from pipeline.corpus.decode import DecodeLimits
from pipeline.corpus.places import place_of
from pipeline.corpus.reader import EntryReader
from pipeline.corpus.refused import Refused
from pipeline.extract.backbone import Backbone
from pipeline.extract.batches import Batch, plan_batches
from pipeline.extract.descriptors import Descriptors, global_vectors, local_descriptors
from pipeline.extract.preprocess import look_of, view_shape
from schemas.extraction import PreprocessSpec, View
from schemas.refusals import RefusalReason

Row = Mapping[str, Any]
BATCHES_AHEAD = 2
"""Batches in flight beyond one a thread: enough that no thread waits for the writer."""


@dataclass(frozen=True)
class Refusal:
    """A picture that gave no activations."""

    image_id: int
    name: str
    reason: RefusalReason
    detail: str


@dataclass(frozen=True)
class BatchActivations:
    """What the layers saw in a batch.

    image_ids (n,): the pictures that gave activations, rising; vectors: by global layer, (n, D);
    descriptors: by local layer; refusals: the rest of the batch.
    """

    image_ids: NDArray[np.int64]
    vectors: Mapping[str, NDArray[np.float32]]
    descriptors: Mapping[str, Descriptors]
    refusals: tuple[Refusal, ...]


class PictureSource:
    """Gives what is seen of rows of image tables; each thread has its own reader."""

    def __init__(self, root: str, limits: DecodeLimits) -> None:
        self._root = root
        self._limits = limits
        self._mine = threading.local()
        self._ahead: ReadAhead | None = None

    @contextmanager
    def expecting(self, rows: Iterable[Row]) -> Iterator[None]:
        """Have the pictures of these rows that lie in S3 fetched ahead inside the block."""
        places = [place_of(self._root, row["name"]) for row in rows if not row["container"]]
        with reading_ahead(places, self._limits.max_bytes) as self._ahead:
            yield
        self._ahead = None

    def see(self, row: Row, views: Iterable[View], spec: PreprocessSpec) -> list[NDArray[np.uint8]]:
        """Return what the network sees of a picture in each view, or of the row's `box`.

        Raises:
            Refused: it cannot be read.
        """
        if not hasattr(self._mine, "reader"):
            self._mine.reader = EntryReader(self._root, self._limits)
        self._mine.reader.ahead = self._ahead
        looks = [look_of(row["height"], row["width"], view, spec) for view in views]
        return see_row(self._mine.reader, row, looks, self._limits)


def forward_pictures(
    backbone: Backbone,
    source: PictureSource,
    rows: Sequence[Row],
    first_image_id: int,
    *,
    threads: int,
) -> Iterator[BatchActivations]:
    """Yield the activations of some pictures, batch after batch, in the order of the plan.

    Args:
        rows: of an image table; those with a refusal are left out.
        first_image_id: the id of the first row.
        threads: batches worked on at once; changes no bit of the result.
    """
    sizes = [(row["height"], row["width"]) if row["refusal"] is None else None for row in rows]
    batches = plan_batches(sizes, backbone.spec)

    def work(batch: Batch) -> BatchActivations:
        return _forward_batch(backbone, source, rows, first_image_id, batch)

    in_order = [rows[row] for batch in batches for row in batch.rows]
    with (
        source.expecting(in_order),
        ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        waiting: deque[Future[BatchActivations]] = deque()
        for batch in batches:
            waiting.append(pool.submit(work, batch))
            if len(waiting) >= threads + BATCHES_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _forward_batch(
    backbone: Backbone,
    source: PictureSource,
    rows: Sequence[Row],
    first_image_id: int,
    batch: Batch,
) -> BatchActivations:
    spec = backbone.spec
    inputs = {
        view: np.zeros(
            (spec.batch_size, *view_shape(*batch.shape, view, spec.preprocess), 3), np.uint8
        )
        for view in backbone.views
    }
    kept: list[int] = []
    refusals: list[Refusal] = []
    for slot, row in enumerate(batch.rows):
        try:
            seen = source.see(rows[row], inputs, spec.preprocess)
            for array, pixels in zip(inputs.values(), seen, strict=True):
                array[slot] = pixels
            kept.append(slot)
        except Refused as refused:
            # The slot stays, as zeros: the pictures beside it keep their bits.
            refusals.append(
                Refusal(first_image_id + row, rows[row]["name"], refused.reason, refused.detail)
            )
    image_ids = np.array([first_image_id + batch.rows[slot] for slot in kept], np.int64)
    vectors: dict[str, NDArray[np.float32]] = {}
    descriptors: dict[str, Descriptors] = {}
    if kept:
        slots = torch.tensor(kept)
        for view, array in inputs.items():
            outputs = backbone.forward(array, view)
            for layer in spec.layers:
                if layer.view == view:
                    output = outputs[layer.node]
                    if len(kept) < spec.batch_size:
                        output = output[slots.to(output.device)]
                    if layer.kind == "global":
                        vectors[layer.name] = _finite(global_vectors(output, layer), layer.name)
                    else:
                        descriptors[layer.name] = local_descriptors(output, image_ids)
    return BatchActivations(image_ids, vectors, descriptors, tuple(refusals))


def _finite(vectors: NDArray[np.float32], layer: str) -> NDArray[np.float32]:
    if not np.isfinite(vectors).all():
        raise ValueError(f"layer {layer} gave values that are not finite: check the weights")
    return vectors
