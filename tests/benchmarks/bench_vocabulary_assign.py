"""Assignment to many words beside FAISS's HNSW and IVF over the same words, at equal recall."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from lamella.pipeline.vocabulary.assign import ExactAssigner
from lamella.pipeline.vocabulary.ivf import CellsAssigner, first_cells, neighbours_of
from lamella.pipeline.vocabulary.train import train_in_memory
from lamella.schemas.vocabulary import VocabularySpec
from tests.benchmarks.descriptors import real_descriptors, split
from tests.benchmarks.record import Measurement, write_record

ROWS, RECALL, CORES = 32_768, 0.98, 2
TRAINED_ROWS, ROUNDS = 10, 4
"""Rows a word and rounds that the words are trained by."""

Assign = Callable[[NDArray[np.float32]], NDArray[np.float64]]


def within(
    name: str,
    ways: list[tuple[int, Assign]],
    rows: NDArray[np.float32],
    nearest: NDArray[np.float64],
) -> tuple[float, float, int]:
    """Return rows/s, recall and setting of the first way with the recall that is wanted."""
    for setting, assign in ways:
        assign(rows[:256])
        start = time.perf_counter()
        found = assign(rows)
        seconds = time.perf_counter() - start
        recall = float(np.mean(found <= nearest * (1 + 1e-5)))
        print(
            f"{name} {setting}: {len(rows) / seconds:.0f} rows/s, recall {recall:.4f}", flush=True
        )
        if recall >= RECALL:
            break
    return len(rows) / seconds, recall, setting


@pytest.mark.bench
@pytest.mark.parametrize("count", [20_000, 100_000])
def test_assignment_beside_faiss(count: int) -> None:
    sample, rows = split(real_descriptors("c4_1"), TRAINED_ROWS * count, ROWS)
    with threadpool_limits(1):
        spec = VocabularySpec(words=count, rounds=ROUNDS)
        words, _ = train_in_memory(sample, spec, threads=CORES)
    exact = ExactAssigner(words)
    start = time.perf_counter()
    nearest = exact.assign(rows[:4_096]).squared_distances
    exact_rate = 4_096 / (time.perf_counter() - start)
    nearest = np.concatenate([nearest, exact.assign(rows[4_096:]).squared_distances])
    cells = first_cells(words)
    neighbours = neighbours_of(words, cells)
    CellsAssigner(words, cells, 1, neighbours).assign(rows[:100])  # compiles

    def ours(probes: int) -> Assign:
        assigner = CellsAssigner(words, cells, probes, neighbours)

        def ask(asked: NDArray[np.float32]) -> NDArray[np.float64]:
            with threadpool_limits(1), ThreadPoolExecutor(CORES) as pool:
                found = pool.map(assigner.assign, np.array_split(asked, CORES))
                return np.concatenate([each.squared_distances for each in found])

        return ask

    graph = faiss.IndexHNSWFlat(512, 32)
    graph.hnsw.efConstruction = 100
    graph.add(words)
    inverted = faiss.IndexIVFFlat(faiss.IndexFlatL2(512), 512, len(cells))
    inverted.train(words)
    inverted.add(words)

    def hnsw(breadth: int) -> Assign:
        def ask(asked: NDArray[np.float32]) -> NDArray[np.float64]:
            graph.hnsw.efSearch = breadth
            return graph.search(asked, 1)[0][:, 0].astype(np.float64)

        return ask

    def ivf(probes: int) -> Assign:
        def ask(asked: NDArray[np.float32]) -> NDArray[np.float64]:
            inverted.nprobe = probes
            return inverted.search(asked, 1)[0][:, 0].astype(np.float64)

        return ask

    settings = (2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512)
    mine, recall, probes = within("cells", [(n, ours(n)) for n in settings], rows, nearest)
    sizes = {"rows": ROWS, "dimensions": 512, "words": count, "recall_pm": round(recall * 1000)}
    measurements = [
        Measurement("assign", sizes, mine, exact_rate, "exact, BLAS and float64", "rows/s")
    ]
    for name, make in (("faiss HNSW", hnsw), ("faiss IVF", ivf)):
        rate, peer_recall, setting = within(name, [(n, make(n)) for n in settings], rows, nearest)
        named = f"{name}, setting {setting}, recall {peer_recall:.3f}; ours {probes} cells"
        measurements.append(Measurement("assign", sizes, mine, rate, named, "rows/s"))
    write_record(f"vocabulary_assign_{count}.json", measurements)
