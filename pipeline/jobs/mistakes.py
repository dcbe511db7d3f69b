"""What is wrong with a call, collected so that all of it is said at once."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lamella.pipeline.errors import InputError

MOST_TOLD = 1_600
"""Characters of the clauses that are told."""


class SeveralMistakes(InputError):
    """Several things are wrong with the arguments or settings.

    Attributes:
        said: a clause for each.
    """

    def __init__(self, said: Sequence[str]) -> None:
        super().__init__(all_of(said))
        self.said = tuple(said)


class Mistakes:
    """Collects input errors; `check` raises them as one."""

    def __init__(self) -> None:
        self._found: list[InputError] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Keep an `InputError` of the block for `check`, and go on after the block."""
        try:
            yield
        except InputError as error:
            self._found.append(error)

    def check(self) -> None:
        """Raise what was found: a single error as it was, several as `SeveralMistakes`."""
        if len(self._found) == 1:
            raise self._found[0]
        if self._found:
            said: list[str] = []
            for error in self._found:
                said += error.said if isinstance(error, SeveralMistakes) else [str(error)]
            raise SeveralMistakes(said)


def all_of(said: Sequence[str]) -> str:
    """Return clauses as one text; several are counted and numbered, and the last may be left out.

    The command line prints no more than 2,000 characters.
    """
    if len(said) == 1:
        return said[0]
    numbered = [f"({number}) {clause}" for number, clause in enumerate(said, 1)]
    lengths = itertools.accumulate(len(clause) for clause in numbered)
    told = max(1, sum(length <= MOST_TOLD for length in lengths))
    more = f"; and {len(said) - told:,} more" if told < len(said) else ""
    return f"{len(said):,} errors: {'; '.join(numbered[:told])}{more}"
