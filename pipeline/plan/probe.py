"""The probe: run the code of every stage on some pictures of a source, and measure it."""

import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float32s
from lamella.pipeline.corpus.cut import runs
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.corpus.identity import image_id_of
from lamella.pipeline.corpus.image_table import ENTRY_FACTS, probe_rows
from lamella.pipeline.corpus.kept_columns import read_kept
from lamella.pipeline.corpus.listing import Entry
from lamella.pipeline.corpus.refused import top_reasons
from lamella.pipeline.corpus.stage import decode_limits
from lamella.pipeline.corpus.vector_listing import vector_rows, vectors_by_name
from lamella.pipeline.errors import InputError
from lamella.pipeline.import_path import path_of_children, python_running
from lamella.pipeline.index.bags import BagsOfWords, select
from lamella.pipeline.index.segment_files import members_of, segment_files
from lamella.pipeline.jobs.indexing import Prepared
from lamella.pipeline.plan.clock import costing
from lamella.pipeline.plan.memory import children_peak, own_peak
from lamella.pipeline.plan.precisions import probe_precisions
from lamella.pipeline.plan.proposers_cost import probe_proposers
from lamella.pipeline.plan.vocabulary_cost import WordsProbe, probe_words
from lamella.pipeline.run.drive import OnProgress, Progress
from lamella.pipeline.store.tables import binary_vectors_of, column, read_parquet, write_parquet
from lamella.pipeline.vocabulary.exchange import Exchanged, check_recipe, read_exchanged
from lamella.pipeline.vocabulary.import_words import find_import
from lamella.schemas.corpus import IMAGES, SEEN
from lamella.schemas.plan import TriedPrecision

if TYPE_CHECKING:
    from lamella.pipeline.extract.probe import ExtractProbe

CHUNK = 8
"""Entries that are probed and timed together for the corpus stage."""


@dataclass(frozen=True)
class Probe:
    """What was measured on the sample, stage by stage.

    Attributes:
        sampled: entries in the sample.
        ignored: entries that are not pictures.
        refused: by reason, pictures that gave no activations.
        rows: rows of the image table, with those of refused pictures.
        table_bytes: bytes of the rows in the tables of a look: of images, of what was seen, and of
            kept columns.
        shard_bytes: bytes of these tables without a row.
        starting: seconds until a new process can open a network.
        looking: seconds of one thread for an entry in the corpus stage, for each chunk.
        extract: measurements of the extract stage.
        words: measurements of each local layer's vocabulary.
        dimensions: dimensions of each global layer.
        indexing: seconds of one thread for a picture in the index stage, and those for a segment
            in addition.
        proposing: seconds of one thread for a picture in the propose stage, and those for the
            frames in addition; zeros where there is no such stage.
        own_bytes, decoder_bytes: peak memory of this process and of its decoders right after
            extraction.
        precisions: passes in the precision of the job and in those that the CPU has.
    """

    sampled: int
    ignored: int
    refused: Mapping[str, int]
    rows: Sequence[Mapping[str, Any]]
    table_bytes: int
    shard_bytes: int
    starting: float
    looking: Sequence[float]
    extract: "ExtractProbe"
    words: Mapping[str, WordsProbe]
    dimensions: Mapping[str, int]
    indexing: tuple[float, float]
    proposing: tuple[float, float]
    own_bytes: int
    decoder_bytes: int
    precisions: tuple[TriedPrecision, ...] = ()


def spread(total: int, count: int, seed: int) -> list[int]:
    """Return `count` numbers below `total`, rising: one drawn from each of `count` equal runs.

    So the sample covers the source evenly, also where neighbours are alike. If the total is not
    larger than the count, all numbers are returned.
    """
    edges = np.linspace(0, total, min(count, total) + 1).astype(np.int64)
    drawn: list[int] = np.random.default_rng(seed).integers(edges[:-1], edges[1:]).tolist()
    return drawn


