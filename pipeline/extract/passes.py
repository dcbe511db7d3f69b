"""Run one batch through the network; copy back once, only what is stored."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamella.pipeline.extract.backbone import Backbone, placed
from lamella.pipeline.extract.cuda import answering, nothing_refused, too_large
from lamella.pipeline.extract.descriptors import (
    Descriptors,
    UnitRows,
    descriptors_of,
    pooled,
    unit_rows,
)
from lamella.schemas.extraction import View

Results = Mapping[str, Tensor | UnitRows]
"""By layer: pooled vectors (n, D) of a global one, rows of a local one."""

Decoded = Mapping[int, Sequence[Tensor]]
"""By slot, the pixels of a picture's views: (h, w, 3) uint8 each, on the device."""


@dataclass(frozen=True)
class Pass:
    """A pass that was started; a GPU may still be running it."""

    backbone: Backbone
    copies: Results
    arrived: Callable[[], None]
    on_device: object
    """Kept until the copies have arrived, so that the next pass cannot reuse their memory."""

    def results(
        self, image_ids: NDArray[np.int64]
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, Descriptors]]:
        """Wait, and return by layer the vectors (n, D) of all slots, and the descriptors.

        Args:
            image_ids: (n,), of the slots that were read back.

        Raises:
            CardLost: the card failed meanwhile.
            ValueError: a layer gave values that are not finite.
        """
        with answering(self.backbone.device):
            self.arrived()
        vectors: dict[str, NDArray[np.float32]] = {}
        descriptors: dict[str, Descriptors] = {}
        for name, found in self.copies.items():
            if isinstance(found, Tensor):
                vectors[name] = found.numpy()
                sound = bool(np.isfinite(vectors[name]).all())
            else:
                count, sound = int(found.count), bool(found.sound)
                rows = found.vectors[:count], found.positions[:count]
                descriptors[name] = descriptors_of(*rows, found.grid, image_ids)
            if not sound:
                raise ValueError(
                    f"layer {name} gave values that are not finite in "
                    f"{self.backbone.spec.precision}: check the weights, or take another precision"
                )
        return vectors, descriptors


def ask(
    backbone: Backbone,
    inputs: Mapping[View, Tensor],
    kept: Tensor,
    slots: int,
    decoded: Decoded,
) -> Pass:
    """Start a pass over a full batch, and on a GPU do not wait for it.

    Args:
        inputs: by view, (batch_size, h, w, 3) uint8.
        kept: (batch_size,) bool, which slots hold a picture; local layers give no rows for others.
        slots: how many slots are read back, the first ones.
        decoded: pictures the device decoded already, in place of those in `inputs`.

    Raises:
        CardLost: the card does not answer any more.
        InputError: the batch does not fit into the card's memory.
    """
    try:
        with answering(backbone.device), nothing_refused(backbone.device):
            return _ask(backbone, inputs, kept, slots, decoded)
    except torch.OutOfMemoryError:
        shapes = " and ".join(f"{x.shape[1]} x {x.shape[2]}" for x in inputs.values())
    # Outside the except clause, whose error keeps memory alive.

    def attempt(size: int) -> None:
        fewer = {
            view: torch.zeros((size, *x.shape[1:]), dtype=x.dtype) for view, x in inputs.items()
        }
        with nothing_refused(backbone.device):
            _ask(backbone, fewer, torch.ones(size, dtype=torch.bool), size, {})

    raise too_large(backbone.device, backbone.spec.batch_size, shapes, attempt)


def _ask(
    backbone: Backbone,
    inputs: Mapping[View, Tensor],
    kept: Tensor,
    slots: int,
    decoded: Decoded,
) -> Pass:
    lane = backbone.lane
    found: dict[str, Tensor | UnitRows] = {}
    with torch.inference_mode():
        *pixels, on_device = lane.send([*inputs.values(), kept])
        with lane.computing():
            for slot, seen in decoded.items():
                for batch, picture in zip(pixels, seen, strict=True):
                    batch[slot] = picture
            for view, batch in zip(inputs, pixels, strict=True):
                outputs = backbone.forward(batch, view)
                for layer in backbone.spec.layers:
                    if layer.view != view:
                        continue
                    output = placed(outputs[layer.node], layer, batch.shape[1:3])
                    if layer.kind == "global":
                        found[layer.name] = pooled(output, layer)
                    else:
                        found[layer.name] = unit_rows(output, on_device)
                del outputs
        wanted: list[Tensor] = []
        for each in found.values():
            if isinstance(each, Tensor):
                wanted.append(each[:slots])
            else:
                most = slots * each.grid[0] * each.grid[1]
                wanted += [each.vectors[:most], each.positions[:most], each.count, each.sound]
        copied, arrived = lane.read(wanted)
    parts = iter(copied)
    copies = {
        name: next(parts)
        if isinstance(each, Tensor)
        else replace(
            each,
            vectors=next(parts),
            positions=next(parts),
            count=next(parts),
            sound=next(parts),
        )
        for name, each in found.items()
    }
    # Pixels too: the sending stream would reuse their memory while the network reads them.
    return Pass(backbone, copies, arrived, (found, pixels, decoded, on_device))
