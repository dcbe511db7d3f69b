"""From a layer's output to what is stored: one vector a picture, or one a position."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.extraction import LayerSpec

GEM_FLOOR = 1e-6
"""Least activation under GeM pooling, as in Radenovic et al. 2018, where x ** p needs x > 0."""


@dataclass(frozen=True)
class Descriptors:
    """Local descriptors of some pictures, picture by picture, rows of the grid from the top.

    image_ids (n,) int64; y, x (n,) uint16 positions in the layer's grid; vectors (n, D) float16,
    of unit length before rounding.
    """

    image_ids: NDArray[np.int64]
    y: NDArray[np.uint16]
    x: NDArray[np.uint16]
    vectors: NDArray[np.float16]

    def __post_init__(self) -> None:
        if not len(self.image_ids) == len(self.y) == len(self.x) == len(self.vectors):
            raise ValueError("the parts of descriptors differ in length")


def global_vectors(output: Tensor, layer: LayerSpec) -> NDArray[np.float32]:
    """Return one float32 vector a picture, (n, D): the output itself, or pooled over positions.

    Raises:
        ValueError: a map is to be kept without pooling.
    """
    if output.ndim == 2:
        return output.to("cpu", torch.float32).numpy()
    match layer.pool:
        case "average":
            pooled = output.mean(dim=(2, 3))
        case "maximum":
            pooled = output.amax(dim=(2, 3))
        case "gem":
            powered = output.clamp(min=GEM_FLOOR).pow(layer.gem_power)
            pooled = powered.mean(dim=(2, 3)).pow(1 / layer.gem_power)
        case "none":
            if output.shape[2:] != (1, 1):
                raise ValueError(
                    f"layer {layer.name} gives a map of {tuple(output.shape[1:])}: pool it "
                    "(average, maximum, gem) or make it local"
                )
            pooled = output[:, :, 0, 0]
    return pooled.to("cpu", torch.float32).numpy()


def local_descriptors(output: Tensor, image_ids: NDArray[np.int64]) -> Descriptors:
    """Return every position of the first pictures of a batch as a descriptor of unit length.

    Positions whose activations are all zero say nothing and are dropped.

    Args:
        output: (B, C, H, W), B at least the number of image ids; the rest is padding.

    Raises:
        ValueError: the layer has no positions.
    """
    if output.ndim != 4:
        raise ValueError(f"a local layer needs positions; it gives {tuple(output.shape)}")
    count, (channels, height, width) = len(image_ids), output.shape[1:]
    flat = output[:count].permute(0, 2, 3, 1).reshape(-1, channels)
    lengths = torch.linalg.vector_norm(flat, dim=1)
    kept = torch.nonzero(lengths > 0)[:, 0]
    vectors = (flat[kept] / lengths[kept, None]).to(torch.float16).cpu().numpy()
    index = kept.cpu().numpy()
    return Descriptors(
        image_ids=image_ids[index // (height * width)],
        y=(index // width % height).astype(np.uint16),
        x=(index % width).astype(np.uint16),
        vectors=vectors,
    )
