"""Training a vocabulary to its end beside FAISS's k-means and scikit-learn's mini-batch k-means."""

import time
from collections.abc import Callable

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

from pipeline.vocabulary.assign import ExactAssigner
from pipeline.vocabulary.train import train_in_memory
from schemas.vocabulary import VocabularySpec
from tests.benchmarks.record import Measurement, write_record
from tests.pipeline.vocabulary.vectors import clustered, row_names

ROWS, DIMENSIONS, WORDS, SOURCES, ITERATIONS = 64_000, 256, 2_000, 1_500, 25
SIZES = {"rows": ROWS, "dimensions": DIMENSIONS, "words": WORDS}

Train = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def train_ours(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Train to the end by the default spec."""
    words, reports = train_in_memory(rows, *row_names(len(rows)), VocabularySpec(words=WORDS))
    print(f"\nours: {len(reports)} rounds, {reports[-1]}")
    return words


def train_faiss(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Train on all rows for 25 iterations."""
    peer = faiss.Kmeans(DIMENSIONS, WORDS, niter=ITERATIONS, max_points_per_centroid=len(rows))
    peer.train(rows)
    return np.ascontiguousarray(peer.centroids)


def train_sklearn(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Train by scikit-learn's defaults with batches of 4,096 rows."""
    peer = MiniBatchKMeans(WORDS, batch_size=4_096, n_init=1, random_state=0).fit(rows)
    return np.ascontiguousarray(peer.cluster_centers_, np.float32)


def measure(train: Train, rows: NDArray[np.float32]) -> tuple[float, float]:
    """Return the seconds of a training and the mean squared error of its words."""
    start = time.perf_counter()
    words = train(rows)
    seconds = time.perf_counter() - start
    return seconds, float(ExactAssigner(words).assign(rows).squared_distances.mean())


@pytest.mark.bench
def test_vocabulary_beside_its_peers() -> None:
    rows = clustered(ROWS, DIMENSIONS, SOURCES, spread=0.6)
    train_in_memory(rows[:2_000], *row_names(2_000), VocabularySpec(words=20))  # compiles
    seconds, error = measure(train_ours, rows)
    print(f"ours {seconds:.1f} s, mean squared error {error:.5f}")
    peers: dict[str, Train] = {
        f"faiss.Kmeans niter={ITERATIONS}": train_faiss,
        "sklearn MiniBatchKMeans": train_sklearn,
    }
    measurements = []
    for name, train in peers.items():
        peer_seconds, peer_error = measure(train, rows)
        print(f"{name} {peer_seconds:.1f} s, mean squared error {peer_error:.5f}")
        measurements += [
            Measurement("train", SIZES, 1 / seconds, 1 / peer_seconds, name, "trainings/s"),
            Measurement("train", SIZES, 1 / error, 1 / peer_error, name, "1/mean squared error"),
        ]
    write_record("vocabulary.json", measurements)
    assert all(entry.ratio > 0.99 for entry in measurements if entry.unit.startswith("1/"))
