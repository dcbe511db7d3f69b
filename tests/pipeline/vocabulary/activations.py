"""Activations of one layer made of given descriptors: a training without a network."""

from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.extract.activations import BatchActivations
from lamella.pipeline.extract.descriptors import Descriptors
from lamella.pipeline.extract.extraction import Extraction
from lamella.pipeline.extract.sink import LayerSink
from lamella.pipeline.jobs.resolve import resolve_extraction
from lamella.pipeline.store.commit import attempt
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store
from lamella.schemas.files import DoneRecord
from lamella.schemas.job import JobConfig
from tests.builders import finish_whole

INPUTS = "0" * 64
FOLDER = "activations/given-000000000000"
IMAGE_ROWS = 20
LAYER = "b11"


def given_activations(
    folder: Path, vectors: NDArray[np.float32], *, shard_images: int = 10
) -> tuple[Store, Extraction]:
    """Return a store whose layer b11 has these descriptors (n, D), 20 of each picture."""
    store = open_store(str(folder), create=True)
    spec, _ = resolve_extraction(JobConfig(profile="paper"))
    layer = spec.layer(LAYER)
    records: list[DoneRecord] = []
    rows = np.arange(len(vectors))
    for number, start in enumerate(range(0, len(vectors), shard_images * IMAGE_ROWS)):
        mine = rows[start : start + shard_images * IMAGE_ROWS]
        place = (mine % IMAGE_ROWS).astype(np.uint16)
        found = Descriptors(mine // IMAGE_ROWS, place, place, vectors[mine].astype(np.float16))
        with attempt(store, FOLDER, "extract", f"{number:05d}", INPUTS) as work:
            path = work.scratch / "layer.parquet"
            with closing(LayerSink(layer, path)) as sink:
                sink.add(BatchActivations(found.image_ids, {}, {LAYER: found}, ()))
                sink.finish()
            work.add(LAYER, f"{FOLDER}/{LAYER}", "parquet", path, len(mine))
            images = len(np.unique(found.image_ids))
            records.append(finish_whole(work, indexed=images, images=images))
    keys = tuple(record.key for record in records)
    return store, Extraction(INPUTS, INPUTS, spec, (), tuple(records), keys)
