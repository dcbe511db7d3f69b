"""Specs and weights that several tests of the extract stage use."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from pipeline.extract.networks import build, default_preprocess, find_weights, resolve_layer
from schemas.extraction import ExtractionSpec, LayerSpec, PreprocessSpec


def spec_of(
    network: str,
    *layers: str | LayerSpec,
    weights: Path | None = None,
    preprocess: PreprocessSpec | None = None,
    batch_size: int = 2,
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
    save_file(state, path)
    return path
