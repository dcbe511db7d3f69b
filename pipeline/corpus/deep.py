"""Decode 16-bit samples: find white, and keep the low bytes of colours, which Pillow drops.

Cameras and microscopes write 10 or 12 bits into 16; read as 16 bits such a picture is nearly black.
White is TIFF's MaxSampleValue where that tag is a whole number of bits; else 255, 1023 or 4095
where all values of the picture fit in 8, 10 or 12 bits; else 65535. PNG's sBIT does not matter: by
the standard values fill all 16 bits, however many are significant.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

from lamella.pipeline.arrays import UInt16s
from lamella.pipeline.corpus.refused import Refused
from lamella.schemas.refusals import RefusalReason

_WHITE_IS_ZERO, _PHOTOMETRIC, _BITS, _MOST, _PLANAR, _MOST_OF_ANY = 0, 262, 258, 281, 284, 341
_WHOLE_BITS = frozenset((1 << bits) - 1 for bits in range(8, 16))
_FEW_BITS = (8, 10, 12)
_DIM = (1 << _FEW_BITS[-1]) - 1
_FEW_BITS_IN_PLANES = "a TIFF of 16-bit samples plane by plane that use 12 bits or fewer"
_ROWS_AT_ONCE = 64
_OTHER_ORDER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}


def white_of(most: int, said: int | None = None) -> int:
    """Return the 16-bit value of white, given the picture's largest value and that of a tag."""
    if said in _WHOLE_BITS and most <= said:
        return said
    return next(((1 << bits) - 1 for bits in _FEW_BITS if most < 1 << bits), 65535)


def grey_of(image: ImageFile.ImageFile) -> Image.Image:
    """Return a loaded picture of grey above 8 bits as RGB: scaled to 255 and rounded."""
    values = np.asarray(image)
    most, white, inverted = int(values.max()), 65535, False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(_BITS, (16,))[0]
        white = white_of(most, _said(image)) if bits == 16 else (1 << bits) - 1
        inverted = image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    elif image.mode != "I":  # a portable anymap declares white, and is scaled already
        white = white_of(most)
    grey = _scaled(values, white)
    if inverted:
        grey = 255 - grey
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def layout_of(image: ImageFile.ImageFile) -> str | None:
    """Return how colour of 16 bits is laid out in a picture not yet loaded; None for all else."""
    layouts = {_raw_mode(tile.args) for tile in image.tile}
    layout = layouts.pop() if len(layouts) == 1 else ""
    return layout if ";16" in layout and not layout.startswith("I") else None


def deepened(
    image: ImageFile.ImageFile, layout: str, again: Callable[[], ImageFile.ImageFile]
) -> Image.Image:
    """Return a loaded picture of 16 bits a colour in 8, scaled where its values are few.

    Otherwise Pillow's high bytes are kept. The transparent colour is matched with all 16 bits.

    Args:
        layout: as `layout_of` gave it.
        again: opens the same picture once more.

    Raises:
        Refused: its values are few, and lie in a TIFF plane by plane.
    """
    said = _said(image) if isinstance(image, TiffImagePlugin.TiffImageFile) else None
    associated = layout.startswith("RGBa")
    bands = 4 if image.mode == "CMYK" else 3
    highest = [int(band.max()) for band in np.asarray(image).reshape(-1, len(image.getbands())).T]
    if _is_planar(image):
        # Of planes Pillow always gives the high bytes alone, and colours already divided by an
        # associated alpha: then alpha decides.
        if said is not None or max(highest[3:] if associated else highest[:bands]) <= _DIM >> 8:
            raise Refused(RefusalReason.UNSUPPORTED_FORMAT, _FEW_BITS_IN_PLANES)
        return image
    see_through = image.info.get("transparency")
    sought = associated or said is not None or isinstance(see_through, tuple)
    if not sought and max(highest[:bands]) > _DIM >> 8:
        return image
    samples = _all_bits(layout, again)
    colours = samples[..., : 1 if layout.startswith("LA") else bands]
    white = white_of(int(colours.max()), said)
    result: Image.Image = image
    if white < 65535:
        result = _in_eight_bits(samples, colours.shape[2], white, associated)
    if isinstance(see_through, tuple):
        clear = (samples == np.array(see_through, np.uint16)).all(axis=2)
        result = Image.fromarray(
            np.where(clear[..., None], 255, np.asarray(result)).astype(np.uint8)
        )
    return result


