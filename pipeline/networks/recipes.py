"""What libraries say of a network's pictures, in the terms of `PreprocessSpec`."""

from collections.abc import Sequence

from lamella.pipeline.errors import InputError
from lamella.pipeline.networks.foreign import Foreign
from lamella.schemas.extraction import PreprocessSpec, Resampling
from lamella.schemas.job import PreprocessSettings

FILTERS: dict[str, Resampling] = {
    "bilinear": "pillow-bilinear-1",
    "bicubic": "pillow-bicubic-1",
}


def in_bytes(numbers: Sequence[float]) -> tuple[float, ...]:
    """Return a mean or deviation of pixels from 0 to 1 for pixels from 0 to 255."""
    return tuple(float(f"{255 * each:.6g}") for each in numbers)


def edge_of(height: int, width: int, unclear: dict[str, str]) -> int:
    """Return the edge of a network's square input; what is not square is noted as unclear."""
    if height != width:
        unclear["crop"] = f"its pictures are {width} x {height} pixels, and not square"
    return int(min(height, width))


def preprocess_of(network: Foreign, settings: PreprocessSettings) -> PreprocessSpec:
    """Return how pictures are shown to a network: as its library says, or as the user does.

    Raises:
        InputError: the library says what cannot be done, and the user says nothing instead.
    """
    said = settings.model_dump(exclude_none=True)
    for name, why in network.recipe.unclear.items():
        if name not in said:
            raise InputError(
                f"{network.name}: {why}, which is not done here: set network.preprocess.{name} "
                "in a job file yourself"
            )
    recipe = dict(network.recipe.settings) | said
    if "crop" in said and "short_edge" not in said:
        own = PreprocessSpec(**network.recipe.settings)
        recipe["short_edge"] = said["crop"] * own.short_edge // own.crop
    return PreprocessSpec(**recipe)
