"""Match the names of a ground truth, which have no folder and no ending, with a corpus."""

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from lamella.pipeline.errors import InputError

SHOWN_FOLDERS = 5


def stem_of(name: str) -> str:
    """Return a name without folders and ending, as `PurePosixPath.stem`, for millions of names."""
    last = name.rpartition("/")[2]
    dot = last.rfind(".")
    return last[:dot] if 0 < dot < len(last) - 1 else last


def stems(names: Iterable[str]) -> list[str]:
    """Return the names without folders and endings."""
    return list(map(stem_of, names))


def inside(names: Sequence[str], folder: str | None) -> list[str]:
    """Return the names below a folder of the corpus, all without one.

    Raises:
        InputError: none lies there.
    """
    if folder is None:
        return list(names)
    start = f"{PurePosixPath(folder)}/"
    found = [name for name in names if name.startswith(start)]
    if not found:
        tops = sorted({f"{PurePosixPath(name).parts[0]}/" for name in names if "/" in name})
        shown = ", ".join(tops[:SHOWN_FOLDERS]) + (", ..." if len(tops) > SHOWN_FOLDERS else "")
        raise InputError(
            f"--within is a folder of the corpus; 0 of {len(names):,} names begin with {start}: "
            f"give one of {shown or 'none, for all pictures lie in the source itself'}"
        )
    return found


def unique(names: Sequence[str], wanted: Iterable[str]) -> dict[str, str]:
    """Return stem -> name of the wanted stems.

    Raises:
        InputError: two names for one of them.
    """
    wanted = wanted if isinstance(wanted, frozenset | set | dict) else set(wanted)
    by_stem: dict[str, str] = {}
    for stem, name in zip(stems(names), names, strict=True):
        if stem not in wanted:
            continue
        if stem in by_stem:
            raise InputError(
                f"a picture of the ground truth stands once in the corpus; {stem} is both "
                f"{by_stem[stem]} and {name}: {_way_out(names, wanted, by_stem[stem], name)}"
            )
        by_stem[stem] = name
    return by_stem


def _way_out(names: Sequence[str], wanted: Container[str], first: str, second: str) -> str:
    """Return how to have one of two names: by the folder that holds most of what is wanted."""
    tops = Counter(
        PurePosixPath(name).parts[0] for name in names if "/" in name and stem_of(name) in wanted
    )
    folders = [
        *(PurePosixPath(top) for top, _ in tops.most_common(1)),
        *reversed(PurePosixPath(first).parents[:-1]),
        *reversed(PurePosixPath(second).parents[:-1]),
    ]
    for folder in folders:
        if first.startswith(f"{folder}/") != second.startswith(f"{folder}/"):
            return f"say which folder is the data set's, such as --within {folder}/"
    if folders and not first.startswith(f"{folders[0]}/"):
        return f"say which folder is the data set's, such as --within {folders[0]}/"
    return "index one of them"


def split(
    wanted: Iterable[str], by_stem: Mapping[str, str]
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the corpus names of the stems that are there, and the stems that are not."""
    wanted = set(wanted)
    there = {stem for stem in wanted if stem in by_stem}
    return frozenset(by_stem[stem] for stem in there), frozenset(wanted - there)
