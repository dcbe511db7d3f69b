"""An index of vectors alone, with proposers: quick to make, in several segments."""

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import lamella as api
from lamella.pipeline.arrays import Bools, Float32s, Int64s
from lamella.pipeline.index.promotions import current_snapshot
from lamella.pipeline.proposers.opened import Asked, Proposer
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


class Found(NamedTuple):
    """The nearest images of each query: rows (Q, n), -1 for none, and falling scores (Q, n)."""

    rows: Int64s
    scores: Float32s


def nearest(
    proposer: Proposer, units: Float32s, count: int, reach: int, allowed: Bools | None = None
) -> Found:
    """Return the nearest of the images that a proposer looks at."""
    return nearest_of(proposer, proposer.ask(units, reach), count, allowed)


def nearest_of(proposer: Proposer, asked: Asked, count: int, allowed: Bools | None = None) -> Found:
    """Return the same of queries that were asked before."""
    looked = proposer.look(asked, allowed)
    rows = np.full((len(asked.turned), count), -1, np.int64)
    scores = np.full(rows.shape, -np.inf, np.float32)
    for query, (first, stop) in enumerate(pairwise(looked.offsets.tolist())):
        order = np.lexsort((looked.rows[first:stop], -looked.scores[first:stop]))[:count]
        rows[query, : len(order)] = looked.rows[first:stop][order]
        scores[query, : len(order)] = looked.scores[first:stop][order]
    return Found(rows, scores)
