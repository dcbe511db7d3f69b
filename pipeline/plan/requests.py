"""Requests to an object store, counted from what each stage reads and writes.

At most: a worker that finds a file in its local copies asks for its size alone. `get` has HEAD
requests too; a file of more than 32 MB is put in parts, a part a request.
"""

import math
from collections.abc import Iterable, Mapping

from lamella.pipeline.plan.sizes import sum_tasks
from lamella.pipeline.plan.vocabulary_cost import WordsProbe
from lamella.pipeline.vocabulary.ivf import count_cells
from lamella.pipeline.vocabulary.rounds import LINK_CELLS, RANGE_WORDS

OPENED = 2
"""Requests to open a file that a record names: its size, and the file."""

GLOBAL_FILES, LOCAL_FILES = 3, 2
"""Files of a segment, by kind of layer."""

LISTED_AT_ONCE = 1_000
"""Objects of a page of a listing."""

PART_BYTES = 16 * 1024**2

Requests = dict[str, int]


def source_requests(entries: int, in_s3: bool, in_containers: bool) -> dict[str, Requests]:
    """Return the requests for pictures: each is read by the corpus stage and by extraction."""
    if not in_s3:
        return {}
    listed = 0 if in_containers else math.ceil(entries / LISTED_AT_ONCE)
    return {
        "listing": {"list": listed},
        "corpus, pictures": {"get": entries},
        "extract, pictures": {"get": entries},
    }


def store_requests(
    globals_: Iterable[str],
    words: Mapping[str, WordsProbe],
    pictures: float,
    shards: int,
    segments: int,
    layer_bytes: Mapping[str, float],
) -> dict[str, Requests]:
    """Return the requests of each stage to the store.

    Args:
        globals_: the global layers.
        words: of each local layer.
        layer_bytes: of a shard's activations, by layer.
    """
    parts = {name: _parts(size) for name, size in layer_bytes.items()}
    locals_, globals_ = list(words), list(globals_)
    found = {
        # A done record is asked for before a task and created after it.
        "corpus": {"get": shards + 1, "put": 2 * shards + 1},
        "extract": {
            "get": shards * (1 + OPENED),
            "put": shards * (sum(parts.values()) + 2 + 1),
        },
    }
    for name in locals_:
        found[f"vocabulary {name}"] = _training(words[name], pictures, shards, parts[name])
    read = sum(1 + parts[name] for name in locals_)
    found["encode"] = {"get": shards * (1 + OPENED + read), "put": shards * (len(locals_) + 1)}
    read = OPENED + OPENED * len(locals_) + sum(1 + parts[name] for name in globals_)
    files = 1 + GLOBAL_FILES * len(globals_) + LOCAL_FILES * len(locals_)
    found["index"] = {"get": segments + shards * read, "put": segments * (files + 1)}
    found["publish"] = {
        "get": shards * OPENED + segments * OPENED * len(locals_) + 8,
        "put": len(locals_) + 3,
    }
    return found


def _training(found: WordsProbe, pictures: float, shards: int, parts: int) -> Requests:
    if found.rounds == 0:
        return {"get": 1 + OPENED, "put": 6}
    tasks = min(shards, sum_tasks(found.words, found.rows.mean * pictures))
    ranges = math.ceil(found.words / RANGE_WORDS)
    cells = found.assigner == "cells"
    links = math.ceil(count_cells(found.words) / LINK_CELLS) if cells else 0
    steps = tasks + ranges + links + 1
    sampled = 3 * (2 if found.projected else 1)
    get = shards * (1 + 1 + parts) + (sampled - 3) * shards + 2 * shards * OPENED
    put = shards * sampled
    # A round: its links, then sums over all samples, then ranges that read all sums, then its end.
    opened = links * 2 + tasks * (2 + links) + shards + tasks * ranges + ranges * 2 + tasks
    get += found.rounds * (steps + OPENED * opened + 2 * steps)
    written = links * 2 + tasks * (ranges + 2 + cells) + ranges * 2 + 4 + 2 * cells
    put += found.rounds * written + 8
    return {"get": get, "put": put, "delete": found.rounds * (written - tasks * cells)}


def _parts(size_bytes: float) -> int:
    """Return the requests that put a file of that size."""
    if size_bytes <= 2 * PART_BYTES:
        return 1
    return math.ceil(size_bytes / PART_BYTES) + 2
