"""The form of a path in a store: what in it varies, and how a path is made and read back."""

import re
from dataclasses import dataclass
from functools import cached_property

_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,39}"
"""What `tree.slug` gives: at most 40 characters, no dot or dash at the beginning."""

_KEYED = rf"{_NAME}-[0-9a-f]{{12}}"

_PARTS = {
    "keyed": _KEYED,
    "layer": _NAME,
    "run": rf"(?:{_NAME}|{_KEYED})",
    "number": r"\d{6,}",
    "round": r"\d{5,}",
    "key": r"[a-z0-9][a-z0-9-]*",
    "token": r"[0-9a-f]{12}",
    "picture": r"[0-9a-f]{32}",
    "suffix": r"[a-z0-9-]+(?:\.[a-z0-9-]+)*",
}
"""The parts of a path that vary, by name, and the form of each."""


@dataclass(frozen=True)
class Form:
    """The form of a path, such as `runs/{run}/run.json`: makes paths, and reads them back."""

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
        """Return the path with these parts; `read` says whether each is of its form."""
        return self.text.format(**parts)

    def parts(self, path: str) -> dict[str, str]:
        """Return the parts of a path.

        Raises:
            ValueError: it is of another form.
        """
        if (found := self.read(path)) is None:
            raise ValueError(f"a path of the form {self.text} is wanted; got {path!r}")
        return found

    def read(self, path: str) -> dict[str, str] | None:
        """Return the parts of a path, None where it is of another form."""
        found = self._pattern.fullmatch(path)
        return None if found is None else found.groupdict()
