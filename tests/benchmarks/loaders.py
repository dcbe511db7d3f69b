"""Extraction as one would write it with PyTorch's DataLoader, tuned by hand."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lamella.pipeline.bench.extract_steps import opened_sinks
from lamella.pipeline.extract.activations import BatchActivations
from lamella.pipeline.extract.backbone import Backbone
from lamella.pipeline.extract.descriptors import Descriptors, global_vectors, local_descriptors
from lamella.pipeline.extract.preprocess import see, view_shape
from lamella.schemas.extraction import ExtractionSpec, View


@dataclass(frozen=True)
class Way:
    """How a loop is tuned: pictures a pass, processes that load, threads of torch."""

    batch: int
    workers: int
    threads: int

    def __str__(self) -> str:
        return f"batch {self.batch}, num_workers {self.workers}, {self.threads} threads"


class Pictures(Dataset[list[Tensor]]):
    """Opened by Pillow and resized by the recipe of ours, so that both see the same pixels."""

    def __init__(self, paths: Sequence[Path], spec: ExtractionSpec, views: Sequence[View]) -> None:
        self._paths, self._spec, self._views = paths, spec, views

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, number: int) -> list[Tensor]:
        with Image.open(self._paths[number]) as image:
            pixels = np.asarray(image.convert("RGB"))
        seen = (see(pixels, view, self._spec.preprocess) for view in self._views)
        return [torch.from_numpy(each.copy()) for each in seen]


class Loop:
    """A DataLoader over files whose processes live on, and the network on what they load."""

    def __init__(self, paths: Sequence[Path], backbone: Backbone, way: Way) -> None:
        self._backbone, self._way = backbone, way
        self._all = _batches(paths, backbone, way.batch)
        self._now: list[list[int]] = []
        self._loader = DataLoader(
            Pictures(paths, backbone.spec, backbone.views),
            batch_sampler=self._now,
            num_workers=way.workers,
            persistent_workers=way.workers > 0,
        )

    def run(self, folder: Path, pictures: int) -> int:
        """Extract about so many pictures, and return how many; activations are Parquet files."""
        # A plain list: the loader asks it anew at every turn.
        self._now[:] = self._all[: max(1, pictures // self._way.batch)]
        torch.set_num_threads(self._way.threads)
        done = 0
        with opened_sinks(self._backbone.spec, folder) as sinks:
            for numbers, seen in zip(self._now, self._loader, strict=True):
                image_ids = np.array(numbers, np.int64)
                vectors: dict[str, np.ndarray] = {}
                descriptors: dict[str, Descriptors] = {}
                for view, pixels in zip(self._backbone.views, seen, strict=True):
                    outputs = self._backbone.forward(pixels.numpy(), view)
                    for layer in self._backbone.spec.layers:
                        if layer.view == view and layer.kind == "global":
                            vectors[layer.name] = global_vectors(outputs[layer.node], layer)
                        elif layer.view == view:
                            found = local_descriptors(outputs[layer.node], image_ids)
                            descriptors[layer.name] = found
                batch = BatchActivations(image_ids, vectors, descriptors, ())
                for sink in sinks:
                    sink.add(batch)
                done += len(numbers)
        return done


def _batches(paths: Sequence[Path], backbone: Backbone, size: int) -> list[list[int]]:
    """Return batches of pictures that the network sees in one shape; the last may be smaller."""
    by_shape: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for number, path in enumerate(paths):
        with Image.open(path) as image:
            shapes = (
                view_shape(image.height, image.width, view, backbone.spec.preprocess)
                for view in backbone.views
            )
            by_shape.setdefault(tuple(shapes), []).append(number)
    return [
        numbers[start : start + size]
        for numbers in by_shape.values()
        for start in range(0, len(numbers), size)
    ]


CORES = len(os.sched_getaffinity(0))
PLAIN = Way(batch=1, workers=0, threads=CORES)
"""Picture after picture in one process, torch splitting each operation over the cores."""
USUAL = Way(batch=1, workers=CORES, threads=CORES)
"""Processes that load, and torch left as it comes."""
WAYS = [
    Way(batch, workers, threads)
    for batch in (1, 4)
    for workers in sorted({0, 1, max(1, CORES // 2), CORES})
    for threads in sorted({1, max(1, CORES // 2), CORES})
]
"""What a careful person tries; both of the above are among them."""
