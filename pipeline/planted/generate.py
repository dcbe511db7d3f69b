"""Write the planted corpus: a sub-folder an object, a JPEG a view."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lamella.pipeline.errors import InputError
from lamella.pipeline.planted.photographs import choose_objects, load_photographs
from lamella.pipeline.planted.views import draw_view


@dataclass(frozen=True)
class PlantedCorpus:
    """The folder and the size of a planted corpus."""

    folder: Path
    objects: int
    views: int
    pictures: int


def generate(
    folder: Path,
    *,
    objects: int = 100,
    views: int = 4,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> PlantedCorpus:
    """Write a corpus with known truth and return what it holds.

    The views of object 7 are `object_0007/view_0.jpg`, `object_0007/view_1.jpg` and so on: the
    pictures in one sub-folder are each other's matches, and no others are. A view depends on the
    seed alone, and not on how many others are made.

    Args:
        folder: absent or empty. It appears whole at the end, so a killed run leaves none.
        objects: how many, at least 1; the photographs hold a few more than 100.
        views: how many of each object, at least 1; beyond four the kinds of view come again.
        seed: at least 0.
        on_progress: called after each picture with the numbers of pictures done and in all.

    Raises:
        InputError: the folder is not empty, a photograph is missing, or the photographs have fewer
            objects.
    """
    if objects < 1 or views < 1 or seed < 0:
        raise InputError(
            f"objects and views must be at least 1 and seed at least 0, not {objects}, {views}"
            f" and {seed}: change what is out of range"
        )
    target = folder.resolve()
    _refuse_unless_free(target)
    photographs = load_photographs()
    patches = choose_objects(photographs, objects)
    pictures = objects * views
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target: a rename is one step only inside one file system.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.partial-") as made:
        whole = Path(made) / "whole"
        for number, patch in enumerate(patches):
            group = whole / f"object_{number:04d}"
            group.mkdir(parents=True)
            for view in range(views):
                rng = np.random.default_rng([seed, number, view])
                picture = draw_view(photographs, patch, view, rng)
                (group / f"view_{view}.jpg").write_bytes(picture)
                if on_progress is not None:
                    on_progress(number * views + view + 1, pictures)
        _refuse_unless_free(target)
        try:
            whole.replace(target)
        except OSError as error:
            raise InputError(
                f"the corpus could not be moved to {target}, it appears in one step or not at all"
                f" ({error.strerror}): give a folder that does not exist"
            ) from error
    return PlantedCorpus(folder=folder, objects=objects, views=views, pictures=pictures)


def generate_pictures(folder: Path, pictures: int) -> PlantedCorpus:
    """Write a corpus of at least `pictures` pictures and at most 100 objects, as `generate`."""
    objects = min(100, -(-pictures // 4))
    return generate(folder, objects=objects, views=-(-pictures // objects))


def _refuse_unless_free(target: Path) -> None:
    """Raise InputError unless the target is absent or an empty folder."""
    if target.is_dir():
        held = sum(1 for _ in target.iterdir())
        if held:
            raise InputError(
                f"a planted corpus is written into an absent or empty folder, {target} holds"
                f" {held:,} entries: give another folder or empty this one"
            )
    elif target.exists():
        raise InputError(
            f"a planted corpus is written into a folder, {target} is a file: give another path"
        )
