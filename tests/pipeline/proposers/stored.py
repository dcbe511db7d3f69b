"""An index of vectors alone, with proposers: quick to make, in several segments."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import lamella as api
from lamella.pipeline.index.promotions import current_snapshot
from lamella.pipeline.store.storage import open_store
from lamella.schemas.snapshot import IndexSnapshot

COUNT, DIMENSIONS = 300, 16
VECTORS = np.random.default_rng(7).standard_normal((COUNT, DIMENSIONS)).astype(np.float32)
CUTS = {"corpus.shard_images": 64, "index.segment_images": 128, "engine.kind": "serial"}


def write_vectors(folder: Path, count: int = COUNT, dimensions: int = DIMENSIONS) -> Path:
    """Write the first vectors to a file, all or part of each."""
    rows = VECTORS[:count, :dimensions]
    folder.mkdir(parents=True, exist_ok=True)
    values = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), dimensions)
    path = folder / "clip.parquet"
    names = [f"{number:03d}" for number in range(count)]
    pq.write_table(pa.table({"name": names, "vector": values}), path)
    return path


def index(store: Path, file: Path, proposer: str, **more: Path) -> IndexSnapshot:
    """Index vectors in this process; return the current snapshot.

    Args:
        file: of layer clip.
        more: files of other layers.
    """
    settings = CUTS | {"index.proposer": proposer}
    api.index(None, into=store, vectors={"clip": file} | more, settings=settings).close()
    found = current_snapshot(open_store(str(store)))
    assert found is not None
    return found
