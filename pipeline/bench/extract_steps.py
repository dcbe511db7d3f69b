"""Time the steps of extraction one by one, each alone on all threads."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamella.pipeline.bench.wait_times import DECODE_ON_GPU
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.image_table import probe_entries
from lamella.pipeline.corpus.listing import Entry
from lamella.pipeline.corpus.locations import is_s3
from lamella.pipeline.corpus.reader import EntryReader
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.errors import InputError
from lamella.pipeline.extract.activations import BatchActivations, Row
from lamella.pipeline.extract.backbone import Backbone, placed
from lamella.pipeline.extract.background_writer import Do, at_once
from lamella.pipeline.extract.batches import Batch, plan_batches
from lamella.pipeline.extract.descriptors import Descriptors, global_vectors, local_descriptors
from lamella.pipeline.extract.jpegs import Jpeg
from lamella.pipeline.extract.preprocess import view_shape
from lamella.pipeline.extract.sink import LayerSink
from lamella.pipeline.extract.work import PictureSource, Seen
from lamella.schemas.corpus import SourceKind
from lamella.schemas.extraction import ExtractionSpec, PreprocessSpec, View

T = TypeVar("T")
R = TypeVar("R")
STEPS = ("read", "decode, resize", "forward", "descriptors", "write")
STEPS_ON_GPU = (DECODE_ON_GPU, "forward", "descriptors")
MOMENT_S = 1e-9
"""Lower clamp: subtracting read time can go negative."""

CHUNK_PICTURES = 16
"""Pictures a thread that go through one step before the next begins; they stay in memory."""


@dataclass(frozen=True)
class Pictures:
    """Pictures to try extraction on: rows of an image table, all of which can be decoded."""

    root: str
    rows: tuple[Row, ...]
    limits: DecodeLimits
    kind: SourceKind = "folder"


def choose_pictures(
    source: str, count: int, limits: DecodeLimits, column: str | None = None
) -> Pictures:
    """Return up to `count` pictures of a source on local disk, spread evenly over its listing.

    Each is decoded once, to leave out those that cannot be, and to fill the disk's cache.

    Raises:
        InputError: there are none, or they lie in S3, where reading is not work of the cores.
    """
    listing = list_source(source, column)
    if is_s3(listing.root):
        raise InputError(f"extraction is tried on local pictures; {source} is in S3: copy some")
    held = len(listing.entries)
    numbers = dict.fromkeys(number * held // count for number in range(count))
    entries = [listing.entries[number] for number in numbers]
    table, _, _ = probe_entries(listing.root, listing.kind, entries, limits)
    with closing(PictureSource(listing.root, limits, listing.kind)) as opened:
        rows = tuple(row for row in table.to_pylist() if _can_be_seen(opened, row))
    if not rows:
        raise InputError(f"none of {len(entries):,} files tried of {source} is a picture")
    return Pictures(listing.root, rows, limits, listing.kind)


def _can_be_seen(source: PictureSource, row: Row) -> bool:
    if row["refusal"] is not None:
        return False
    try:
        source.see(row, ("whole",), PreprocessSpec())
    except Refused:
        return False
    return True


@contextmanager
def opened_sinks(spec: ExtractionSpec, folder: Path, do: Do = at_once) -> Iterator[list[LayerSink]]:
    """Open a sink a layer; at the end write waiting rows, and remove the files."""
    paths = [folder / f"{slot}.parquet" for slot in range(len(spec.layers))]
    try:
        with ExitStack() as stack:
            sinks = [
                stack.enter_context(closing(LayerSink(layer, path, do)))
                for layer, path in zip(spec.layers, paths, strict=True)
            ]
            yield sinks
            for sink in sinks:
                sink.finish()
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def seconds_alone(
    backbone: Backbone, source: PictureSource, pictures: Pictures, threads: int, folder: Path
) -> dict[str, float]:
    """Return, for each of `STEPS`, the seconds of all threads on all pictures.

    `DECODE_ON_GPU` is included where it is used. All threads do one step for some pictures, then
    the next; one thread writes, and one drives a GPU and waits for it after all of these pictures.
    """
    spec, rows = backbone.spec, pictures.rows
    decoding = "decode, resize"
    if backbone.device.type == "cuda" and spec.preprocess.rgb_recipe == "torch-1":
        decoding = DECODE_ON_GPU
    spent = dict.fromkeys((*STEPS[:2], decoding, *STEPS[2:]), 0.0)
    plan = plan_batches([(row["height"], row["width"]) for row in rows], spec)
    step = max(threads, CHUNK_PICTURES * threads // spec.batch_size)

    def read(row: int) -> None:
        each = rows[row]
        entry = Entry(each["name"], each["container"], each["offset"], each["size_bytes"])
        with EntryReader(pictures.root, pictures.limits, pictures.kind) as reader:
            hashlib.sha256(reader.read(entry)).digest()

    def see(row: int) -> Seen | Jpeg:
        return source.see(rows[row], backbone.views, spec.preprocess)

    def decode(seen: list[Seen | Jpeg]) -> list[Seen | list[Tensor]]:
        jpegs = [each for each in seen if isinstance(each, Jpeg)]
        found = zip(jpegs, backbone.decode(jpegs) if jpegs else (), strict=True)
        decoded = iter([each or source.see_in_sandbox(jpeg) for jpeg, each in found])
        return [next(decoded) if isinstance(each, Jpeg) else each for each in seen]

    def forward(part: tuple[Batch, list[Seen]]) -> dict[str, Tensor]:
        batch, seen = part
        found: dict[str, Tensor] = {}
        for at, view in enumerate(backbone.views):
            pixels = _filled(batch, [each[at] for each in seen], view, spec)
            outputs = backbone.forward(pixels, view)
            for layer in spec.layers:
                if layer.view == view:
                    output = outputs[layer.node]
                    found[layer.name] = placed(output, layer, pixels.shape[1:3])
        return found

    def describe(part: tuple[Batch, Any]) -> BatchActivations:
        batch, outputs = part
        image_ids = np.array(batch.rows, np.int64)
        vectors: dict[str, NDArray[np.float32]] = {}
        descriptors: dict[str, Descriptors] = {}
        for layer in spec.layers:
            output = outputs[layer.name]
            if layer.kind == "global":
                vectors[layer.name] = global_vectors(output[: len(image_ids)], layer)
            else:
                descriptors[layer.name] = local_descriptors(output, image_ids)
        return BatchActivations(image_ids, vectors, descriptors, ())

    with (
        opened_sinks(spec, folder) as sinks,
        ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):

        def every(name: str, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
            if backbone.device.type == "cuda" and name in STEPS_ON_GPU:
                began = time.perf_counter()
                values = [work(item) for item in items]
                torch.cuda.synchronize(backbone.device)
                spent[name] += time.perf_counter() - began
                return values
            timed = list(pool.map(_clocked(work), items))
            spent[name] += sum(seconds for seconds, _ in timed)
            return [value for _, value in timed]

        for start in range(0, len(plan), step):
            chunk = plan[start : start + step]
            numbers = [row for batch in chunk for row in batch.rows]
            every("read", read, numbers)
            pixels = dict(zip(numbers, every("decode, resize", see, numbers), strict=True))
            seen = [[pixels.pop(row) for row in batch.rows] for batch in chunk]
            decoded = [_arrays(each) for each in every(decoding, decode, seen)]
            outputs = every("forward", forward, list(zip(chunk, decoded, strict=True)))
            found = every("descriptors", describe, list(zip(chunk, outputs, strict=True)))
            began = time.perf_counter()
            for each in found:
                for sink in sinks:
                    sink.add(each)
            spent["write"] += time.perf_counter() - began
        began = time.perf_counter()
    spent["write"] += time.perf_counter() - began
    # Decoding a picture includes reading it; both come from the disk's cache by now.
    spent["decode, resize"] = max(spent["decode, resize"] - spent["read"], MOMENT_S)
    return spent


def _clocked(work: Callable[[T], R]) -> Callable[[T], tuple[float, R]]:
    def clocked(item: T) -> tuple[float, R]:
        began = time.perf_counter()
        value = work(item)
        return time.perf_counter() - began, value

    return clocked


def _arrays(seen: Sequence[Seen | list[Tensor]]) -> list[Seen]:
    """Return pictures in this process, wherever they were decoded; not a step of the pipeline."""
    return [
        [view.cpu().numpy() if isinstance(view, Tensor) else view for view in each] for each in seen
    ]


def _filled(
    batch: Batch, seen: Sequence[NDArray[np.uint8]], view: View, spec: ExtractionSpec
) -> NDArray[np.uint8]:
    """Return a batch's pictures in one array, padded to the batch size."""
    shape = view_shape(*batch.shape, view, spec.preprocess)
    array = np.zeros((spec.batch_size, *shape, 3), np.uint8)
    for slot, pixels in enumerate(seen):
        array[slot] = pixels
    return array
