"""Compare passes of one network, in several precisions or batch sizes: speed and vectors."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from lamella.pipeline.arrays import Float64s, Int64s
from lamella.pipeline.bench.extract_steps import Pictures
from lamella.pipeline.errors import InputError, LamellaError, one_line
from lamella.pipeline.extract.activations import Row
from lamella.pipeline.extract.backbone import Backbone
from lamella.pipeline.extract.batches import Batch, plan_batches
from lamella.pipeline.extract.jpegs import Jpeg
from lamella.pipeline.extract.passes import ask
from lamella.pipeline.extract.preprocess import view_shape, whole_shape
from lamella.pipeline.extract.work import PictureSource, Seen
from lamella.pipeline.products.cpu import this_cpu
from lamella.schemas.extraction import ExtractionSpec, Precision

AS_FAST = 0.95
"""Share of the fastest rate from which a smaller batch is as good: passes vary by some percent."""


@dataclass(frozen=True)
class Moved:
    """How far the vectors of a layer are from those of the first trial.

    Attributes:
        vectors: how many were compared: one a picture, or one a position.
        unmatched: positions that have a descriptor in one of the two alone.
        mean_cosine, least_cosine: over the vectors; 1 where there is none.
    """

    vectors: int
    unmatched: int
    mean_cosine: float
    least_cosine: float


@dataclass(frozen=True)
class PassTrial:
    """What passes took in one precision and batch size, and what they gave.

    Attributes:
        hardware: what multiplies in half precision; empty on GPUs, in float32, and where PyTorch
            emulates it.
        pictures: how many were seen, some twice where there are fewer than slots on all threads.
        pictures_per_second: through the network and its descriptors, in full batches, on all
            threads; 0 where it failed.
        ratio: to the first trial.
        layers: by name, how far their vectors are from those of the first trial.
        fault: why there is nothing to be measured; empty where there is.
    """

    precision: Precision
    batch_size: int
    hardware: str
    pictures: int = 0
    pictures_per_second: float = 0.0
    ratio: float = 0.0
    layers: Mapping[str, Moved] = field(default_factory=dict)
    fault: str = ""


def alike(pictures: Pictures, spec: ExtractionSpec) -> Pictures:
    """Return the pictures of the commonest shape, which fill batches."""
    by_shape: dict[tuple[int, int], list[Row]] = {}
    for row in pictures.rows:
        shape = whole_shape(row["height"], row["width"], spec.preprocess)
        by_shape.setdefault(shape, []).append(row)
    commonest = max(by_shape, key=lambda shape: len(by_shape[shape]))
    return replace(pictures, rows=tuple(by_shape[commonest]))


def best_batch_size(trials: Sequence[PassTrial]) -> int:
    """Return the smallest batch size that is as fast as any, within `AS_FAST`."""
    most = max(each.pictures_per_second for each in trials)
    fast = [each for each in trials if each.pictures_per_second >= AS_FAST * most]
    return min(each.batch_size for each in fast)


def compare_passes(
    pictures: Pictures,
    specs: Sequence[ExtractionSpec],
    weights: Path,
    *,
    threads: int,
    device: str = "cpu",
    seconds: float = float("inf"),
) -> tuple[PassTrial, ...]:
    """Run pictures through a network in several ways, and compare each with the first.

    A few pictures go through all of them before the next are read, so that whatever else the
    machine does falls on all. A batch that is not full is filled by its own pictures once more.

    Args:
        specs: of one network, which differ in precision or batch size.
        threads: that run passes at once; a GPU has one.
        seconds: no more pictures are read after so long.

    Raises:
        InputError: the first cannot be run.
        Refused: no picture can be read.
    """
    ways = [_Way(spec, weights, device) for spec in specs]
    _check(ways[0])
    threads = threads if device == "cpu" else 1
    step = threads * max(spec.batch_size for spec in specs)
    began = time.perf_counter()
    with (
        closing(PictureSource(pictures.root, pictures.limits, pictures.kind)) as source,
        ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        for start in range(0, len(pictures.rows), step):
            rows = [pictures.rows[(start + n) % len(pictures.rows)] for n in range(step)]
            seen = list(pool.map(lambda row: _seen(source, row, ways[0].backbone), rows))
            for way in ways if start // step % 2 == 0 else ways[::-1]:
                way.run(pool, rows, seen)
            _check(ways[0])
            for way in ways:
                way.compare(ways[0])
            if time.perf_counter() - began > seconds:
                break
    return tuple(way.trial(threads, ways[0]) for way in ways)


def _check(first: "_Way") -> None:
    if first.fault:
        raise InputError(first.fault)


def _seen(source: PictureSource, row: Row, backbone: Backbone) -> Seen:
    seen = source.see(row, backbone.views, backbone.spec.preprocess)
    return source.see_in_sandbox(seen) if isinstance(seen, Jpeg) else seen


Found = dict[str, tuple[Int64s, Float64s]]
"""By layer: rising keys (n,) of its vectors, and the vectors (n, D)."""


class _Way:
    """One way to run passes, and what came of it so far."""

    def __init__(self, spec: ExtractionSpec, weights: Path, device: str) -> None:
        self.spec, self.fault = spec, ""
        try:
            self.backbone = Backbone(spec, weights, device)
        except InputError as error:
            self.fault = str(error)
        self._warm = False
        self._seconds, self._slots, self._pictures = 0.0, 0, 0
        self._found: Found = {}
        self._cosines: dict[str, list[Float64s]] = {layer.name: [] for layer in spec.layers}
        self._unmatched = dict.fromkeys(self._cosines, 0)

    def run(self, pool: ThreadPoolExecutor, rows: Sequence[Row], seen: Sequence[Seen]) -> None:
        """Run pictures through the network, after a warm-up on the first batch of all."""
        if self.fault:
            return
        batches = plan_batches([(row["height"], row["width"]) for row in rows], self.spec)
        try:
            if not self._warm:
                pool.submit(self._pass, batches[0], seen).result()
                self._warm = True
            passes = list(pool.map(lambda batch: self._pass(batch, seen), batches))
        except (LamellaError, RuntimeError, ValueError) as error:  # as a program of one batch size
            self.fault, self._found = one_line(error, 300), {}
            return
        self._seconds += sum(took for took, _ in passes)
        self._slots += len(batches) * self.spec.batch_size
        self._pictures += len(rows)
        self._found = _joined([found for _, found in passes])

    def _pass(self, batch: Batch, seen: Sequence[Seen]) -> tuple[float, Found]:
        spec, backbone = self.spec, self.backbone
        filled = [batch.rows[slot % len(batch.rows)] for slot in range(spec.batch_size)]
        inputs = {}
        for at, view in enumerate(backbone.views):
            shape = view_shape(*batch.shape, view, spec.preprocess)
            pixels = np.stack([seen[row][at] for row in filled])
            assert pixels.shape == (spec.batch_size, *shape, 3)
            inputs[view] = torch.from_numpy(pixels)
        ids = np.array(batch.rows, np.int64)
        kept = torch.arange(spec.batch_size) < len(ids)
        began = time.perf_counter()
        vectors, descriptors = ask(backbone, inputs, kept, len(ids), {}).results(ids)
        took = time.perf_counter() - began
        found = {name: (ids << 32, each.astype(np.float64)) for name, each in vectors.items()}
        for name, each in descriptors.items():
            places = each.y.astype(np.int64) << 16 | each.x.astype(np.int64)
            found[name] = (each.image_ids << 32 | places, each.vectors.astype(np.float64))
        return took, found

    def compare(self, first: "_Way") -> None:
        """Compare the pictures that were run last with those of the first way."""
        for name, (keys, vectors) in self._found.items():
            others, right = first._found[name]
            both, mine, theirs = np.intersect1d(keys, others, return_indices=True)
            self._unmatched[name] += len(keys) + len(others) - 2 * len(both)
            self._cosines[name].append(_cosines(vectors[mine], right[theirs]))
        if self is not first:
            self._found = {}

    def trial(self, threads: int, first: "_Way") -> PassTrial:
        """Return what came of it."""
        on_cpu = self.fault or self.backbone.device.type == "cpu"
        by = this_cpu().multiplies(self.spec.precision) if on_cpu else ""
        trial = PassTrial(self.spec.precision, self.spec.batch_size, by, fault=self.fault)
        if self.fault:
            return trial
        rate = self._rate(threads)
        return replace(
            trial,
            pictures=self._pictures,
            pictures_per_second=rate,
            ratio=rate / first._rate(threads),
            layers=dict(self._moved()),
        )

    def _rate(self, threads: int) -> float:
        return threads * self._slots / self._seconds

    def _moved(self) -> Iterator[tuple[str, Moved]]:
        for name, each in self._cosines.items():
            cosines = np.concatenate(each)
            if len(cosines) == 0:
                cosines = np.ones(1)
            mean, least = float(cosines.mean()), float(cosines.min())
            yield name, Moved(sum(map(len, each)), self._unmatched[name], mean, least)


def _joined(parts: Sequence[Found]) -> Found:
    found: Found = {}
    for name in parts[0]:
        keys, vectors = (np.concatenate([part[name][at] for part in parts]) for at in (0, 1))
        order = np.argsort(keys)
        found[name] = keys[order], vectors[order]
    return found


def _cosines(one: Float64s, other: Float64s) -> Float64s:
    """Return the cosines of rows (n, D) with rows (n, D); of two rows of zeros it is 1."""
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    sums: Float64s = np.einsum("nd,nd->n", one, other)
    return np.where(lengths > 0, sums / np.where(lengths > 0, lengths, 1), 1.0)
