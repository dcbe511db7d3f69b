"""What an index of vectors alone costs: reading and checking a file, indexing, answering.

`VECTORS_ROWS` (1,000,000) vectors of `VECTORS_NUMBERS` (512) around one of a thousand centres each,
in Parquet of float32. The peer of answers is one product of 64 queries with all vectors in float32,
and the best hundred of each: no norms, no certificate, all vectors in memory.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.benchmarks.record import write_json

ROWS = int(os.environ.get("VECTORS_ROWS", "1000000"))
NUMBERS = int(os.environ.get("VECTORS_NUMBERS", "512"))
A_GROUP, CENTRES, QUERIES, K = 50_000, 1_000, 64, 100

MEASURED = """
import json, re, sys, time
began = time.perf_counter()
{work}
status = open("/proc/self/status").read()
own = int(re.search(r"RssAnon:\\s+(\\d+) kB", status)[1]) * 1024
print(json.dumps(dict(seconds=time.perf_counter() - began, own_bytes=own, **found)))
"""
OPEN = """
from lamella.pipeline.corpus.given_vectors import open_vectors
given = open_vectors(sys.argv[1])
found = {"rows": len(given)}
"""
INDEX = """
import lamella
opened = lamella.index(into=sys.argv[2], vectors={"clip": sys.argv[1]})
found = {"rows": len(opened)}
"""
ASK = """
import numpy as np, lamella
opened, queries = lamella.open(sys.argv[2]), np.load(sys.argv[1])
opened.query(vectors={"clip": queries[:1]}, k=100)
times = []
for _ in range(3):
    began_one = time.perf_counter()
    answer = opened.query(vectors={"clip": queries}, k=100)
    times.append(time.perf_counter() - began_one)
found = {"batch_seconds": min(times), "certified": int(answer.certified.sum())}
"""


def measured(work: str, *arguments: Path) -> dict[str, float]:
    """Return what a fresh process takes and finds."""
    command = [sys.executable, "-c", MEASURED.format(work=work), *map(str, arguments)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return found


def write_vectors(path: Path) -> None:
    """Write the vectors, a row group at a time."""
    centres = np.random.default_rng(0).standard_normal((CENTRES, NUMBERS)).astype(np.float32)
    kind = pa.list_(pa.float32(), NUMBERS)
    schema = pa.schema([("name", pa.string()), ("vector", kind)])
    with pq.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for start in range(0, ROWS, A_GROUP):
            count = min(A_GROUP, ROWS - start)
            random = np.random.default_rng(start + 1)
            found = centres[random.integers(0, CENTRES, count)]
            found = found + random.standard_normal((count, NUMBERS), dtype=np.float32)
            names = [
                f"pictures/{row // 1000:06d}/{row:09d}.jpg" for row in range(start, start + count)
            ]
            column = pa.FixedSizeListArray.from_arrays(pa.array(found.reshape(-1)), type=kind)
            writer.write_table(pa.table([pa.array(names), column], schema=schema))


def product_seconds(path: Path, queries: np.ndarray) -> float:
    """Return how long the peer takes for a batch."""
    columns = pq.read_table(path, columns=["vector"]).column(0)
    stored = np.concatenate([chunk.flatten().to_numpy() for chunk in columns.chunks])
    stored = stored.reshape(-1, NUMBERS)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        np.argpartition(-(queries @ stored.T), K, axis=1)
        times.append(time.perf_counter() - began)
    return min(times)


@pytest.mark.bench
def test_an_index_of_vectors_alone(tmp_path: Path) -> None:
    path, store = tmp_path / "clip.parquet", tmp_path / "store"
    write_vectors(path)
    random = np.random.default_rng(9)
    sampled = pq.ParquetFile(path).read_row_group(0, columns=["vector"]).column(0).chunk(0)
    first = sampled.flatten().to_numpy().reshape(-1, NUMBERS)[: 50 * QUERIES : 50]
    queries = first + 0.5 * random.standard_normal(first.shape, dtype=np.float32)
    np.save(tmp_path / "queries.npy", queries)
    opened, indexed = measured(OPEN, path), measured(INDEX, path, store)
    again = measured(INDEX, path, store)
    asked = measured(ASK, tmp_path / "queries.npy", store)
    stored = sum(each.stat().st_size for each in store.rglob("*") if each.is_file())
    load = re.split(r"\s", Path("/proc/loadavg").read_text())[0]
    result = {
        "rows": ROWS,
        "numbers": NUMBERS,
        "file_bytes": path.stat().st_size,
        "open": opened,
        "index": indexed,
        "index_again": again,
        "stored_bytes": stored,
        "ask": asked,
        "queries": QUERIES,
        "product_seconds": product_seconds(path, queries),
        "load": float(load),
    }
    write_json("given_vectors.json", result)
    print(json.dumps(result, indent=2))
    assert opened["rows"] == indexed["rows"] == ROWS
    assert asked["certified"] == QUERIES
