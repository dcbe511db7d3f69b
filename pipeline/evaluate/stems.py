"""Match the names of a ground truth, which have no folder and no ending, with a corpus."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from lamella.pipeline.errors import InputError


def stems(names: Iterable[str]) -> list[str]:
    """Return the names without folders and endings."""
    return [PurePosixPath(name).stem for name in names]


def unique(names: Sequence[str], wanted: Iterable[str]) -> dict[str, str]:
    """Return stem -> name of the wanted stems.

    Raises:
        InputError: two names for one of them.
    """
    wanted = set(wanted)
    by_stem: dict[str, str] = {}
    for stem, name in zip(stems(names), names, strict=True):
        if stem not in wanted:
            continue
        if stem in by_stem:
            raise InputError(
                f"a picture of the ground truth stands once in the corpus; {stem} is both "
                f"{by_stem[stem]} and {name}: index one of them"
            )
        by_stem[stem] = name
    return by_stem


def split(
    wanted: Iterable[str], by_stem: Mapping[str, str]
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the corpus names of the stems that are there, and the stems that are not."""
    wanted = set(wanted)
    there = {stem for stem in wanted if stem in by_stem}
    return frozenset(by_stem[stem] for stem in there), frozenset(wanted - there)
