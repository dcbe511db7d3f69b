"""`forget --check`: read everything in a store, and name what is left of a picture."""

from dataclasses import dataclass

from pyarrow import ArrowException

from lamella.pipeline.corpus.forgotten import read_forgotten
from lamella.pipeline.corpus.identity import image_id_of
from lamella.pipeline.errors import MissingFile
from lamella.pipeline.run.drive import OnProgress, Progress, quiet
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.upkeep.contents import Wanted
from lamella.pipeline.upkeep.traces import fetched


@dataclass(frozen=True)
class Left:
    """A file, and what it holds: `its name`, `its id`, `its hash`, or why it cannot be said."""

    path: str
    holds: str


def check_forgotten(
    store: Store,
    *,
    name: str | None = None,
    sha256: str | None = None,
    on_progress: OnProgress = quiet,
) -> list[Left]:
    """Return the files of a store that hold something of a picture.

    Name and hash together give its id too, which is looked for as well. Without either, everything
    that was ever forgotten is looked for, by the digest of each name and hash in the store. A
    thumbnail is known by the name beside it.

    Args:
        sha256: in small hex.
    """
    names = frozenset([name] if name is not None else [])
    hashes = frozenset([sha256] if sha256 is not None else [])
    ids: set[int] = set()
    if name is not None and sha256 is not None:
        ids.add(image_id_of("", name, bytes.fromhex(sha256)))
    keys = frozenset(() if names or hashes else read_forgotten(store))
    wanted = Wanted(names, hashes, frozenset(ids), keys)
    left: list[Left] = []
    files = sorted(store.walk(), key=lambda file: file.path)
    for number, file in enumerate(files):
        if not file.problem and (holds := look_into(store, file.path, wanted)) is not None:
            left.append(Left(file.path, holds))
        on_progress(Progress("check", number + 1, len(files), number + 1, len(files)))
    return left


def look_into(store: Store, path: str, wanted: Wanted) -> str | None:
    """Return what a stored file holds of a picture, None for nothing."""
    try:
        with fetched(store, path) as local:
            return wanted.found_in(local, path.rpartition(".")[2])
    except MissingFile:
        return None
    except (ValueError, OSError, ArrowException):
        return "what cannot be read, for it is damaged"
