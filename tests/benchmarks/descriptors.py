"""Real descriptors to measure on: every photograph of the shared data through a network, once.

They are extracted on first use (EfficientNet-Lite0 half a minute, VGG-16 12 minutes on 2 cores) and
kept under build/bench/descriptors.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.corpus.stage import build_corpus, decode_limits
from lamella.pipeline.extract.extraction import Extraction
from lamella.pipeline.extract.stage import extract_corpus
from lamella.pipeline.jobs.resolve import resolve_extraction
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.store.commit import open_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.store.tables import binary_vectors_of, column, read_parquet
from lamella.pipeline.vocabulary.sample import Sample
from lamella.schemas.job import JobConfig

SHARED = Path(os.environ.get("LAMELLA_SHARED", "../shared"))
KEPT = Path("build/bench/descriptors")
FOLDERS = (
    "ukbench",
    "oxford5k",
    "holidays",
    "kth_buildings",
    "smvs_dvd_covers",
    "grocery_packages",
)
VGG = {
    "network": {
        "name": "vgg16",
        "weights": str(SHARED / "weights/vgg16_conv_caffe_bgr_fp16.safetensors"),
        "layers": ("c5_1", "c4_1"),
        "preprocess": {
            "channel_order": "bgr",
            "mean": (103.939, 116.779, 123.68),
            "std": (1.0, 1.0, 1.0),
        },
    }
}
P15 = {"network": {"layers": ({"name": "p15", "node": "blocks.15.project", "kind": "local"},)}}
SETTINGS: dict[str, Mapping[str, object]] = {"b11": {}, "c4_1": VGG, "c5_1": VGG, "p15": P15}
SHARD_IMAGES = 100


def real_descriptors(layer: str) -> Sample:
    """Return all descriptors of a layer, memory-mapped; skips where there are no photographs."""
    if not all((KEPT / f"{layer}_{part}.npy").exists() for part in "vip"):
        if not (SHARED / "data").exists():
            pytest.skip("real descriptors need ../shared/data")
        _extract(SETTINGS[layer])
    vectors, image_ids, positions = (
        np.load(KEPT / f"{layer}_{part}.npy", mmap_mode="r") for part in "vip"
    )
    return Sample(image_ids, positions, vectors)


def split(sample: Sample, trained: int, held: int) -> tuple[Sample, NDArray[np.float32]]:
    """Return some rows to train on, as a sample in memory, and others to measure on, as float32."""
    order = np.random.default_rng(0).permutation(len(sample))
    rows, others = np.sort(order[:trained]), np.sort(order[trained : trained + held])
    return sample.rows(rows), sample.vectors[others].astype(np.float32)


def copy_pictures(folders: Sequence[str], into: Path) -> Path:
    """Return a folder with copies of the photographs in these folders of the shared data."""
    for folder in folders:
        for path in (SHARED / "data" / folder).rglob("*"):
            copy = into / folder / path.relative_to(SHARED / "data" / folder)
            if path.is_file() and not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
    return into


def _extract(settings: Mapping[str, object]) -> None:
    pictures = copy_pictures(FOLDERS, KEPT / "pictures")
    job = JobConfig.model_validate(settings)
    spec, weights = resolve_extraction(job)
    store, runner, limits = (
        open_store(str(KEPT / "store"), create=True),
        SerialRunner(),
        decode_limits(job),
    )
    listing = list_source(str(pictures))
    manifest = build_corpus(
        store, runner, listing, name="all", shard_size=SHARD_IMAGES, limits=limits
    )
    threads = len(os.sched_getaffinity(0))
    extraction = extract_corpus(
        store,
        runner,
        manifest,
        spec,
        lambda: (manifest.root, weights),
        limits=limits,
        threads=threads,
    )
    for each in spec.layers:
        if each.kind == "local":
            _keep(store, extraction, each.name)


def _keep(store: Store, extraction: Extraction, layer: str) -> None:
    tables = [
        read_parquet(open_committed(store, record.files[layer])) for record in extraction.records
    ]
    parts = {
        "v": [binary_vectors_of(table, "vector", np.float16) for table in tables],
        "i": [column(table, "image_id") for table in tables],
        "p": [
            column(table, "y").astype(np.int64) << 16 | column(table, "x").astype(np.int64)
            for table in tables
        ],
    }
    for part, arrays in parts.items():
        np.save(KEPT / f"{layer}_{part}.npy", np.concatenate(arrays))
