"""Count by kind, and describe, the files that are not pictures."""

import re
import shlex
from collections import Counter
from collections.abc import Mapping

HIDDEN = "hidden"
FOLDER_LINKS = "links to folders"
LINKS = "links that lead nowhere in here"
NO_FILES = "pipes, sockets and devices"
UNREADABLE = "not readable"
TABLES = "parquet beside their tars"
NO_ENDING = "no ending"
STORES = "parts of a Lamella store"
UNDERLINED = "parquet of names with _ in front"
FORGOTTEN = "forgotten on request"
OTHERS = "other endings"

MOST_KINDS = 24
"""The most endings counted apart in a source; a hostile one could have millions."""

_ENDING = re.compile(r"[^./]\.((?:tar\.)?[a-z0-9_+-]{1,12})$", re.IGNORECASE)
_CONTAINERS = {
    "tar": ("tar", "tars"),
    "parquet": ("Parquet file", "Parquet files"),
    "pq": ("Parquet file", "Parquet files"),
    "lst": ("list", "lists"),
}
_PACKED = frozenset(
    {"zip", "7z", "rar", "tgz", "tbz", "tbz2", "txz", "tzst", "zst"}
    | {f"tar.{how}" for how in ("gz", "bz2", "xz", "zst", "lz4", "lzma", "z")}
)


def kind_of(name: str) -> str:
    """Return the kind of a file by its name: its ending in small letters."""
    match = _ENDING.search(name)
    return match[1].lower() if match else NO_ENDING


def few_kinds(counted: Mapping[str, int]) -> Counter[str]:
    """Return counts by kind, with the rarest together where there are too many kinds."""
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    kept = Counter(dict(ranked[:MOST_KINDS]))
    if rest := sum(count for _, count in ranked[MOST_KINDS:]):
        kept[OTHERS] += rest
    return Counter(dict(sorted(kept.items())))


def in_words(counted: Mapping[str, int]) -> str:
    """Return counts by kind as one line, the largest first; "" for none."""
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {kind}" for kind, count in ranked)


def links_out(count: int, root: str) -> str:
    """Return what to do about links to files outside a folder, as Hugging Face and DVC make them.

    Args:
        root: the folder.
    """
    links, lead = ("link leads", "is") if count == 1 else ("links lead", "are")
    return (
        f"{count:,} {links} out of the folder, as in a cache of Hugging Face or a tree of DVC, and "
        f"{lead} refused, for whoever can write there could show any file of this machine: name "
        f"the pictures in a list, which may lead anywhere (find -L {shlex.quote(root)} -type f "
        "-iname '*.jpg' > pictures.txt), and index that; or index the folder they lead to"
    )


def advice(counted: Mapping[str, int]) -> str | None:
    """Return advice where files passed over may hold pictures; None where they do not.

    Args:
        counted: by kind, what was passed over in a source.
    """
    found: Counter[tuple[str, str]] = Counter()
    for kind, count in counted.items():
        if kind in _CONTAINERS:
            found[_CONTAINERS[kind]] += count
        elif kind in _PACKED:
            found["compressed archive", "compressed archives"] += count
    if not found:
        return None
    parts = [f"{count:,} {names[count > 1]}" for names, count in sorted(found.items())]
    were = "was" if found.total() == 1 else "were"
    return (
        f"{' and '.join(parts)} {were} passed over, with the pictures that may be in there: a "
        "folder is read as a data set only if it holds tars alone or Parquet files alone, beside "
        "notes. Index them by themselves, or move them into a folder of their own (unpack what "
        "is compressed or lies inside a tar)"
    )
