"""The blocks of the EfficientNet-Lite networks as numbers, for names of layers need no torch."""

import math
from dataclasses import dataclass

STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
CLASSES = 1000
WIDTH_MULTIPLE = 8
# (repeats, kernel, stride of the first, expansion, output channels): Table 1 of Tan and Le 2019.
# Lite drops squeeze-and-excitation, uses ReLU6 throughout, and never scales the stem and the head.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# (width, depth): what output channels and repeats are multiplied by.
SCALES = {
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
}


@dataclass(frozen=True)
class BlockShape:
    """One block: expand by 1 x 1, filter each channel by kernel x kernel, project by 1 x 1."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    expansion: int

    @property
    def adds(self) -> bool:
        """Whether the input is added to the projected output."""
        return self.stride == 1 and self.inputs == self.outputs

    @property
    def output(self) -> str:
        """The name, within the block, of what it gives."""
        return "add" if self.adds else "project"


def block_shapes(network: str) -> tuple[BlockShape, ...]:
    """Return the blocks of a network of `SCALES`, in order; KeyError for another."""
    width, depth = SCALES[network]
    shapes: list[BlockShape] = []
    inputs = STEM_CHANNELS
    for number, (repeats, kernel, stride, expansion, channels) in enumerate(STAGES):
        outputs = _scaled_width(channels, width)
        if number not in (0, len(STAGES) - 1):  # Lite leaves the first and the last as they are
            repeats = math.ceil(repeats * depth)
        for repeat in range(repeats):
            step = stride if repeat == 0 else 1
            shapes.append(BlockShape(inputs, outputs, kernel, step, expansion))
            inputs = outputs
    return tuple(shapes)


def _scaled_width(channels: int, width: float) -> int:
    """Return the multiple of 8 nearest to channels * width, and no more than a tenth below it."""
    wanted = channels * width
    rounded = int(wanted + WIDTH_MULTIPLE / 2) // WIDTH_MULTIPLE * WIDTH_MULTIPLE
    rounded = max(WIDTH_MULTIPLE, rounded)
    return rounded + WIDTH_MULTIPLE if rounded < 0.9 * wanted else rounded
