"""Specs and weights that several tests of the extract stage use."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from lamella.pipeline.corpus.decode import DecodeLimits, plain_jpeg_size
from lamella.pipeline.corpus.image_table import probe_entries
from lamella.pipeline.corpus.resize import Look, whole_look
from lamella.pipeline.corpus.sources import list_source
from lamella.pipeline.extract.activations import BatchActivations
from lamella.pipeline.extract.jpegs import Box, Jpeg, plain_jpeg
from lamella.pipeline.networks.listed import build, default_preprocess, resolve_layer
from lamella.pipeline.networks.weights import find_weights
from lamella.schemas.extraction import ExtractionSpec, LayerSpec, Precision, PreprocessSpec


def spec_of(
    network: str,
    *layers: str | LayerSpec,
    weights: Path | None = None,
    preprocess: PreprocessSpec | None = None,
    batch_size: int = 2,
    precision: Precision = "float32",
) -> tuple[ExtractionSpec, Path]:
    """Return a spec with these layers, and where its weights lie."""
    reference, path = find_weights(network, weights)
    named = [resolve_layer(network, each) if isinstance(each, str) else each for each in layers]
    return (
        ExtractionSpec(
            network=network,
            weights=reference,
            preprocess=preprocess or default_preprocess(network),
            layers=tuple(named),
            batch_size=batch_size,
            precision=precision,
        ),
        path,
    )


def random_weights(network: str, path: Path, *, leave_out: str = "-") -> Path:
    """Save seeded weights of a network, without the names that start with `leave_out`."""
    generator = torch.Generator().manual_seed(1)
    state = {
        name: torch.randn(tensor.shape, generator=generator) * 0.02
        for name, tensor in build(network).state_dict().items()
        if not name.startswith(leave_out)
    }
    for name, tensor in state.items():
        if name.endswith("running_var"):
            tensor.abs_()
    save_file(state, path)
    return path


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Have PyTorch use one thread inside the block, as a thread of a worker does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rows_of(folder: Path) -> tuple[str, list[dict[str, Any]]]:
    """Return the root of the pictures in a folder, and their rows of an image table."""
    listing = list_source(str(folder))
    table, _, _ = probe_entries(listing.root, listing.kind, listing.entries, DecodeLimits())
    return listing.root, table.to_pylist()


def assert_same(found: list[BatchActivations], expected: list[BatchActivations]) -> None:
    """Assert that two extractions gave the same bits in the same order."""
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine.image_ids, theirs.image_ids)
        assert mine.refusals == theirs.refusals
        assert mine.vectors.keys() == theirs.vectors.keys()
        for name, vectors in mine.vectors.items():
            np.testing.assert_array_equal(vectors, theirs.vectors[name])
        assert mine.descriptors.keys() == theirs.descriptors.keys()
        for name, rows in mine.descriptors.items():
            for part in ("image_ids", "y", "x", "vectors"):
                other = getattr(theirs.descriptors[name], part)
                np.testing.assert_array_equal(getattr(rows, part), other)


def asked(data: bytes, look: Look | None = None, box: Box | None = None) -> Jpeg:
    """Return a plain JPEG as the device is asked for it, by default in its own size."""
    size = plain_jpeg_size(data)
    assert size is not None
    if box is not None:
        size = box[3] - box[1], box[2] - box[0]
    found = plain_jpeg(data, size, [look or whole_look(*size)], box)
    assert found is not None
    return found
