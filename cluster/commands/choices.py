"""Options that take one of some names, in any case: help shows the names, and shells offer them."""

from collections.abc import Callable, Collection
from typing import Any

import typer

from lamella.pipeline.errors import InputError
from lamella.pipeline.names import known_names, meant, shown


def choice(option: str, known: Collection[str], **more: Any) -> Any:
    """Return an option whose value is one of some names, as they are written here.

    Args:
        known: the names, such as those of a `Literal`.
        more: what else `typer.Option` takes.
    """

    def parse(given: str) -> str:
        found = meant(given, known)
        if found is None:
            raise InputError(f"{option} {shown(given)} is none of {known_names(given, known)}")
        return found

    return typer.Option(
        option,
        parser=parse,
        autocompletion=offering(lambda: known),
        metavar="|".join(known),
        **more,
    )


def offering(known: Callable[[], Collection[str]]) -> Callable[[str], list[str]]:
    """Return what a shell offers for the beginning of a name."""

    def offer(incomplete: str) -> list[str]:
        return [name for name in known() if name.startswith(incomplete)]

    return offer
