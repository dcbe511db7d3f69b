"""A run of queries whose answers are known without a search."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lamella.pipeline.jobs.rankings import ranking_table
from lamella.pipeline.search.segment import Answer
from lamella.pipeline.store.commit import sha256_of
from lamella.pipeline.store.tables import write_parquet
from lamella.schemas.files import FileRef
from lamella.schemas.query import FusionSpec, LayerMap
from lamella.schemas.rankings import QueryRun, query_refusals_schema, rankings_schema

FUSION = FusionSpec(layers=(LayerMap(layer="high", t=0.5, p=0.5), LayerMap(layer="low")))


class Names:
    """Gives a name to every image id."""

    def names_of(self, ids: Any) -> Any:
        return pa.array([f"image {image_id}" for image_id in ids.tolist()])


def answered(ids: list[int], k: int, images: int) -> Any:
    """Return the table of queries that find images `id`, `id + 1`... as far as there are any."""
    found = np.array([[q + n if q + n < images else -1 for n in range(k)] for q in ids], np.int64)
    scores = np.where(found >= 0, 1 / (found + 3.0), -np.inf)
    similarities = np.stack([found + 0.25, found + 0.5], axis=2)
    answer = Answer(found, scores, similarities, np.array([q % 2 == 0 for q in ids]))
    names = pa.chunked_array([[f"query {query}"] for query in ids], pa.string())
    return ranking_table(np.array(ids, np.int64), names, answer, FUSION, Names())  # type: ignore[arg-type]


def stored(folder: Path, table: Any, name: str) -> FileRef:
    """Return a table as a file of the run."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = write_parquet(table, path)
    size, digest = path.stat().st_size, sha256_of(path)
    return FileRef(path=name, size_bytes=size, sha256=digest, rows=rows)


def ranked(tmp_path: Path, batches: Any = ([0, 1, 2], [], [3, 4, 5], [6, 7])) -> QueryRun:
    """Return the run of these queries of 9 images, in these batches, in a store at a path."""
    folder = "runs/mine/rankings"
    files = [
        stored(
            tmp_path,
            answered(ids, 12, 9) if ids else rankings_schema(["high", "low"]).empty_table(),
            f"{folder}/{number:05d}.{number:012x}.parquet",
        )
        for number, ids in enumerate(batches)
    ]
    queries = sum(map(len, batches))
    return QueryRun(
        run="mine",
        inputs="a" * 64,
        snapshot="b" * 64,
        asked="images",
        fusion=FUSION,
        weighting="tf",
        mode="exact",
        k=12,
        images=9,
        queries=queries,
        answered=queries,
        refused=0,
        certified=queries // 2,
        rankings=tuple(files),
        refusals=(),
    )


def refusing(tmp_path: Path, run: QueryRun, reasons: list[str]) -> QueryRun:
    """Return a run with refused query pictures besides."""
    rows = [
        {"query": 100 + n, "name": f"bad {n}.jpg", "reason": reason, "detail": ""}
        for n, reason in enumerate(reasons)
    ]
    table = pa.Table.from_pylist(rows, schema=query_refusals_schema())
    file = stored(tmp_path, table, "runs/mine/rankings/refusals/00000.000000000000.parquet")
    counts = {"queries": run.queries + len(rows), "refused": len(rows)}
    return run.model_copy(update=counts | {"refusals": (file,)})
