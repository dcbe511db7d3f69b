"""Descriptors like those of a network, and reports of rounds over them."""

import numpy as np
import numpy.typing as npt

from lamella.pipeline.vocabulary.sample import Sample
from lamella.schemas.vocabulary import RoundReport


def clustered(
    rows: int, dimensions: int, sources: int, spread: float = 0.5, seed: int = 0
) -> npt.NDArray[np.float32]:
    """Return unit rows, none negative, (rows, dimensions) float32, around uneven sources."""
    draw = np.random.default_rng(seed)
    centres = np.maximum(draw.standard_normal((sources, dimensions)), 0)
    weights = draw.dirichlet(np.full(sources, 0.5))
    noise = spread * draw.standard_normal((rows, dimensions))
    vectors = np.maximum(centres[draw.choice(sources, rows, p=weights)] + noise, 0)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(norms, 1e-9)).astype(np.float32)


def row_names(rows: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return image ids and positions for so many rows, 50 an image."""
    return np.arange(rows) // 50, np.arange(rows) % 50


def sample_of(vectors: npt.NDArray[np.floating]) -> Sample:
    """Return the rows, rounded to float16, with the ids and positions of `row_names`."""
    return Sample(*row_names(len(vectors)), vectors.astype(np.float16))


def plain_distances(
    rows: npt.NDArray[np.float32], words: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Return every squared distance, (n, K) float64, added in order of the dimensions."""
    total = np.zeros((len(rows), len(words)))
    for axis in range(rows.shape[1]):
        left, right = rows[:, axis].astype(np.float64), words[:, axis].astype(np.float64)
        total += (left[:, None] - right[None, :]) ** 2
    return total


def reports(*objectives: float, share: float = 0.25) -> list[RoundReport]:
    """Return reports of rounds over such a share of the rows with these objectives."""
    return [
        RoundReport(
            round=number, share=share, objective=objective, changed=1, empty_words=0, imbalance=1
        )
        for number, objective in enumerate(objectives)
    ]
