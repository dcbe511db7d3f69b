"""Names that a person gives, in any case: which one is meant, and what to say of a wrong one."""

import difflib
from collections.abc import Collection, Sequence

from lamella.pipeline.errors import UnknownLayer, one_line
from lamella.pipeline.text import printable

MOST_NAMED = 10
"""The most names that a message lists."""


def meant(given: str, known: Collection[str]) -> str | None:
    """Return the known name that is meant, whatever its case; None if there is none, or several."""
    if given in known:
        return given
    same = [name for name in known if name.casefold() == given.casefold()]
    return same[0] if len(same) == 1 else None


def closest(given: str, known: Collection[str]) -> str | None:
    """Return the known name that is most like a wrong one, None if none is like it."""
    near = _nearest(given, known, most=1)
    return near[0] if near else None


def known_names(given: str, known: Collection[str]) -> str:
    """Return what a message says where a name is not known: "head, p15: did you mean head?"

    Of many names ten are listed: those like the wrong one if there are any, else the first.

    Args:
        given: the wrong name.
        known: the right ones, in their order.
    """
    listed = list(dict.fromkeys(known))
    more = len(listed) - MOST_NAMED
    if more > 0:
        like = _nearest(given, listed, most=MOST_NAMED)
        chosen = list(dict.fromkeys([*like, *listed]))[:MOST_NAMED]
        listed = [name for name in listed if name in chosen]
    said = ", ".join(printable(name) for name in listed) or "none"
    said += f" and {more:,} more" if more > 0 else ""
    near = closest(given, known)
    return said if near is None else f"{said}: did you mean {printable(near)}?"


def _nearest(given: str, known: Collection[str], most: int) -> list[str]:
    folded = {name.casefold(): name for name in reversed(list(known))}
    looked_for = given.casefold()[:200]  # the time grows with the length
    near = difflib.get_close_matches(looked_for, folded, n=most)
    return [folded[name] for name in near]


def shown(given: str) -> str:
    """Return a wrong name as a message quotes it."""
    return one_line(repr(given), 60)


def layers_meant(owner: str, given: Sequence[str], known: Collection[str]) -> list[str]:
    """Return the layers that names mean, whatever their case.

    Args:
        owner: what has the layers, such as "snapshot 3".

    Raises:
        UnknownLayer: it lacks some; the message names them all.
    """
    found = [meant(name, known) for name in given]
    wrong = [name for name, layer in zip(given, found, strict=True) if layer is None]
    if wrong:
        layer = f"layer{'s' if len(wrong) > 1 else ''} {' and '.join(map(shown, wrong))}"
        raise UnknownLayer(f"{owner} has no {layer}: it has {known_names(wrong[0], known)}")
    return [layer for layer in found if layer is not None]