def _in_eight_bits(samples: UInt16s, colours: int, white: int, associated: bool) -> Image.Image:
    """Return samples whose first ones are colours and whose fourth may be alpha, or an ink."""
    if samples.shape[2] == colours:
        return Image.fromarray(_scaled(samples, white), "CMYK" if colours == 4 else None)
    most = int(samples[..., colours:].max())
    white = max(white, white_of(most)) if most <= _DIM else white
    clear = white if most <= white else 65535
    together = np.empty(samples.shape, np.uint8)
    for start in range(0, len(samples), _ROWS_AT_ONCE):
        rows = samples[start : start + _ROWS_AT_ONCE].astype(np.uint32)
        colour, alpha = rows[..., :colours], rows[..., colours:]
        if associated:
            colour = np.minimum(colour * clear // np.maximum(alpha, 1), white)
        done = together[start : start + _ROWS_AT_ONCE]
        done[..., :colours], done[..., colours:] = _scaled(colour, white), _scaled(alpha, clear)
    return Image.fromarray(together, "LA" if colours == 1 else "RGBA")


def _scaled(values: NDArray[Any], white: int) -> NDArray[np.uint8]:
    """Return 0 to white as 0 to 255, rounded: of 65535, 257 gives 1 and 128 gives 0."""
    scaled = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), _ROWS_AT_ONCE):
        rows = np.minimum(values[start : start + _ROWS_AT_ONCE], white).astype(np.uint32)
        scaled[start : start + _ROWS_AT_ONCE] = (rows * 255 + white // 2) // white
    return scaled


def _all_bits(layout: str, again: Callable[[], ImageFile.ImageFile]) -> UInt16s:
    """Return samples (H, W, S): two of RGB and two of RGBA hold one of 16 bits.

    Pillow drops the low byte of each sample or, if told the other byte order, the high one.
    """
    if layout == "LA;16B":
        pairs = np.asarray(_loaded(again(), "RGBA"))
        return _joined(pairs[..., ::2], pairs[..., 1::2])
    layout = layout.replace("RGBa", "RGBA")
    high, low = (
        np.asarray(_loaded(again(), raw))
        for raw in (layout, layout[:-1] + _OTHER_ORDER[layout[-1]])
    )
    return _joined(high, low)


def _joined(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> UInt16s:
    return np.left_shift(high, 8, dtype=np.uint16) | low


def _loaded(image: ImageFile.ImageFile, raw_mode: str) -> Image.Image:
    image.tile = [tile._replace(args=_with(raw_mode, tile.args)) for tile in image.tile]
    image.load()
    return image


def _with(raw_mode: str, args: Any) -> Any:
    return raw_mode if isinstance(args, str) else (raw_mode, *args[1:])


def _is_planar(image: ImageFile.ImageFile) -> bool:
    return isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PLANAR, 1) == 2


def _raw_mode(args: Any) -> str:
    return args if isinstance(args, str) else str(args[0]) if args else ""


def _said(image: TiffImagePlugin.TiffImageFile) -> int | None:
    """Return the largest value that a TIFF's tags name, where that is a whole number of bits."""
    for tag in (_MOST, _MOST_OF_ANY):
        value = image.tag_v2.get(tag)
        found = value if isinstance(value, tuple) else (value,)
        if all(each in _WHOLE_BITS for each in found):
            return int(max(found))
    return None
