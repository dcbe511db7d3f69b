"""Run the extract stage on some pictures and time each step, for a plan."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.listing import Entry
from lamella.pipeline.corpus.reader import EntryReader
from lamella.pipeline.extract.backbone import Backbone
from lamella.pipeline.extract.batches import plan_batches
from lamella.pipeline.extract.jpegs import Jpeg
from lamella.pipeline.extract.sink import LayerSink
from lamella.pipeline.extract.work import PictureSource, Seen, forward_pictures, threads_for
from lamella.pipeline.store.commit import attempt
from lamella.pipeline.store.local import LocalStore
from lamella.schemas.corpus import SourceKind
from lamella.schemas.extraction import ExtractionSpec, PreprocessSpec, View

Row = Mapping[str, Any]


@dataclass
class Times:
    """Seconds of single calls, by step, appended by threads; and of writing, by layer.

    see: reading and decoding; decode: the part that the device decodes, for a whole batch.
    """

    read: list[float] = field(default_factory=list)
    see: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)
    forward: list[float] = field(default_factory=list)
    write: dict[str, float] = field(default_factory=dict)


class TimedReader(EntryReader):
    """Times the reading of each entry."""

    def __init__(self, root: str, limits: DecodeLimits, kind: SourceKind, times: Times) -> None:
        super().__init__(root, limits, kind)
        self._times = times

    def read(self, entry: Entry) -> bytes:
        began = time.perf_counter()
        data = super().read(entry)
        self._times.read.append(time.perf_counter() - began)
        return data


class TimedSource(PictureSource):
    """Times the reading, decoding and resizing of each picture."""

    def __init__(self, root: str, limits: DecodeLimits, kind: SourceKind, times: Times) -> None:
        super().__init__(root, limits, kind)
        self._times = times

    def _open_reader(self) -> EntryReader:
        return TimedReader(self._root, self._limits, self._kind, self._times)

    def see(self, row: Row, views: Iterable[View], spec: PreprocessSpec) -> Seen | Jpeg:
        began = time.perf_counter()
        seen = super().see(row, views, spec)
        self._times.see.append(time.perf_counter() - began)
        return seen


class TimedBackbone(Backbone):
    """Times each forward pass, until the device is done with it, and decoding."""

    times = Times()

    def decode(self, jpegs: Sequence[Jpeg]) -> list[list[Tensor] | None]:
        began = time.perf_counter()
        decoded = super().decode(jpegs)
        self.times.decode.append(time.perf_counter() - began)
        return decoded

    def forward(self, pixels: Any, view: View) -> Mapping[str, Tensor]:
        began = time.perf_counter()
        outputs = super().forward(pixels, view)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.times.forward.append(time.perf_counter() - began)
        return outputs


@dataclass(frozen=True)
class ExtractProbe:
    """What extracting some pictures took, and what it gave.

    Attributes:
        device: the device's own name, "cpu" without a GPU.
        gpus: how many there are.
        threads: CPUs to use; `at_work` threads worked at once. Where these are more than the CPUs,
            each waited for one, and its times are longer.
        opening: seconds until the network was loaded.
        wall: seconds for all pictures.
        times: of single calls.
        image_ids: (n,) of the pictures that gave activations.
        files, sizes, rows: by layer: its Parquet file, its bytes, its rows of each of the n.
        refused: by reason, how many others turned out to give none.
    """

    device: str
    gpus: int
    threads: int
    at_work: int
    opening: float
    wall: float
    times: Times
    image_ids: NDArray[np.int64]
    files: Mapping[str, Path]
    sizes: Mapping[str, int]
    rows: Mapping[str, NDArray[np.int64]]
    refused: Mapping[str, int]


def probe_extraction(
    spec: ExtractionSpec,
    weights: Path,
    root: str,
    kind: SourceKind,
    limits: DecodeLimits,
    rows: Sequence[Row],
    scratch: Path,
    *,
    threads: int,
    on_picture: Callable[[int], None],
) -> ExtractProbe:
    """Extract the pictures of these rows, after a warm-up on the first; return the measurements.

    Args:
        rows: of an image table.
        scratch: an empty folder for the files, which are kept.
        threads: CPUs to use; with a GPU always one, so that no pass waits for another.
        on_picture: called with the number of finished pictures.
    """
    on_gpu = torch.cuda.is_available()
    threads = 1 if on_gpu else threads
    began = time.perf_counter()
    backbone = TimedBackbone(spec, weights, "cuda" if on_gpu else "cpu")
    opening = time.perf_counter() - began
    at_work = threads_for(threads, backbone)
    ids = np.arange(len(rows))
    warm = TimedSource(root, limits, kind, Times())
    for _ in forward_pictures(backbone, warm, rows[: 2 * at_work], ids, threads=at_work):
        pass
    times = backbone.times = Times()
    source = TimedSource(root, limits, kind, times)
    (scratch / "store").mkdir()
    store = LocalStore(scratch / "store")
    indexed: list[int] = []
    refused: Counter[str] = Counter()
    counts: dict[str, list[int]] = {layer.name: [] for layer in spec.layers}
    began = time.perf_counter()
    with attempt(store, "probe", "probe", "probe", "") as work, ExitStack() as stack:
        sinks = [
            stack.enter_context(closing(LayerSink(layer, scratch / f"{slot}.parquet")))
            for slot, layer in enumerate(spec.layers)
        ]
        for batch in forward_pictures(backbone, source, rows, ids, threads=at_work):
            indexed += batch.image_ids.tolist()
            refused.update(each.reason.value for each in batch.refusals)
            for sink in sinks:
                with _writing(times, sink):
                    sink.add(batch)
            for name in batch.vectors:
                counts[name] += [1] * len(batch.image_ids)
            for name, found in batch.descriptors.items():
                counts[name] += [int((found.image_ids == each).sum()) for each in batch.image_ids]
            on_picture(len(indexed))
        image_ids = np.array(sorted(indexed), np.int64)
        for sink in sinks:
            with _writing(times, sink):
                sink.commit(work, "probe", image_ids)
        files = {name: store.local_path(file.path) for name, file in work.files.items()}
    wall = time.perf_counter() - began
    return ExtractProbe(
        torch.cuda.get_device_name() if on_gpu else "cpu",
        torch.cuda.device_count() if on_gpu else 0,
        threads,
        at_work,
        opening,
        wall,
        times,
        image_ids,
        files,
        {name: path.stat().st_size for name, path in files.items()},
        {name: np.array(each, np.int64) for name, each in counts.items()},
        refused,
    )


@contextmanager
def _writing(times: Times, sink: LayerSink) -> Iterator[None]:
    """Add the seconds of the block to the writing time of a layer."""
    began = time.perf_counter()
    yield
    name = sink.layer.name
    times.write[name] = times.write.get(name, 0.0) + time.perf_counter() - began


def batches_a_picture(rows: Sequence[Row], spec: ExtractionSpec, shard_images: int) -> float:
    """Return how many batches a picture takes in shards of that size, padding included.

    Args:
        rows: of an image table, whose sizes stand for those of all.
    """
    sizes = [(row["height"], row["width"]) for row in rows if row["refusal"] is None]
    if not sizes:
        return 0.0
    times = max(1, shard_images // len(sizes))
    return len(plan_batches(sizes * times, spec)) / (len(sizes) * times)
