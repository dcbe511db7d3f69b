"""The photographs in scikit-image's wheel, and the objects cut from them.

An object is a patch of a photograph. Several come from the same one (coins of one tray, parts of
one motorcycle), so they are of one kind, while only its own views match each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from lamella.pipeline.errors import InputError

PHOTOGRAPHS = (
    "astronaut.png",
    "motorcycle_left.png",
    "coffee.png",
    "chelsea.png",
    "rocket.jpg",
    "ihc.png",
    "camera.png",
    "coins.png",
    "hubble_deep_field.jpg",
    "retina.jpg",
    "moon.png",
    "gravel.png",
    "brick.png",
    "grass.png",
    "text.png",
    "page.png",
)
"""Only files inside the wheel: others of `skimage.data` would be downloaded. The right view of the
motorcycle is left out, as it shows every object of the left one again.
"""

_AT_MOST = {
    "hubble_deep_field.jpg": 3,
    "gravel.png": 3,
    "brick.png": 3,
    "grass.png": 3,
    "retina.jpg": 5,
    "moon.png": 4,
    "ihc.png": 7,
}
"""Uniform textures: cut up whole, their look-alikes would outnumber all other errors."""

_INSTALL = "run `pip install lamella[demo]`"
_LONGEST_SIDE = 800
_CELL = 8
_PATCHES = ((192, 144), (144, 192), (160, 160), (144, 112), (112, 144), (120, 120), (104, 104))
# Below this, in grey levels, are sky and blurred ground: such patches all look the same.
_LEAST_TEXTURE = 3.0
# Above this, two objects overlap so much that each would be a right answer to the other.
_MOST_SHARED = 0.2


@dataclass(frozen=True)
class Patch:
    """A box in a photograph, in pixels; `photograph` is its index in `PHOTOGRAPHS`."""

    photograph: int
    left: int
    top: int
    width: int
    height: int

    def shared(self, other: "Patch") -> float:
        """Return the common area as a part of the smaller patch's area, from 0 to 1."""
        if self.photograph != other.photograph:
            return 0.0
        wide = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        high = min(self.top + self.height, other.top + other.height) - max(self.top, other.top)
        smaller = min(self.width * self.height, other.width * other.height)
        return max(wide, 0) * max(high, 0) / smaller

    def cut(self, photographs: Sequence[Image.Image]) -> Image.Image:
        """Return the pixels of the patch."""
        box = (self.left, self.top, self.left + self.width, self.top + self.height)
        return photographs[self.photograph].crop(box)


def data_folder() -> Path:
    """Return the folder of the installed scikit-image that holds its photographs.

    Raises:
        InputError: scikit-image is not installed.
    """
    try:
        import skimage
    except ImportError as error:
        raise InputError(
            f"the planted corpus is cut from photographs of scikit-image, not installed: {_INSTALL}"
        ) from error
    return Path(str(skimage.__file__)).parent / "data"


def load_photographs(folder: Path | None = None) -> list[Image.Image]:
    """Return the photographs as RGB, in the order of `PHOTOGRAPHS`, at most 800 pixels long.

    Args:
        folder: where the files lie; by default the data of the installed scikit-image.

    Raises:
        InputError: a file is missing; nothing is downloaded in its place.
    """
    folder = data_folder() if folder is None else folder
    photographs = []
    for name in PHOTOGRAPHS:
        try:
            with Image.open(folder / name) as stored:
                photograph = stored.convert("RGB")
        except FileNotFoundError as error:
            raise InputError(
                f"the planted corpus needs {name}, missing in {folder}: {_INSTALL}"
            ) from error
        # The two largest show no more than the others, only in more pixels.
        photograph.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS)
        photographs.append(photograph)
    return photographs


def choose_objects(photographs: Sequence[Image.Image], count: int) -> list[Patch]:
    """Return `count` patches with texture, hardly overlapping, the photographs taking turns.

    The choice depends on the photographs alone: the first n objects of a larger choice are the
    choice of n.

    Raises:
        InputError: the photographs have fewer objects.
    """
    own = [_cut_up(index, photograph) for index, photograph in enumerate(photographs)]
    turns = zip_longest(*own)
    objects = [patch for turn in turns for patch in turn if patch is not None]
    if len(objects) < count:
        raise InputError(
            f"the photographs hold {len(objects)} distinct objects, {count} were asked for:"
            f" ask for at most {len(objects)}"
        )
    return objects[:count]


def _cut_up(index: int, photograph: Image.Image) -> list[Patch]:
    """Return the objects of one photograph, its main subject first."""
    most = _AT_MOST.get(PHOTOGRAPHS[index])
    chosen: list[Patch] = []
    for patch in _candidates(index, photograph):
        if len(chosen) == most:
            break
        if all(patch.shared(other) <= _MOST_SHARED for other in chosen):
            chosen.append(patch)
    return chosen


def _candidates(index: int, photograph: Image.Image) -> list[Patch]:
    """Return the patches of a photograph that have texture, larger ones first, then by texture."""
    texture = _texture(photograph)
    sums = np.pad(texture, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    found: list[tuple[int, float, Patch]] = []
    for width, height in _PATCHES:
        wide, high = width // _CELL, height // _CELL
        if texture.shape[0] < high or texture.shape[1] < wide:
            continue
        means = (
            sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide] + sums[:-high, :-wide]
        )
        means /= wide * high
        # Large patches first: they hold the main subject, and small ones still fit between them.
        tier = 0 if width * height > 25_000 else 1 if width * height > 16_000 else 2
        for row, column in 2 * np.argwhere(means[::2, ::2] >= _LEAST_TEXTURE):
            patch = Patch(index, int(column) * _CELL, int(row) * _CELL, width, height)
            found.append((tier, -float(means[row, column]), patch))
    found.sort(key=lambda entry: (entry[0], entry[1], entry[2].top, entry[2].left))
    return [patch for _, _, patch in found]


def _texture(photograph: Image.Image) -> npt.NDArray[np.float64]:
    """Return the standard deviation of the luma in each cell of 8 x 8 pixels, (rows, columns)."""
    luma = np.asarray(photograph.convert("L"), dtype=np.float64)
    rows, columns = luma.shape[0] // _CELL, luma.shape[1] // _CELL
    cells = luma[: rows * _CELL, : columns * _CELL].reshape(rows, _CELL, columns, _CELL)
    return np.asarray(cells.std(axis=(1, 3)), dtype=np.float64)
