"""Thumbnails of pictures by name, from whichever side of a comparison has them."""

from collections.abc import Sequence

from lamella.pipeline.errors import InputError
from lamella.pipeline.jobs.compare_sides import Side
from lamella.pipeline.jobs.thumbnails import thumbnail
from lamella.pipeline.run.drive import OnProgress, Progress, quiet
from lamella.pipeline.search.names import ImageTable


def thumbnails_by_name(
    sides: Sequence[Side],
    names: Sequence[str],
    pictures: str | None = None,
    on_progress: OnProgress = quiet,
) -> tuple[dict[str, bytes], str]:
    """Return small JPEGs by name, and why there are none, if so.

    B's picture is taken before A's. One that is gone or cannot be read is left out.

    Args:
        sides: A and B.
        pictures: the source of the pictures as the user names it now, where it is named.
    """
    found: dict[str, bytes] = {}
    why = "neither side says where its pictures are"
    for side in reversed(sides):
        if side.corpus is None or side.store is None or side.snapshot is None:
            continue
        table = ImageTable(side.store, side.snapshot, pictures=pictures)
        wanted = [name for name in names if name not in found and name in side.corpus]
        try:
            for place, name in enumerate(wanted, start=1):
                data = table.picture_bytes(side.corpus[name])
                small = thumbnail(data) if data is not None else None
                if small is not None:
                    found[name] = small
                on_progress(Progress(f"draw {side.label}", place, len(wanted), place, len(wanted)))
            why = "none of them can be read where they were indexed; --pictures says where they are"
        except InputError as error:
            why = str(error)
    return found, "" if found or not names else f"the page shows no pictures: {why}"
