"""Measure extraction on this machine: each step alone, the whole, and what threads wait for."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lamella.pipeline.bench.extract_steps import STEPS_ON_GPU, Pictures, opened_sinks, seconds_alone
from lamella.pipeline.bench.wait_times import DECODE_ON_GPU, Cause, Watch
from lamella.pipeline.corpus.refused import Refused
from lamella.pipeline.extract.activations import Row
from lamella.pipeline.extract.backbone import Backbone
from lamella.pipeline.extract.background_writer import Beside
from lamella.pipeline.extract.jpegs import Jpeg
from lamella.pipeline.extract.work import PictureSource, Seen, forward_pictures, threads_for
from lamella.pipeline.run.drive import OnProgress, Progress, quiet
from lamella.schemas.extraction import ExtractionSpec, PreprocessSpec, View

ROUNDS = 3


@dataclass(frozen=True)
class Step:
    """One step of extraction by itself.

    Attributes:
        seconds: of one thread for a picture, while all threads do the same step.
        pictures_per_second: of all threads of the step; one thread writes, and one drives a GPU.
    """

    name: str
    on_gpu: bool
    threads: int
    seconds: float
    pictures_per_second: float


@dataclass(frozen=True)
class ExtractionTrial:
    """Measurements of extraction. Rates are medians of the rounds, in pictures/s.

    Attributes:
        ceiling: an upper bound of the whole. Steps on cores share them, so their times add up; a
            GPU and the one writer work meanwhile, so there the slowest counts.
        pipeline: from files to Parquet files, as in a task of the extract stage.
        of_ceiling: the share of the ceiling, median of each round's own.
        busy_cores: how many cores this process and its children used on average.
        waiting: by cause, the share of the threads' time; see `wait_times.Cause`.
        writing: the share of the time in which writing held up the next batch.
    """

    network: str
    layers: tuple[str, ...]
    device: str
    batch_size: int
    pictures: int
    threads: int
    rounds: int
    steps: tuple[Step, ...]
    ceiling: float
    pipeline: float
    of_ceiling: float
    busy_cores: float
    waiting: dict[Cause, float]
    writing: float


class WatchedBackbone(Backbone):
    """A network that tells a watch how long threads wait for passes."""

    watch: Watch | None = None

    def forward(self, pixels: Any, view: View) -> Mapping[str, Tensor]:
        if self.watch is None:
            return super().forward(pixels, view)
        with self.watch.waiting_for("network"):
            return super().forward(pixels, view)


class WatchedSource(PictureSource):
    """A source that tells a watch how long threads wait for pictures."""

    watch: Watch | None = None

    def see(self, row: Row, views: Iterable[View], spec: PreprocessSpec) -> Seen | Jpeg:
        if self.watch is None:
            return super().see(row, views, spec)
        with self.watch.waiting_for("picture"):
            return super().see(row, views, spec)


def device_here() -> str:
    """Return the device that networks run on here: a GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def try_extraction(
    folder: Path,
    pictures: Pictures,
    spec: ExtractionSpec,
    weights: Path,
    *,
    threads: int,
    device: str | None = None,
    rounds: int = ROUNDS,
    on_progress: OnProgress = quiet,
) -> ExtractionTrial:
    """Measure the steps of extraction and the whole, in turn, `rounds` times.

    Args:
        folder: for temporary activations; the names of layers must be free in it.
        threads: for every step; for the whole as `threads_for` says.
        device: `cpu` or `cuda`; a GPU by default where there is one.

    Raises:
        InputError: the weights do not fit.
        Refused: a picture changed meanwhile.
        ValueError: a number is out of range.
    """
    if threads < 1 or rounds < 1:
        raise ValueError(f"threads and rounds are at least 1; got {threads} and {rounds}")
    device = device or device_here()
    backbone = WatchedBackbone(spec, weights, device)
    source = WatchedSource(pictures.root, pictures.limits, pictures.kind)
    count = len(pictures.rows)

    def stand(done: int) -> None:
        on_progress(Progress("extraction", done, rounds, done * count, rounds * count))

    stand(0)
    # A warm-up: starts decoding processes, and does what libraries do on first use.
    warm = replace(pictures, rows=pictures.rows[: 4 * threads])
    _whole(backbone, source, warm, threads, folder)
    taken: list[dict[str, float]] = []
    ends: list[_Whole] = []
    for number in range(rounds):
        taken.append(seconds_alone(backbone, source, pictures, threads, folder))
        ends.append(_whole(backbone, source, pictures, threads, folder))
        stand(number + 1)
    gpu = device != "cpu"
    medians = {name: median(each[name] for each in taken) / count for name in taken[0]}
    rates = [count / each.seconds for each in ends]
    ceilings = [
        ceiling_of(_steps({name: each[name] / count for name in each}, threads, gpu), threads)
        for each in taken
    ]
    steps = _steps(medians, threads, gpu)
    return ExtractionTrial(
        network=spec.network,
        layers=tuple(layer.name for layer in spec.layers),
        device=torch.cuda.get_device_name() if gpu else "cpu",
        batch_size=spec.batch_size,
        pictures=count,
        threads=threads,
        rounds=rounds,
        steps=steps,
        ceiling=median(ceilings),
        pipeline=median(rates),
        of_ceiling=median(rate / most for rate, most in zip(rates, ceilings, strict=True)),
        busy_cores=median(each.busy_cores for each in ends),
        waiting={cause: median(each.waiting[cause] for each in ends) for cause in ends[0].waiting},
        writing=median(each.writing for each in ends),
    )


