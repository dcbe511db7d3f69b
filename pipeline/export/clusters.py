"""Clusters of a global layer: spherical k-means by FAISS, every image then decided in float64."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lamella.pipeline.arrays import Float32s, Float64s, Int64s
from lamella.pipeline.errors import DoesNotFit, InputError
from lamella.pipeline.export.layers import Vectors
from lamella.pipeline.export.vectors import Batch, NamesOf
from lamella.pipeline.memory import available_memory
from lamella.pipeline.proposers.library import faiss_module
from lamella.pipeline.run.drive import OnProgress, Progress, quiet
from lamella.pipeline.search.score import Candidates, dense_norms, dense_similarities_of
from lamella.pipeline.store.tables import write_parquet_parts
from lamella.pipeline.text import byte_size

ROUNDS = 20
SAMPLED = 100
"""Images for each cluster that k-means looks at, drawn by the seed: FAISS takes 256, which is 13 GB
for 10,000 clusters of 1,280 dimensions."""

COMPARED_AT_ONCE = 2**24
"""Pairs of an image and a centre."""

NOWHERE = -1
"""The cluster of an image whose vector is zero: it is like no other."""

CLUSTER_FILES = ("clusters.parquet", "cluster_sizes.csv", "centres.npy")
"""What is written, behind the name of the layer."""

CLUSTERS: Any = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("cluster", pa.int32(), nullable=False),
        pa.field("similarity", pa.float64(), nullable=False),
    ]
)
"""One row an image: its cluster from 0 on, and the cosine with that cluster's centre."""


def train_centres(
    layer: Vectors,
    batches: Iterator[Batch],
    clusters: int,
    seed: int,
    on_progress: OnProgress = quiet,
) -> Float32s:
    """Return the centres of clusters, (N, D) float32 of length 1.

    FAISS runs in one thread here, for its sums depend on the number of threads.

    Args:
        batches: vectors of length 1, in the order of ids.
        clusters: N.

    Raises:
        InputError: there are fewer images than clusters, or FAISS is not installed.
        DoesNotFit: the drawn images do not fit into memory.
    """
    faiss = faiss_module()
    sample = _drawn(layer, batches, clusters, seed)
    first = np.random.default_rng([seed, 1]).choice(len(sample), clusters, replace=False)
    centres = sample[np.sort(first)]
    stage, threads = f"cluster {layer.name}", faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        for turn in range(ROUNDS):
            on_progress(Progress(stage, turn, ROUNDS, turn * len(sample), ROUNDS * len(sample)))
            means = faiss.Kmeans(
                layer.dimensions,
                clusters,
                niter=1,
                spherical=True,
                seed=seed + turn,
                min_points_per_centroid=1,
                max_points_per_centroid=SAMPLED,
            )
            means.train(sample, init_centroids=centres)
            centres = np.asarray(means.centroids, np.float32)
    finally:
        faiss.omp_set_num_threads(threads)
    on_progress(Progress(stage, ROUNDS, ROUNDS, ROUNDS * len(sample), ROUNDS * len(sample)))
    return centres


def _drawn(layer: Vectors, batches: Iterator[Batch], clusters: int, seed: int) -> Float32s:
    """Return the images that k-means looks at, drawn by the seed, in the order of ids."""
    images = len(layer.image_ids)
    if clusters > images:
        raise InputError(
            f"a cluster has an image at least; {clusters:,} clusters are asked for, and "
            f"{images:,} images are indexed: ask for fewer"
        )
    wanted = min(images, SAMPLED * clusters)
    size = 4 * wanted * layer.dimensions
    if 2 * size > (free := available_memory()):
        raise DoesNotFit(
            f"k-means holds {SAMPLED} images a cluster in memory, {byte_size(2 * size)} for "
            f"{clusters:,} clusters of {layer.name}, and {byte_size(free)} are free: ask for fewer"
        )
    drawn = np.sort(np.random.default_rng(seed).choice(images, wanted, replace=False))
    sample = np.empty((wanted, layer.dimensions), np.float32)
    start = 0
    for ids, vectors in batches:
        first, stop = np.searchsorted(drawn, (start, start + len(ids)))
        sample[first:stop] = vectors[drawn[first:stop] - start]
        start += len(ids)
    return sample


def nearest_centres(vectors: Float32s, centres: Float32s) -> tuple[Int64s, Float64s]:
    """Return the most similar centre of each vector (n,), and the cosine, 0 if it is negative.

    Of equal ones the first. A product in float32 says which centres may be the nearest: it is off
    by at most (D + 4) u of the lengths, u = 2**-24 (Higham, equation 3.5 of the 2nd edition, and
    rounding both vectors to length 1). The cosine of each of these is then computed in float64, in
    the order of all searches.

    Args:
        vectors: (n, D) float32.
        centres: (N, D) float32.
    """
    lengths, block = dense_norms(centres), max(COMPARED_AT_ONCE // len(centres), 1)
    units = _units(centres, lengths)
    margin = 2 * 1.01 * (vectors.shape[1] + 4) * 2.0**-24
    found, cosines = [np.empty(0, np.int64)], [np.empty(0)]
    for start in range(0, len(vectors), block):
        part = vectors[start : start + block]
        norms = dense_norms(part)
        rough = _units(part, norms) @ units.T
        owners, rows = np.nonzero(rough >= rough.max(axis=1, keepdims=True) - margin)
        offsets = np.searchsorted(owners, np.arange(len(part) + 1))
        candidates = Candidates(offsets, rows)
        exact = dense_similarities_of(part, candidates, centres, norms, lengths)
        best = np.lexsort((rows, -exact, owners))[offsets[:-1]]
        found.append(np.where(norms > 0, rows[best], NOWHERE))
        cosines.append(exact[best])
    return np.concatenate(found), np.concatenate(cosines)


def _units(vectors: Float32s, norms: Float64s) -> Float32s:
    scaled = vectors / np.where(norms > 0, norms, 1.0)[:, None]
    return scaled.astype(np.float32)


def write_clusters(
    centres: Float32s,
    batches: Iterator[Batch],
    names_of: NamesOf,
    images: Path,
    counted: Path,
    centred: Path,
) -> Int64s:
    """Write the cluster of every image, the sizes of clusters, and the centres; return sizes (N,).

    Args:
        batches: the vectors of the layer, in the order of ids.
        images, counted, centred: the files, as `CLUSTER_FILES` are called.
    """
    sizes = np.zeros(len(centres), np.int64)

    def tables() -> Iterator[Any]:
        for ids, vectors in batches:
            found, similarities = nearest_centres(vectors, centres)
            sizes[:] += np.bincount(found[found >= 0], minlength=len(sizes))
            numbers = pa.array(found.astype(np.int32)), pa.array(similarities)
            yield pa.Table.from_arrays([pa.array(ids), names_of(ids), *numbers], schema=CLUSTERS)

    write_parquet_parts(tables(), CLUSTERS, images)
    lines = (f"{cluster},{size}" for cluster, size in enumerate(sizes.tolist()))
    counted.write_text("\n".join(["cluster,images", *lines]) + "\n", encoding="ascii")
    np.save(centred, centres)
    return sizes
