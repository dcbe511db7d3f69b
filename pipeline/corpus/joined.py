"""Several sources as one corpus: each has a name, and the names of its pictures begin with it.

Such a corpus has one text as its source, one as its root and one as its kind, like any other. Each
of them says it by source: `several:{"distractors":"/data/d","oxford":"/data/o"}`. The picture
`oxford/all_souls_000013.jpg` then is `all_souls_000013.jpg` under `/data/o`.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.store.address import is_s3

SIGN = "several:"
LONGEST_NAME = 64


def joined(parts: Mapping[str, str]) -> str:
    """Return one text for the sources, the roots or the kinds by the name of their source.

    It is in the order of the pictures' names, whatever the order of the parts.
    """
    ordered = dict(sorted(parts.items(), key=lambda part: f"{part[0]}/".encode()))
    return SIGN + json.dumps(ordered, ensure_ascii=False, separators=(",", ":"))


@lru_cache(64)
def parts_of(text: str) -> Mapping[str, str]:
    """Return the parts of a text by the name of their source; none where it speaks of one source.

    Raises:
        ValueError: it is damaged.
    """
    if not text.startswith(SIGN):
        return {}
    parts: dict[str, str] = json.loads(text[len(SIGN) :])
    sound = isinstance(parts, dict) and all(isinstance(each, str) for each in parts.values())
    if not sound or joined(parts) != text:
        raise ValueError(f"several sources are a name and a text each; got {one_line(text, 100)}")
    return parts


def part_for(text: str, name: str) -> tuple[str, str]:
    """Return what a text says of the source of a picture, and the picture's name within it.

    Args:
        text: a root or a kind; of one source, it is returned with the name as it is.
        name: of a picture or a container.

    Raises:
        ValueError: the name begins with that of no source.
    """
    if not text.startswith(SIGN):
        return text, name
    source, _, within = name.partition("/")
    if (part := parts_of(text).get(source)) is None:
        raise ValueError(f"{one_line(name, 100)} begins with the name of no source of {text}")
    return part, within


def any_in_s3(text: str) -> bool:
    """Say whether a source or a root is in S3, or one of several is."""
    return any(map(is_s3, parts_of(text).values())) or is_s3(text)


def all_in_s3(text: str) -> bool:
    """Say whether a source or a root is in S3, and of several all are."""
    parts = parts_of(text)
    return all(map(is_s3, parts.values())) if parts else is_s3(text)


def each_part(text: str, change: Callable[[str], str]) -> str:
    """Return a source with its place, or the places of several, changed."""
    parts = parts_of(text)
    return joined({name: change(part) for name, part in parts.items()}) if parts else change(text)


def shown(text: str) -> str:
    """Return a source or a root as people read it: "/data/o", "oxford=/data/o, web=/data/w"."""
    return ", ".join(f"{name}={part}" for name, part in parts_of(text).items()) or text


def source_of(given: Sequence[str]) -> str:
    """Return the source that a command line means: one as it is, several as one text.

    Each is a place, or NAME=PLACE. A place without a name is called by its last part: a folder
    `~/oxford` is `oxford`.

    Raises:
        InputError: there is none, a name is no name, or two have the same.
    """
    if not given:
        raise InputError("a corpus has a source: give a folder, or several")
    found = [_named(each) for each in given]
    if len(found) == 1 and found[0][0] is None:
        return found[0][1]
    parts: dict[str, str] = {}
    for said, place in found:
        name = said if said is not None else _last_part(place)
        _check_name(name, place)
        if name in parts:
            raise InputError(
                f"every source has a name of its own, with which the names of its pictures begin; "
                f"{parts[name]} and {place} are both called {name!r}: name them, as in "
                f"{name}={parts[name]} {name}-2={place}"
            )
        parts[name] = place
    return joined(parts)


def moved(root: str, told: str) -> str:
    """Return the places of several sources, where some are elsewhere now.

    Args:
        root: where they were.
        told: NAME=PLACE, several apart by commas; or the folder in which all of them lie by name.

    Raises:
        InputError: there is no source of such a name.
    """
    parts = dict(parts_of(root))
    pairs = [_named(each) for each in told.split(",")]
    if not all(name is not None for name, _ in pairs):
        return joined({name: f"{told.rstrip('/')}/{name}" for name in parts})
    for name, place in pairs:
        if name not in parts:
            raise InputError(
                f"the index has the sources {_listed(parts)}; --pictures names {name!r}: give "
                "NAME=PLACE for each that is elsewhere now, apart by commas"
            )
        parts[name] = place
    return joined(parts)


def _named(given: str) -> tuple[str | None, str]:
    """Return the name and the place of NAME=PLACE; None and the place where there is no name."""
    name, equals, place = given.partition("=")
    if not equals or not name or "/" in name or os.path.lexists(given):
        return None, given
    return name, place


def _last_part(place: str) -> str:
    last = os.path.basename(os.path.abspath(place) if "://" not in place else place.rstrip("/"))
    is_file = os.path.isfile(os.path.expanduser(place))
    return os.path.splitext(last)[0] if is_file else last


def _check_name(name: str, place: str) -> None:
    sound = name.isprintable() and name.strip() == name and name not in ("", ".", "..")
    if not sound or len(name) > LONGEST_NAME or any(sign in name for sign in "/,="):
        raise InputError(
            f"the name of a source has 1 to {LONGEST_NAME} letters, digits and signs, without / , "
            f"and =; {place} is called {one_line(repr(name), 100)}: give NAME=PLACE"
        )


def _listed(parts: Iterable[str]) -> str:
    return ", ".join(repr(each) for each in parts)
