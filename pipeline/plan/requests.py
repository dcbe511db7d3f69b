"""Estimate the requests to an object store from what each stage reads and writes.

These are upper bounds: for a file in its local cache, a worker only asks for the size. `get`
includes HEAD requests. A file of more than 32 MiB is put in parts, with a request for each.
"""

import math
from collections.abc import Iterable, Mapping

from lamella.pipeline.plan.sizes import sum_tasks
from lamella.pipeline.plan.vocabulary_cost import WordsProbe
from lamella.pipeline.vocabulary.ivf import count_cells
from lamella.pipeline.vocabulary.rounds import LINK_CELLS, RANGE_WORDS

OPENED = 2
"""Requests to open a file that a record names: one for its size, one for its bytes."""

GLOBAL_FILES, LOCAL_FILES = 4, 4
"""Files of a segment for a global and for a local layer."""

LISTED_AT_ONCE = 1_000
"""Objects in a page of a listing."""

PART_BYTES = 16 * 1024**2

Requests = dict[str, int]


def source_requests(entries: int, in_s3: bool, in_containers: bool) -> dict[str, Requests]:
    """Return the requests for pictures: corpus stage and extraction read each once."""
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
    *,
    proposes: bool = False,
) -> dict[str, Requests]:
    """Return the requests of each stage to the store.

    Args:
        globals_: names of the global layers.
        words: probe of the vocabulary, by local layer.
        pictures: pictures that will be indexed.
        layer_bytes: bytes of a shard's activations, by layer.
        proposes: whether segments get proposers.
    """
    parts = {name: _parts(size) for name, size in layer_bytes.items()}
    locals_, globals_ = list(words), list(globals_)
    found = {
        # A done record is read before a task and created after it.
        "corpus": {"get": shards + 1, "put": 3 * shards + 1},
        "extract": {
            "get": shards * (1 + OPENED),
            "put": shards * (sum(parts.values()) + 2 + 1),
        },
    }
    for name in locals_:
        found[f"vocabulary {name}"] = _training(words[name], pictures, shards, parts[name])
    read = sum(1 + parts[name] for name in locals_)
    found["encode"] = {"get": shards * (1 + OPENED + read), "put": shards * (len(locals_) + 1)}
    # The images of a shard are in its image table and in the record of extraction.
    read = 2 * OPENED + OPENED * len(locals_) + sum(1 + parts[name] for name in globals_)
    files = 1 + GLOBAL_FILES * len(globals_) + LOCAL_FILES * len(locals_)
    # Besides the done record a segment has a manifest, which is looked for before it is created.
    found["index"] = {"get": 2 * segments + shards * read, "put": segments * (files + 2)}
    if proposes:
        # A frame reads the vectors of all segments twice; then each segment reads its own.
        vectors = OPENED * segments * len(globals_)
        found["propose"] = {
            "get": 3 * vectors + segments * (1 + 2 * OPENED * len(globals_)),
            "put": segments * (1 + len(globals_)) + 3 * len(globals_),
        }
    found["publish"] = {
        "get": shards * OPENED + segments * OPENED * (2 * len(locals_) + len(globals_)) + 8,
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
    # A round links words, sums over all samples, merges ranges of all sums, and updates.
    opened = links * 2 + tasks * (2 + links) + shards + tasks * ranges + ranges * 2 + tasks
    get += found.rounds * (steps + OPENED * opened + 2 * steps)
    written = links * 2 + tasks * (ranges + 2 + cells) + ranges * 2 + 4 + 2 * cells
    put += found.rounds * written + 8
    return {"get": get, "put": put, "delete": found.rounds * (written - tasks * cells)}


def _parts(size_bytes: float) -> int:
    """Return the number of requests to put a file of this size."""
    if size_bytes <= 2 * PART_BYTES:
        return 1
    return math.ceil(size_bytes / PART_BYTES) + 2