def probe(
    prepared: Prepared,
    scratch: Path,
    *,
    sample: int,
    seed: int,
    threads: int,
    on_progress: OnProgress,
) -> Probe:
    """Run every stage on a sample of a source; return the measurements.

    Args:
        scratch: an empty folder.
        sample: how many entries to probe.
        seed: decides which ones.
        threads: as many as a run would use on this machine.

    Raises:
        InputError: no entry of the sample gave activations.
    """
    listing, limits = prepared.listing, decode_limits(prepared.job)
    entries = [listing.entries[n] for n in spread(len(listing.entries), sample, seed)]
    found, looking = _look(prepared, entries, threads, on_progress)
    rows = [row for row in found if row is not None]
    for row in rows:
        row["image_id"] = image_id_of(row["container"], row["name"], row["sha256"])
    given, joining = _join(prepared, rows)
    tables = _tables_of_look(prepared, rows, entries, found)
    table_bytes = _parquet_bytes(tables, scratch)
    empty_bytes = _parquet_bytes([table.slice(0, 0) for table in tables], scratch)
    readable = sum(row["refusal"] is None for row in rows)

    def seen(done: int) -> None:
        on_progress(Progress("probe extract", done, readable, done, readable))

    extract = _extract(prepared, limits, rows, scratch, threads, seen)
    extract = _with_given(extract, given, joining)
    seen(readable)
    own, decoders = own_peak(), children_peak()
    indexed = len(extract.image_ids)
    refused = Counter(row["refusal"] for row in rows if row["refusal"] is not None)
    refused.update(extract.refused)
    if indexed == 0:
        why = f" ({top_reasons(refused)})" if refused else ""
        raise InputError(
            f"{prepared.source}: of {len(entries):,} files that were tried none gave "
            f"activations{why}, so nothing can be told: give pictures, or a larger --sample"
        )
    precisions = probe_precisions(prepared, rows, extract, threads)
    pictures = len(listing.entries) * indexed / len(entries)
    words: dict[str, WordsProbe] = {}
    layers: dict[str, BagsOfWords | Float32s] = {}
    layers.update({name: each[extract.image_ids] for name, each in given.items()})
    steps = [layer.name for layer in prepared.spec.layers if layer.name in extract.files]
    for number, name in enumerate(steps):
        on_progress(Progress("probe words", number, len(steps) + 1, number, len(steps) + 1))
        if prepared.spec.layer(name).kind == "local":
            words[name] = probe_words(
                extract.files[name],
                extract.image_ids,
                extract.rows[name],
                pictures,
                prepared.job.vocabulary_of(name),
                prepared.job.encoding_of(name),
                given_words(prepared, name),
                threads=threads,
            )
            layers[name] = words[name].bags
        else:
            layers[name] = _vectors(extract.files[name])
    on_ray = prepared.job.engine.kind == "ray"
    indexing = _index(layers, extract.image_ids, words, scratch)
    vectors = {name: each for name, each in layers.items() if isinstance(each, np.ndarray)}
    kind = prepared.job.index.proposer
    segment = pictures / runs(pictures, prepared.job.index.segment_images)
    proposing = (0.0, 0.0) if kind == "none" else probe_proposers(kind, vectors, pictures, segment)
    ended = len(steps) + 1
    on_progress(Progress("probe words", ended, ended, ended, ended))
    return Probe(
        sampled=len(entries),
        ignored=len(entries) - len(rows),
        refused=refused,
        rows=rows,
        table_bytes=table_bytes - empty_bytes,
        shard_bytes=empty_bytes,
        starting=_starting() if prepared.spec.computed and on_ray else 0.0,
        looking=looking,
        extract=extract,
        words=words,
        dimensions={name: each.shape[1] for name, each in vectors.items()},
        indexing=indexing,
        proposing=proposing,
        own_bytes=own,
        decoder_bytes=decoders,
        precisions=precisions,
    )


def _join(prepared: Prepared, rows: Sequence[dict[str, Any]]) -> tuple[dict[str, Float32s], float]:
    """Return the given vectors of rows, (n, D) by layer, and the seconds that took; rows without
    one are refused.
    """
    began, names = time.perf_counter(), [row["name"] for row in rows]
    found: dict[str, Float32s] = {}
    for layer, each in prepared.vectors.items():
        found[layer], faults = each.of(names)
        for row, fault in zip(rows, faults, strict=True):
            if fault is not None and row["refusal"] is None:
                row["refusal"] = fault.reason.value
    return found, time.perf_counter() - began


def _extract(
    prepared: Prepared,
    limits: DecodeLimits,
    rows: Sequence[Mapping[str, Any]],
    scratch: Path,
    threads: int,
    seen: Callable[[int], None],
) -> "ExtractProbe":
    """Extract rows as far as a network sees them."""
    from lamella.pipeline.extract.probe import ExtractProbe, Times, probe_extraction

    spec, listing = prepared.spec, prepared.listing
    if not spec.computed:
        sound = np.flatnonzero([row["refusal"] is None for row in rows])
        return ExtractProbe("cpu", 0, threads, 1, 0.0, 0.0, Times(), sound, {}, {}, {}, {})
    return probe_extraction(
        *(spec.of_network, prepared.weights, listing.root, listing.kind, limits, rows, scratch),
        threads=threads,
        on_picture=seen,
    )


def _with_given(
    extract: "ExtractProbe", given: Mapping[str, Float32s], seconds: float
) -> "ExtractProbe":
    """Return what was measured with the vectors that need no network."""
    if not given:
        return extract
    pictures = len(extract.image_ids)
    sizes = {name: 4 * each.shape[1] * pictures for name, each in given.items()}
    counts = {name: np.ones(pictures, np.int64) for name in given}
    times = replace(extract.times, write=extract.times.write | {next(iter(given)): seconds})
    return replace(
        extract, sizes={**sizes, **extract.sizes}, rows={**counts, **extract.rows}, times=times
    )


