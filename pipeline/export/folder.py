"""A folder that appears whole: written beside its place, and moved there in one step."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lamella.pipeline.errors import DoesNotFit, InputError
from lamella.pipeline.scratch import FULL, locked_folder, remove, remove_left_overs


def check_free(target: Path) -> None:
    """Check that a folder can be made at a place.

    Raises:
        InputError: something is there that is not an empty folder.
    """
    if target.is_dir():
        held = sum(1 for _ in target.iterdir())
        if held:
            raise InputError(
                f"an export goes into a new or empty folder, and {target} holds {held:,} entries: "
                "give another folder, or empty this one"
            )
    elif target.exists() or target.is_symlink():
        raise InputError(f"an export goes into a folder, and {target} is a file: give another path")


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder, which becomes `target` once the block has ended.

    If it fails or is stopped, nothing stands under that name. What a killed process left beside it
    is removed by the next one.

    Raises:
        InputError: something is at `target`, or no folder can be made there.
        DoesNotFit: the disk became full.
    """
    target = target.absolute()
    check_free(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_left_overs(target.parent)
        folder, lock = locked_folder("lamella-export-", target.parent, must_lock=False)
    except OSError as error:
        raise InputError(
            f"no folder can be made in {target.parent} ({error.strerror}): make it writable, or "
            "give another --to"
        ) from error
    try:
        made = folder / "files"
        made.mkdir()
        yield made
        check_free(target)
        made.replace(target)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise DoesNotFit(
            f"the disk of {target.parent} is full ({error.strerror}), and nothing was exported: "
            "free space, or export to another disk"
        ) from error
    finally:
        remove(folder)
        os.close(lock)
