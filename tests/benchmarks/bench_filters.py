"""What kept columns and filters cost.

Exact search of drawn pictures under filters that allow some share of them, against none, and
against scoring the allowed ones alone; and a Parquet file of tiny pictures, looked at with and
without three columns, which are then filtered by. Seconds of processor time, for the machine may be
busy; the least of `TURNS` turns, in which all take theirs one after the other.

    .venv/bin/python -m pytest -m bench -s tests/benchmarks/bench_filters.py
"""

import io
import os
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from lamella.pipeline.bench.search import FUSION
from lamella.pipeline.bench.segments import HIGH, LOW, draw_segment, open_segments, write_segment_to
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.joined_listing import list_corpus
from lamella.pipeline.corpus.stage import build_corpus
from lamella.pipeline.planted.scale import ScaleSpec, draw_queries
from lamella.pipeline.run.serial import SerialRunner
from lamella.pipeline.search import exact
from lamella.pipeline.search.allowed import filter_masks, understood
from lamella.pipeline.search.exact import search_exact
from lamella.pipeline.search.names import ImageTable
from lamella.pipeline.search.segment import QueryBatch
from lamella.pipeline.store.storage import open_store
from lamella.schemas.corpus import CorpusManifest
from tests.benchmarks.record import write_json

PICTURES = int(os.environ.get("FILTER_PICTURES", "100000"))
ROWS = int(os.environ.get("FILTER_ROWS", "10000"))
TURNS = int(os.environ.get("FILTER_TURNS", "3"))
SEGMENT = 20_000
SHARES = (0.001, 0.01, 0.02, 0.1, 0.5, 1.0)


def least(works: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Return the least processor seconds of each work over some turns."""
    found = dict.fromkeys(works, np.inf)
    for _ in range(TURNS + 1):  # the first compiles and maps
        for name, work in works.items():
            began = time.process_time()
            work()
            found[name] = min(found[name], time.process_time() - began)
    return found


@pytest.mark.bench
@pytest.mark.parametrize(("queries", "k"), [(1, 100), (64, 100), (256, 100)])
def test_search_under_a_filter(
    queries: int, k: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, folders = ScaleSpec(pictures=PICTURES, seed=0), []
    for first in range(0, PICTURES, SEGMENT):
        folders.append(tmp_path / f"{first:08d}")
        folders[-1].mkdir()
        vectors, bags = draw_segment(spec, first, min(first + SEGMENT, PICTURES))
        write_segment_to(folders[-1], first, vectors, bags, spec.words, 2)
    segments = open_segments(folders)
    vectors, bags, _ = draw_queries(spec, queries)
    batch, rng = QueryBatch({HIGH: vectors, LOW: bags}), np.random.default_rng(0)

    def asked(share: float | None, direct: bool) -> Callable[[], None]:
        masks = None
        if share is not None:
            masks = [rng.random(len(segment)) < share for segment in segments]

        def ask() -> None:
            monkeypatch.setattr(exact, "FEW_SHARE", 1.0 if direct else -1.0)
            answer = search_exact(segments, batch, FUSION, k, allowed=masks)
            assert answer.certified.all()

        return ask

    works = {"no filter": asked(None, False)}
    for share in SHARES:
        works[f"{share} bounds"] = asked(share, False)
        if share <= 0.02:
            works[f"{share} all allowed"] = asked(share, True)
    found = least(works)
    said = {name: round(seconds / found["no filter"], 3) for name, seconds in found.items()}
    value: dict[str, Any] = {
        "pictures": PICTURES,
        "queries": queries,
        "k": k,
        "load": os.getloadavg()[0],
    }
    value |= {"no_filter_cpu_s": found["no filter"], "times_no_filter": said}
    write_json(f"filters-{queries}.json", value)
    print(f"\n{value}")


class OfManifest(ImageTable):
    """The image tables of a corpus as one segment, without an index of it."""

    def __init__(self, store: Any, manifest: CorpusManifest) -> None:
        self._manifest = manifest
        super().__init__(store, manifest)  # type: ignore[arg-type]  # root and kind are the same

    @cached_property
    def kept(self) -> Any:
        return self._kept_of(self._manifest.shards[0]).schema

    @cached_property
    def _of_segments(self) -> list[Any]:
        return [self._manifest.shards]

    @cached_property
    def _segments(self) -> list[tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]]:
        sizes = [shard.images for shard in self._manifest.shards]
        shards = np.repeat(np.arange(len(sizes)), sizes)
        rows = np.concatenate([np.arange(size) for size in sizes])
        tables = [self._table(number, "names")["image_id"] for number in range(len(sizes))]
        ids = np.concatenate([table.to_numpy() for table in tables])
        return [(ids, shards, rows)]


@pytest.mark.bench
@pytest.mark.parametrize("group", [1_000, 10_000])
def test_kept_columns(group: int, tmp_path: Path) -> None:
    pq.write_table(_rows(), tmp_path / "rows.parquet", row_group_size=group)
    limits, turn = DecodeLimits(), iter(range(1_000))
    made: dict[str, CorpusManifest] = {}

    def look(name: str, *columns: str) -> None:
        store = open_store(str(tmp_path / f"store-{next(turn)}"), create=True)
        listing = list_corpus(str(tmp_path / "rows.parquet"), columns=columns)
        runner = SerialRunner()
        made[name] = build_corpus(store, runner, listing, name, shard_size=512, limits=limits)
        made[f"{name} store"] = store  # type: ignore[assignment]

    kept = ("year", "author", "caption")
    found = least({"without": lambda: look("without"), "with": lambda: look("with", *kept)})
    shards = made["with"].shards
    size = sum(shard.columns.size_bytes for shard in shards if shard.columns)
    filters = {
        "a year": "year >= 2010",
        "a folder": 'startswith(name, "b/")',
        "words": 'contains(lower(caption), "word 77") and year in [2001, 2002]',
    }
    images: list[ImageTable] = []

    def first() -> None:
        images.append(OfManifest(made["with store"], made["with"]))
        filter_masks(images[-1], understood(images[-1], filters["a year"]))

    works = {"first": first} | {name: _asking(images, text) for name, text in filters.items()}
    asked = least(works)
    value: dict[str, Any] = {"pictures": ROWS, "row_group": group, "load": os.getloadavg()[0]}
    value |= {"look_cpu_s": found, "columns_bytes_a_picture": size / ROWS}
    value |= {"image_table_bytes_a_picture": sum(s.file.size_bytes for s in shards) / ROWS}
    value |= {"mask_cpu_s": asked}
    write_json(f"kept-columns-{group}.json", value)
    print(f"\n{value}")


def _asking(images: list[ImageTable], text: str) -> Callable[[], Any]:
    return lambda: filter_masks(images[-1], understood(images[-1], text))


def _rows() -> pa.Table:
    """Return tiny pictures, each with a year, one of 500 authors, and a caption of 60 bytes."""
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 10_000, (ROWS, 6))
    return pa.table(
        {
            "name": [f"{'abc'[number % 3]}/{number:08d}.png" for number in range(ROWS)],
            "image": list(_pictures(rng)),
            "year": rng.integers(1990, 2024, ROWS).astype(np.int16),
            "author": [f"author {number}" for number in rng.integers(0, 500, ROWS)],
            "caption": [" ".join(f"word {each}" for each in row) for row in numbers],
        }
    )


def _pictures(rng: np.random.Generator) -> Iterator[bytes]:
    for _ in range(ROWS):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(file, "PNG")
        yield file.getvalue()
