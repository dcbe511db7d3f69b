"""Search of residuals (selective match kernels), against a plain version in NumPy.

20,000 drawn pictures, words as `planted/scale.py` draws them, and a residual for each word: views
of one object lie near each other, all others at random. With the vectors of the same pictures in
the fusion, most residuals need not be read. `ASMK_PICTURES` takes another number.
"""

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float64s, Int64s
from lamella.pipeline.bench.search import FUSION
from lamella.pipeline.bench.segments import HIGH, LOW
from lamella.pipeline.compiled import numba
from lamella.pipeline.index.bags import BagsOfWords
from lamella.pipeline.index.residuals import Kind, Residuals
from lamella.pipeline.index.segment_files import members_of, segment_files
from lamella.pipeline.planted.scale import ScaleSpec, draw_pictures, draw_queries, groups_of
from lamella.pipeline.search.exact import search_exact, similarities
from lamella.pipeline.search.fuse import fuse
from lamella.pipeline.search.rank import best_of
from lamella.pipeline.search.segment import (
    QueryBatch,
    ResidualLayer,
    SegmentData,
    dense_layer,
    residual_layer,
)
from lamella.pipeline.search.topk import Effort
from lamella.schemas.query import FusionSpec, LayerMap
from tests.benchmarks.record import Measurement, write_record

PICTURES = int(os.environ.get("ASMK_PICTURES", "20000"))
SPEC = ScaleSpec(pictures=PICTURES)
DIMENSIONS, QUERIES, K, CHECKED, THREADS = 128, 64, 100, 4, 2
ALONE = FusionSpec(layers=(LayerMap(layer=LOW),))
OBJECTS = 4_096
"""Directions that residuals of one object and word share."""


def seconds_of(work: Callable[[], object], repeats: int) -> float:
    """Return the seconds of the fastest of some runs."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return min(taken)


def draw_residuals(bags: BagsOfWords, groups: Int64s, kind: Kind, seed: int) -> Residuals:
    """Return residuals of drawn pictures: of one group and word they have a cosine of about 1/2."""
    rng = np.random.default_rng(seed)
    shared = np.random.default_rng(0).standard_normal((OBJECTS, DIMENSIONS), np.float32)
    owners = np.repeat(groups, np.diff(bags.offsets))
    held = np.empty((len(bags.words), DIMENSIONS), np.float16)
    for start in range(0, len(held), 1 << 18):
        part = slice(start, start + (1 << 18))
        rows = rng.standard_normal((len(held[part]), DIMENSIONS), np.float32)
        object_of = (owners[part] * 7_919 + bags.words[part]) % OBJECTS
        rows += shared[object_of] * (owners[part] >= 0)[:, None]
        held[part] = rows / np.linalg.norm(rows, axis=1)[:, None]
    payload: NDArray[Any] = held if kind == "float16" else np.packbits(held >= 0, axis=1)
    return Residuals(bags, payload, DIMENSIONS)


class Plain:
    """What a user would write: a word's residuals times the query's, added where they belong."""

    def __init__(self, layer: ResidualLayer) -> None:
        self.layer = layer
        self.roots = np.sqrt(np.maximum(np.diff(layer.bags.offsets), 1))

    def scores(self, queries: Residuals) -> Float64s:
        """Return the similarity of every query with every picture, (Q, n)."""
        layer, offsets = self.layer, self.layer.postings.offsets
        out = np.zeros((len(queries), len(layer)))
        for query, line in enumerate(out):
            start, stop = queries.bags.offsets[query : query + 2]
            for entry in range(start, stop):
                word = queries.bags.words[entry]
                run = slice(offsets[word], offsets[word + 1])
                own, theirs = queries.payload[entry], layer.payload[run]
                if queries.kind == "bits":
                    apart = np.bitwise_count(theirs ^ own).sum(axis=1, dtype=np.int64)
                    found = 1.0 - 2.0 * apart / DIMENSIONS
                else:
                    found = theirs.astype(np.float32) @ own.astype(np.float32)
                line[layer.postings.rows[run]] += np.maximum(found, 0.0) ** 3
            line /= self.roots * np.sqrt(max(stop - start, 1))
        return out

    def search(self, queries: Residuals) -> Int64s:
        """Return the places of the K best of each query, in any order."""
        return np.argpartition(-self.scores(queries), K, axis=1)[:, :K]


def check_bits(segment: SegmentData, queries: QueryBatch, spec: FusionSpec) -> None:
    """Compare answers with scoring every picture."""
    every = similarities(segment, queries, [entry.layer for entry in spec.layers])
    query_of, rows = (each.reshape(-1) for each in np.indices(every.shape[1:]))
    values = every.reshape(len(every), -1)
    slow = best_of(query_of, segment.image_ids[rows], fuse(values, spec), values, QUERIES, K)
    fast = search_exact([segment], queries, spec, K)
    for name in ("image_ids", "scores", "similarities"):
        assert getattr(fast, name).tobytes() == getattr(slow, name).tobytes()


@pytest.mark.bench
def test_search_of_residuals(tmp_path: Path) -> None:
    numba.set_num_threads(min(THREADS, numba.config.NUMBA_NUM_THREADS))
    vectors, bags = draw_pictures(SPEC, 0, PICTURES)
    asked_vectors, asked_bags, asked_groups = draw_queries(SPEC, QUERIES)
    groups, high = groups_of(SPEC, 0, PICTURES), dense_layer(vectors)
    measured = []
    for kind in ("float16", "bits"):
        residuals = draw_residuals(bags, groups, kind, seed=1)
        layer = residual_layer(residuals, SPEC.words)
        segment = SegmentData(np.arange(PICTURES), {HIGH: high, LOW: layer})
        asked = draw_residuals(asked_bags, asked_groups, kind, seed=2)
        queries = QueryBatch({HIGH: asked_vectors, LOW: asked})
        plain = Plain(layer)
        theirs, ours = plain.search(asked), search_exact([segment], queries, ALONE, K).image_ids
        agree = [len(set(a) & set(b)) for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)]
        assert np.mean(agree) > 0.99 * K, "the peer must give nearly the same pictures"
        peer = QUERIES / seconds_of(partial(plain.search, asked), 2)
        size = 0
        for file in segment_files(
            members_of(np.arange(PICTURES)), {LOW: residuals}, {LOW: SPEC.words}
        ):
            if file.layer == LOW and not file.name.endswith("drawn"):
                file.write(tmp_path / "file")
                size += (tmp_path / "file").stat().st_size
        sizes = {"pictures": PICTURES, "queries": QUERIES, "k": K, "dimensions": DIMENSIONS}
        for name, spec in (("alone", ALONE), ("with vectors", FUSION)):
            check_bits(segment, queries, spec)
            effort = Effort()
            search_exact([segment], queries, spec, K, effort=effort)
            rate = QUERIES / seconds_of(partial(search_exact, [segment], queries, spec, K), 3)
            read = effort.payloads_read / effort.payloads
            print(
                f"\n{kind} {name}: {rate:.1f} queries/s, plain {peer:.1f} (residuals alone); "
                f"{read:.4f} of the residuals of common words read, "
                f"{effort.decided / effort.pairs:.6f} of pairs in float64, "
                f"{size / PICTURES:,.0f} bytes a picture"
            )
            more = {**sizes, "bytes_a_picture": size / PICTURES, "residuals_read": read}
            title = f"search of residuals {name}, {kind}"
            measured.append(
                Measurement(title, more, rate, peer, "NumPy, residuals alone", "queries/s")
            )
    write_record("asmk.json", measured)