def _steps(seconds: Mapping[str, float], threads: int, gpu: bool) -> tuple[Step, ...]:
    steps: list[Step] = []
    for name, each in seconds.items():
        on_gpu = gpu and name in STEPS_ON_GPU
        at_once = 1 if on_gpu or name == "write" else threads
        steps.append(Step(name, on_gpu, at_once, each, at_once / each))
    return tuple(steps)


def ceiling_of(steps: Sequence[Step], cores: int) -> float:
    """Return an upper bound in pictures/s of steps that share cores, a GPU, or one writer.

    A GPU decodes beside its passes, at best in dedicated hardware.
    """
    on_cores = sum(step.seconds for step in steps if not step.on_gpu) / cores
    passes = (step for step in steps if step.on_gpu and step.name != DECODE_ON_GPU)
    on_gpu = sum(step.seconds / step.threads for step in passes)
    return 1 / max(on_cores, on_gpu, *(step.seconds / step.threads for step in steps))


@dataclass(frozen=True)
class _Whole:
    seconds: float
    busy_cores: float
    waiting: dict[Cause, float]
    writing: float


def _whole(
    backbone: WatchedBackbone,
    source: WatchedSource,
    pictures: Pictures,
    threads: int,
    folder: Path,
) -> _Whole:
    """Run the pipeline as the extract stage does."""
    at_work = threads_for(threads, backbone)
    source.watch = watch = Watch()
    if backbone.device.type == "cpu":  # elsewhere this only queues a pass
        backbone.watch = watch
    writing = 0.0
    beside, ids = Beside(), np.arange(len(pictures.rows))
    with opened_sinks(backbone.spec, folder, beside.do) as sinks, beside:
        for batch in forward_pictures(backbone, source, pictures.rows, ids, threads=at_work):
            if batch.refusals:
                raise Refused(batch.refusals[0].reason, batch.refusals[0].name)
            began = time.perf_counter()
            for sink in sinks:
                sink.add(batch)
            writing += time.perf_counter() - began
        began = time.perf_counter()
    writing += time.perf_counter() - began
    seconds, busy_cores, waiting = watch.end(at_work)
    backbone.watch = source.watch = None
    return _Whole(seconds, busy_cores, waiting, writing / seconds)
