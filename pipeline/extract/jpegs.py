"""Recipe "torch-1": decode and resize plain JPEGs on the network's device.

By nvJPEG on a GPU and by libjpeg-turbo on a CPU, both through TorchCodec, and in this process,
without the protection of `pipeline/corpus/sandbox.py`. All other pictures go through the sandbox as
in "rgb-2"; JPEGs that the device's decoder cannot read go through it as in "rgb-1".
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from lamella.pipeline.corpus.decode import plain_jpeg_size
from lamella.pipeline.corpus.resize import Filter, Look
from lamella.pipeline.errors import InputError, one_line

Box = tuple[int, int, int, int]
"""Left, top, right, bottom, in pixels."""

MOST_PIXELS = 2**25
"""The most pixels of one picture. Larger ones go to the sandbox, which decodes to fewer pixels."""

MOST_PIXELS_AT_ONCE = 2**26
"""The most pixels decoded together: 192 MiB. Resizing takes 12 bytes more a pixel of a picture."""

MOST_TIMES = 32
"""The most times smaller along an axis; PyTorch's GPU kernel does 94."""

_STATUS = re.compile(r": (\d+)")
_BAD_FILE = {3, 4, 9, 10}
"""nvJPEG's statuses for files that are damaged, cut short, or of a kind it cannot read."""

_NO_MEMORY = 5


class Jpeg(NamedTuple):
    """A plain JPEG that is still to be decoded; whole: its (height, width); box: what is looked at.

    Only the file and the looks decide whether it is plain; this is part of the recipe.
    """

    data: bytes
    whole: tuple[int, int]
    box: Box
    looks: tuple[Look, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Return (height, width) of the box."""
        left, top, right, bottom = self.box
        return bottom - top, right - left


def plain_jpeg(
    data: bytes, size: tuple[int, int], looks: Sequence[Look], box: Box | None
) -> Jpeg | None:
    """Return a JPEG for the device to decode, None for a picture that the sandbox decodes.

    Args:
        size: expected (height, width) of the picture, or of its box.
        box: the part that the looks are at; None for all.
    """
    whole = plain_jpeg_size(data)
    if whole is None or whole[0] * whole[1] > MOST_PIXELS:
        return None
    left, top, right, bottom = box or (0, 0, whole[1], whole[0])
    jpeg = Jpeg(data, whole, (left, top, min(right, whole[1]), min(bottom, whole[0])), tuple(looks))
    times = max(max(size[0] / look.height, size[1] / look.width) for look in looks)
    return jpeg if jpeg.size == size and times <= MOST_TIMES else None


def decode_jpegs(jpegs: Sequence[Jpeg], device: torch.device) -> list[list[Tensor] | None]:
    """Return the pixels of each look at each picture: (h, w, 3) uint8 RGB on the device.

    None for a picture that the decoder cannot read, or decodes to another size than the header's.

    Raises:
        InputError: the device has too little memory.
    """
    found: list[list[Tensor] | None] = []
    with torch.inference_mode():
        for part in _parts(jpegs):
            for pixels, jpeg in zip(_decode(part, device), part, strict=True):
                if pixels is None or pixels.shape[1:] != jpeg.whole:
                    found.append(None)
                    continue
                try:
                    found.append(_looks_at(pixels, jpeg))
                except torch.OutOfMemoryError as error:
                    raise _too_little_memory(jpeg, device, error) from error
    return found


def check_decoder() -> None:
    """Check that TorchCodec can be loaded.

    Raises:
        InputError: it cannot.
    """
    try:
        import torchcodec.decoders  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        raise InputError(
            f'rgb_recipe = "torch-1" decodes with TorchCodec, which cannot be loaded here '
            f"({one_line(error)}): pip install 'lamella[gpu]', or take rgb_recipe = \"rgb-2\""
        ) from error


def _parts(jpegs: Sequence[Jpeg]) -> Iterator[list[Jpeg]]:
    """Yield runs of pictures that are decoded together."""
    part: list[Jpeg] = []
    pixels = 0
    for jpeg in jpegs:
        height, width = jpeg.whole
        if part and pixels + height * width > MOST_PIXELS_AT_ONCE:
            yield part
            part, pixels = [], 0
        part.append(jpeg)
        pixels += height * width
    if part:
        yield part


def _decode(jpegs: Sequence[Jpeg], device: torch.device) -> list[Tensor | None]:
    """Return the pixels (3, H, W) of each picture, upright, None where it cannot be read."""
    # Imported on first use: few jobs need it, and loading takes time.
    from torchcodec.decoders import decode_jpeg  # type: ignore[attr-defined]

    try:
        # Copies, as a tensor cannot be read-only.
        data = [torch.frombuffer(bytearray(jpeg.data), dtype=torch.uint8) for jpeg in jpegs]
        return list(decode_jpeg(data, mode="RGB", device=device))
    except RuntimeError as error:
        if len(jpegs) > 1:
            return [pixels for jpeg in jpegs for pixels in _decode([jpeg], device)]
        match _fault(error, device):
            case "file":
                return [None]
            case "memory":
                raise _too_little_memory(jpegs[0], device, error) from error
        raise


def _too_little_memory(jpeg: Jpeg, device: torch.device, error: RuntimeError) -> InputError:
    height, width = jpeg.whole
    return InputError(
        f"a JPEG of {width} x {height} cannot be decoded on {device}, which has too little memory "
        f'left ({one_line(error)}): take a smaller batch_size, or rgb_recipe = "rgb-2"'
    )


def _fault(error: RuntimeError, device: torch.device) -> str:
    """Return why decoding a picture failed: its `file`, too little `memory`, or `other`."""
    if isinstance(error, torch.OutOfMemoryError):
        return "memory"
    if device.type != "cuda":
        return "file"
    found = _STATUS.search(str(error))
    status = int(found[1]) if found else 0
    if status == _NO_MEMORY or "out of memory" in str(error):
        return "memory"
    return "file" if status in _BAD_FILE or "subsampling" in str(error) else "other"


def _looks_at(pixels: Tensor, jpeg: Jpeg) -> list[Tensor]:
    """Return the pixels of each look at a picture; all are made by one filter."""
    left, top, right, bottom = jpeg.box
    part = pixels[None, :, top:bottom, left:right]
    by_size: dict[tuple[int, int], Tensor] = {}
    seen: list[Tensor] = []
    for look in jpeg.looks:
        size = look.height, look.width
        if size not in by_size:
            by_size[size] = _resized(part, size, look.filter)
        rows = slice(look.top, look.top + look.cut_height)
        columns = slice(look.left, look.left + look.cut_width)
        seen.append(by_size[size][0, :, rows, columns].permute(1, 2, 0))
    return seen


def _resized(pixels: Tensor, size: tuple[int, int], by: Filter = "bilinear") -> Tensor:
    if pixels.shape[2:] == size:
        return pixels
    if pixels.device.type != "cuda":
        return interpolate(pixels, size, mode=by, antialias=True)
    # The GPU's kernel does not take bytes, and the bicubic filter leaves their range.
    floats = interpolate(pixels.float(), size, mode=by, antialias=True)
    return floats.round_().clamp_(0, 255).to(torch.uint8)
