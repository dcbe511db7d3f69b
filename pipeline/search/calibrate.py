"""Measure how similar random pairs of pictures are in each layer: it needs no right answers.

Layers whose similarities spread differently do not weigh alike in a sum. What the 99.9th percentile
of one layer is to another's says by how much, and is even across corpora.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from lamella.pipeline.arrays import Float64s
from lamella.pipeline.index.bags import BagsOfWords, concatenate, select
from lamella.pipeline.index.draw import draw
from lamella.pipeline.index.files import read_bags, read_dense
from lamella.pipeline.index.postings import invert
from lamella.pipeline.index.residual_files import read_residuals
from lamella.pipeline.index.residuals import concatenate as join
from lamella.pipeline.index.residuals import select as select_residuals
from lamella.pipeline.search import score
from lamella.pipeline.search.residual_score import residual_similarities
from lamella.pipeline.search.segment import residual_layer
from lamella.pipeline.store.commit import read_committed
from lamella.pipeline.store.protocol import Store
from lamella.schemas.extraction import LayerSpec
from lamella.schemas.files import FileRef
from lamella.schemas.snapshot import LayerScale

HIGH = 0.999
"""The percentile that layers are brought to one scale by."""


def calibrate(
    store: Store,
    layers: Sequence[LayerSpec],
    segments: Sequence[Mapping[str, FileRef]],
    weights: Mapping[str, Float64s],
    residuals: Collection[str] = (),
) -> tuple[LayerScale, ...]:
    """Return the scale of each layer over all segments; none where there is no pair.

    Args:
        segments: the files of each.
        weights: of the words of each local layer.
        residuals: the local layers whose pictures are residuals (`encoding.kind` is asmk).
    """
    found = []
    for layer in layers:
        files = [segment[f"{layer.name}.drawn"] for segment in segments]
        if layer.name in residuals:
            table = _similar_residuals(store, files, len(weights[layer.name]))
        elif layer.kind == "local":
            table = _similar_bags(store, files, weights[layer.name])
        else:
            table = _similar_vectors(store, files)
        pairs = np.sort(table[np.triu_indices(len(table), 1)])
        if len(pairs) == 0:
            return ()
        found.append(
            LayerScale(
                layer=layer.name,
                median=float(pairs[(len(pairs) - 1) // 2]),
                high=float(pairs[int(HIGH * (len(pairs) - 1))]),
                pairs=len(pairs),
            )
        )
    return tuple(found)


def _similar_bags(store: Store, files: Sequence[FileRef], weights: Float64s) -> Float64s:
    """Return the similarities of the drawn images to each other, (n, n)."""
    read = [read_committed(store, file, read_bags) for file in files]
    rows = draw(np.concatenate([ids for ids, _ in read]))
    bags: BagsOfWords = select(concatenate([part for _, part in read]), rows)
    norms = score.bag_norms(bags, weights)
    return score.bag_similarities(bags, invert(bags, len(weights)), weights, norms, norms)


def _similar_residuals(store: Store, files: Sequence[FileRef], words: int) -> Float64s:
    """Return the similarities of the drawn images to each other, (n, n)."""
    read = [read_committed(store, file, read_residuals) for file in files]
    rows = draw(np.concatenate([ids for ids, _ in read]))
    some = select_residuals(join([part for _, part in read]), rows)
    return residual_similarities(some, residual_layer(some, words))


def _similar_vectors(store: Store, files: Sequence[FileRef]) -> Float64s:
    """Return the similarities of the drawn images to each other, (n, n)."""
    read = [read_committed(store, file, read_dense) for file in files]
    filled = [part for part in read if len(part[0])]
    if not filled:
        return np.empty((0, 0))
    rows = draw(np.concatenate([ids for ids, _, _ in filled]))
    vectors = np.concatenate([part for _, part, _ in filled])[rows]
    norms = score.dense_norms(vectors)
    return score.dense_similarities(vectors, vectors, norms, norms)