def given_words(prepared: Prepared, layer: str) -> Exchanged | None:
    """Return the vocabulary that the job imports for a layer, None if it imports none.

    Raises:
        InputError: it is damaged, or it was made for other descriptors.
    """
    if layer not in prepared.imports or prepared.job.vocabulary_from is None:
        return None
    path, _ = find_import(Path(prepared.job.vocabulary_from).expanduser(), layer)
    words = read_exchanged(path)
    check_recipe(words, prepared.spec, layer)
    return words


def _starting() -> float:
    """Return the seconds in which a new process imports what a worker needs for a network."""
    began = time.perf_counter()
    command = python_running("import lamella.pipeline.extract.backbone")
    subprocess.run(command, env=os.environ | path_of_children(), check=True)
    return time.perf_counter() - began


def _look(
    prepared: Prepared, entries: Sequence[Entry], threads: int, on_progress: OnProgress
) -> tuple[list[dict[str, Any] | None], list[float]]:
    """Probe entries as the corpus stage does; return their rows, and seconds an entry by chunk.

    The row of an entry that is not a picture is None.
    """
    listing, limits = prepared.listing, decode_limits(prepared.job)
    chunks = [entries[start : start + CHUNK] for start in range(0, len(entries), CHUNK)]

    def look(chunk: Sequence[Entry]) -> tuple[list[dict[str, Any] | None], float]:
        began = time.perf_counter()
        rows: list[dict[str, Any] | None]
        if listing.vectors is not None:
            rows = [*vector_rows(vectors_by_name(listing.vectors, chunk), chunk)]
        else:
            rows = probe_rows(listing.root, listing.kind, chunk, limits)
        return rows, (time.perf_counter() - began) / len(chunk)

    found: list[dict[str, Any] | None] = []
    looking: list[float] = []
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(look, [entries[:1]] * threads))  # starts the decoders
        for rows, seconds in pool.map(look, chunks):
            found += rows
            looking.append(seconds)
            done, total = len(found), len(entries)
            on_progress(Progress("probe corpus", done, total, done, total))
    return found, looking


def _tables_of_look(
    prepared: Prepared,
    rows: Sequence[Mapping[str, Any]],
    entries: Sequence[Entry],
    found: Sequence[Mapping[str, Any] | None],
) -> list[pa.Table]:
    """Return the tables that a look at these entries writes; `found` has the row of each."""
    listing = prepared.listing
    seen = [{name: getattr(entry, name) for name in ENTRY_FACTS} for entry in entries]
    tables = [pa.Table.from_pylist(rows, schema=IMAGES), pa.Table.from_pylist(seen, schema=SEEN)]
    if listing.kept is not None:
        pictures = [entry for entry, row in zip(entries, found, strict=True) if row is not None]
        tables.append(read_kept(listing.root, listing.kind, pictures, listing.kept.schema))
    return tables


def _parquet_bytes(tables: Sequence[pa.Table], scratch: Path) -> int:
    """Return the bytes of tables, each as Parquet."""
    size, path = 0, scratch / "table.parquet"
    for table in tables:
        write_parquet(table, path)
        size += path.stat().st_size
    return size


def _vectors(path: Path) -> Float32s:
    table = read_parquet(path)
    order = np.argsort(column(table, "image_id"), kind="stable")
    vectors: Float32s = binary_vectors_of(table, "vector", np.float32)[order]
    return np.ascontiguousarray(vectors)


def _index(
    layers: Mapping[str, BagsOfWords | Float32s],
    image_ids: NDArray[np.int64],
    words: Mapping[str, WordsProbe],
    scratch: Path,
) -> tuple[float, float]:
    """Return the seconds of one thread for a picture in a segment, and for a segment in addition.

    Computed from the times of a segment of all pictures and one of half, after a warm-up.
    """
    sizes = {name: each.tried for name, each in words.items()}

    def build(count: int) -> float:
        rows = np.arange(count)
        some = {
            name: select(each, rows) if isinstance(each, BagsOfWords) else each[:count]
            for name, each in layers.items()
        }
        with costing() as cost:
            for file in segment_files(members_of(image_ids[:count]), some, sizes):
                file.write(scratch / "segment")
        return cost.seconds

    half, whole = max(len(image_ids) // 2, 1), len(image_ids)
    build(half)
    less, more = build(half), build(whole)
    a_picture = max(more - less, 0.0) / max(whole - half, 1)
    return a_picture, max(more - a_picture * whole, 0.0)
