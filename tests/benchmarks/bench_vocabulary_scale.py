"""The real size: 100,000 words from 4 million descriptors of 512 dimensions, on Ray, from files.

The descriptors are VGG-16's conv4_1 of all shared photographs (2.2 million), and the same again
with seeded noise of a tenth of their length, until there are enough.
`VOCABULARY_ROWS` and `VOCABULARY_WORDS` give other sizes.
"""

import os
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from lamella.cluster.ray.connect import connected
from lamella.cluster.ray.runner import RayRunner
from lamella.pipeline.extract.activations import BatchActivations
from lamella.pipeline.extract.descriptors import Descriptors
from lamella.pipeline.extract.extraction import Extraction
from lamella.pipeline.extract.sink import LayerSink
from lamella.pipeline.jobs.resolve import resolve_extraction
from lamella.pipeline.store.commit import attempt
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.storage import open_store
from lamella.pipeline.vocabulary.stage import train_vocabulary
from lamella.schemas.files import DoneRecord
from lamella.schemas.job import JobConfig
from lamella.schemas.vocabulary import RoundReport, VocabularySpec
from tests.benchmarks.descriptors import VGG, real_descriptors
from tests.benchmarks.memory import peak_memory
from tests.benchmarks.record import Measurement, write_record

ROWS = int(os.environ.get("VOCABULARY_ROWS", "4000000"))
WORDS = int(os.environ.get("VOCABULARY_WORDS", "100000"))
IMAGE_ROWS, SHARD_ROWS = 1_000, 100_000
CAP = IMAGE_ROWS - IMAGE_ROWS // 16
NOISE = 0.1
WORKERS = 2


def write_activations(store: Store, rows: int) -> Extraction:
    """Write activations of pictures of 1,000 descriptors each, a hundred pictures a shard."""
    real = real_descriptors("c4_1")
    spec, _ = resolve_extraction(JobConfig.model_validate(VGG))
    layer = next(layer for layer in spec.layers if layer.name == "c4_1")
    draw = np.random.default_rng(1)
    records: list[DoneRecord] = []
    for number, start in enumerate(range(0, rows, SHARD_ROWS)):
        wanted = np.arange(start, min(start + SHARD_ROWS, rows))
        vectors = real.vectors[wanted % len(real)].astype(np.float32)
        if start >= len(real):
            noise = draw.standard_normal(vectors.shape, np.float32)
            vectors += NOISE / np.sqrt(vectors.shape[1]) * noise
            np.maximum(vectors, 0, out=vectors)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        place = (wanted % IMAGE_ROWS).astype(np.uint16)
        found = Descriptors(
            wanted // IMAGE_ROWS, place // 32, place % 32, vectors.astype(np.float16)
        )
        with attempt(store, "activations/scale-0", "extract", f"{number:05d}", "0" * 64) as work:
            path = work.scratch / "c4_1.parquet"
            with closing(LayerSink(layer, path)) as sink:
                for first in range(0, len(wanted), 10 * IMAGE_ROWS):
                    part = slice(first, first + 10 * IMAGE_ROWS)
                    some = Descriptors(
                        found.image_ids[part], found.y[part], found.x[part], found.vectors[part]
                    )
                    sink.add(BatchActivations(some.image_ids, {}, {layer.name: some}, ()))
                sink.finish()
            work.add("c4_1", "activations/scale-0/c4_1", "parquet", path, len(wanted))
            images = len(np.unique(found.image_ids))
            records.append(work.finish(indexed=images, refused=0, images=images))
    keys = tuple(record.key for record in records)
    return Extraction("0" * 64, "0" * 64, spec, (), tuple(records), keys)


@pytest.mark.bench
def test_the_real_size(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), create=True)
    rows = ROWS * IMAGE_ROWS // CAP
    extraction = write_activations(store, rows)
    spec = VocabularySpec(words=WORDS, descriptors=ROWS + rows, descriptors_per_image=CAP)
    rounds: list[tuple[float, RoundReport]] = []
    began = time.perf_counter()

    def note(layer: str, report: RoundReport) -> None:
        rounds.append((time.perf_counter() - began, report))
        print(f"{rounds[-1][0]:.0f} s {report}", flush=True)

    with connected(), RayRunner(workers=WORKERS) as runner, peak_memory() as peak:
        began = time.perf_counter()
        vocabulary = train_vocabulary(store, runner, extraction, "c4_1", spec, on_round=note)
        seconds = time.perf_counter() - began
    health = vocabulary.health
    assert health is not None
    print(f"{seconds:.0f} s, peak {peak.size_bytes / 2**30:.2f} GiB, probes {vocabulary.probes}")
    print(health)
    sizes = {"rows": sum(f.rows for f in vocabulary.sample), "words": WORDS, "dimensions": 512}
    assert vocabulary.words == WORDS
    # What one round by exact comparison would take here: its products alone, timed on a part.
    part = real_descriptors("c4_1").vectors[:16_384].astype(np.float32)
    centroids = np.random.default_rng(0).standard_normal((20_000, 512), np.float32)
    room = np.matmul(part, centroids.T)
    start = time.perf_counter()
    np.matmul(part, centroids.T, out=room)
    product = time.perf_counter() - start
    exact_round = product * sizes["rows"] / len(part) * WORDS / len(centroids)
    last_round = (rounds[-1][0] - rounds[0][0]) / (len(rounds) - 1)
    write_record(
        "vocabulary_scale.json",
        [
            Measurement(
                "round",
                sizes,
                1 / last_round,
                1 / exact_round,
                "exact product alone",
                "rounds/s",
            ),
            Measurement(
                "whole training",
                {**sizes, "rounds": len(rounds), "peak_mib": peak.size_bytes >> 20},
                1 / seconds,
                1 / (exact_round * len(rounds)),
                "exact products of as many rounds",
                "trainings/s",
            ),
            Measurement(
                "recall of assignment, held-out rows",
                {**sizes, "held_rows": health.held_rows, "probes": vocabulary.probes},
                health.recall,
                1.0,
                "comparison with every word",
                "share",
            ),
        ],
    )
