"""What a check found, and how a check that fails itself is told."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from lamella.pipeline.errors import one_line

State = Literal["ok", "missing", "broken"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: its name, such as "torch" or "HEIC".
        state: "missing": not there, or little of it, and most can do without; "broken": it does not
            do what it should.
        says: a version, a size, or what is wrong; for what is missing also what needs it.
        cure: a command or a sentence that helps; "" where nothing is wrong.
        needed: whether a plain installation needs it, or the caller asked for it by name.
    """

    what: str
    state: State
    says: str
    cure: str = ""
    needed: bool = False


@dataclass(frozen=True)
class Part:
    """The findings on one subject, in the order in which a reader needs them."""

    title: str
    findings: tuple[Finding, ...]


def caught(
    what: str, check: Callable[[], Finding | Sequence[Finding]], *, needed: bool = False
) -> list[Finding]:
    """Return what a check finds. One that fails is told as broken: looking never ends in an error.

    Args:
        what: the name of what is looked at, if the check cannot say more.
    """
    try:
        found = check()
    except Exception as error:
        said = one_line(error) or type(error).__name__
        return [Finding(what, "broken", said, needed=needed)]
    return [found] if isinstance(found, Finding) else list(found)
