"""Turn a layer's output into what is stored: one vector a picture, or one a position."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamella.schemas.extraction import LayerSpec

GEM_FLOOR = 1e-6
"""Activations are at least this under GeM pooling (Radenovic et al. 2018): x ** p needs x > 0."""


@dataclass(frozen=True)
class Descriptors:
    """Local descriptors of some pictures, picture by picture, rows of the grid from the top.

    image_ids (n,) int64; y, x (n,) uint16 positions in the layer's grid; vectors (n, D) float16,
    of unit length before rounding; grid: its rows and columns, where they are known.
    """

    image_ids: NDArray[np.int64]
    y: NDArray[np.uint16]
    x: NDArray[np.uint16]
    vectors: NDArray[np.float16]
    grid: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not len(self.image_ids) == len(self.y) == len(self.x) == len(self.vectors):
            raise ValueError("the parts of descriptors differ in length")


@dataclass(frozen=True)
class UnitRows:
    """The descriptors of a batch on its device, non-zero ones first.

    vectors (B * H * W, D) float16; positions (B * H * W,) int64, counted through the batch; count
    () int64: how many rows are descriptors, the rest is unused; sound () bool: all activations are
    finite; grid: H and W.
    """

    vectors: Tensor
    positions: Tensor
    count: Tensor
    sound: Tensor
    grid: tuple[int, int]


def pooled(output: Tensor, layer: LayerSpec) -> Tensor:
    """Return one float32 vector a picture, (n, D): the output itself, or pooled over positions.

    Raises:
        ValueError: the layer is a map and has no pooling.
    """
    output = output.float()
    if output.ndim == 2:
        return output
    match layer.pool:
        case "average":
            return output.mean(dim=(2, 3))
        case "maximum":
            return output.amax(dim=(2, 3))
        case "gem":
            powered = output.clamp(min=GEM_FLOOR).pow(layer.gem_power)
            return powered.mean(dim=(2, 3)).pow(1 / layer.gem_power)
    if output.shape[2:] != (1, 1):
        raise ValueError(
            f"layer {layer.name} gives a map of {tuple(output.shape[1:])}: pool it "
            "(average, maximum, gem) or make it local"
        )
    return output[:, :, 0, 0]


def unit_rows(output: Tensor, kept: Tensor) -> UnitRows:
    """Return every position of some pictures of a batch at unit length.

    Positions whose activations are all zero are dropped. Nothing here waits for the device: only it
    knows how many rows are left, so they are moved to the front.

    Args:
        output: (B, C, H, W).
        kept: (B,) bool, which pictures; the others are padding.

    Raises:
        ValueError: the layer has no positions.
    """
    if output.ndim != 4:
        raise ValueError(f"a local layer needs positions; it gives {tuple(output.shape)}")
    batch, channels, height, width = output.shape
    flat = output.permute(0, 2, 3, 1).reshape(-1, channels)
    lengths = torch.linalg.vector_norm(flat, dim=1, dtype=torch.float32)
    wanted = (lengths > 0) & kept[:, None].expand(batch, height * width).reshape(-1)
    order = torch.argsort((~wanted).to(torch.uint8), stable=True)
    vectors = (flat[order] / lengths[order, None]).to(torch.float16)
    return UnitRows(vectors, order, wanted.sum(), lengths.isfinite().all(), (height, width))


def descriptors_of(
    vectors: Tensor, positions: Tensor, grid: tuple[int, int], image_ids: NDArray[np.int64]
) -> Descriptors:
    """Return rows of `UnitRows`, copied from the device, as descriptors.

    Args:
        image_ids: (B,), of every slot of the batch.
    """
    height, width = grid
    index = positions.numpy()
    return Descriptors(
        image_ids=image_ids[index // (height * width)],
        y=(index // width % height).astype(np.uint16),
        x=(index % width).astype(np.uint16),
        vectors=vectors.numpy(),
        grid=grid,
    )


def global_vectors(output: Tensor, layer: LayerSpec) -> NDArray[np.float32]:
    """Return `pooled` of a layer's output, in this process."""
    return pooled(output, layer).cpu().numpy()


def local_descriptors(output: Tensor, image_ids: NDArray[np.int64]) -> Descriptors:
    """Return every position of the first pictures of a batch as a descriptor of unit length.

    Args:
        output: (B, C, H, W), B at least the number of image ids; the rest is padding.
    """
    rows = unit_rows(output, torch.arange(len(output), device=output.device) < len(image_ids))
    count = int(rows.count)
    return descriptors_of(
        rows.vectors[:count].cpu(), rows.positions[:count].cpu(), rows.grid, image_ids
    )
