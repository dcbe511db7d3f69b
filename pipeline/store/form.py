"""Forms of paths in a store: a template with named parts that makes paths and reads them back."""

import re
from dataclasses import dataclass
from functools import cached_property

_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,39}"
"""What `slug` returns: at most 40 characters, not beginning with a dot or a dash."""

_KEYED = rf"{_NAME}-[0-9a-f]{{12}}"
"""What `tree.keyed` returns: a name and 12 hex digits of a digest."""

_PARTS = {
    "keyed": _KEYED,
    "layer": _NAME,
    "run": rf"(?:{_NAME}|{_KEYED})",
    "number": r"\d{6,}",
    "round": r"\d{5,}",
    "key": r"[a-z0-9][a-z0-9-]*",
    "token": r"[0-9a-f]{12}",
    "picture": r"[0-9a-f]{32}",
    "tag": r"[A-Za-z][A-Za-z0-9._-]{0,39}",
    "by": r"name|sha256",
    "job": r"\d{8}T\d{6}Z-[0-9a-f]{8}",
    "digest": r"[0-9a-f]{64}",
    "suffix": r"[a-z0-9-]+(?:\.[a-z0-9-]+)*",
}
"""The named parts that a form may have, each with the regular expression it must match.

To use a new part in a form, add it here.
"""


def slug(name: str) -> str:
    """Return a readable, safe part of a path: letters, digits, dots, underscores and dashes."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.")[:40] or "unnamed"


_DIGITS = {"number": 6, "round": 5}
"""The parts that are numbers, with the digits that each has at least."""


def _written(part: str, value: str | int) -> str:
    """Return a part as paths have it: numbers with zeros before them, a layer as a safe name."""
    text = str(value).zfill(_DIGITS.get(part, 0))
    return slug(text) if part == "layer" else text


@dataclass(frozen=True)
class Form:
    """A template for paths with named parts, such as `runs/{run}/run.json`.

    `at` makes a path from parts, `read` gets the parts back and refuses every other path:

        >>> form = Form("runs/{run}/run.json")
        >>> form.at(run="pairs")
        'runs/pairs/run.json'
        >>> form.read("runs/pairs/run.json")
        {'run': 'pairs'}
        >>> form.read("runs/../run.json") is None
        True

    Attributes:
        text: the template; the parts in braces are those of `_PARTS`.
    """

    text: str

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        pieces = re.split(r"\{(\w+)\}", self.text)
        return re.compile(
            "".join(
                f"(?P<{piece}>{_PARTS[piece]})" if number % 2 else re.escape(piece)
                for number, piece in enumerate(pieces)
            )
        )

    def at(self, **parts: str | int) -> str:
        """Return the path with these parts, which `read` checks, and not this.

        A number may be given as an integer, a layer by its own name; parts that the form does not
        have are passed over.
        """
        return self.text.format(**{part: _written(part, value) for part, value in parts.items()})

    def parts(self, path: str) -> dict[str, str]:
        """Return the parts of a path that must have this form.

        Raises:
            ValueError: the path has another form.
        """
        if (found := self.read(path)) is None:
            raise ValueError(f"a path of the form {self.text} is wanted; got {path!r}")
        return found

    def read(self, path: str) -> dict[str, str] | None:
        """Return the parts of a path by name, None if the path has another form."""
        found = self._pattern.fullmatch(path)
        return None if found is None else found.groupdict()


CUT_SHORT = re.compile(r"\.[0-9a-f]{16}\.tmp")
"""The name of a file that is still being written, or whose writer died."""


def checked_name(path: str) -> str:
    """Return the path if it stays inside the store, else raise ValueError.

    A part may begin with a dot only in the name of an unfinished write.
    """
    *folders, name = path.split("/")
    parts = folders if CUT_SHORT.fullmatch(name) else [*folders, name]
    hidden = any(part == "" or part.startswith(".") for part in parts)
    if hidden or "\0" in path or "\\" in path:
        raise ValueError(
            f"a stored name is relative, without empty parts or ones that start with a dot; "
            f"got {path!r}"
        )
    return path
