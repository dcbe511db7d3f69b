"""What both ways of asking for a comparison share: with right answers, and without."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager

from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.jobs.compare_sides import Side
from lamella.pipeline.jobs.query_run import Place
from lamella.pipeline.run.drive import Progress
from lamella.pipeline.search.coordinator import Coordinator
from lamella.pipeline.store.protocol import Store
from lamella.schemas.query import Weighting
from lamella.schemas.snapshot import IndexSnapshot

DEPTH = 100
"""How many pictures of each ranking are compared, besides the query's own."""

OpenCoordinator = Callable[[Store, IndexSnapshot, Weighting], AbstractContextManager[Coordinator]]


def nothing_in_common(
    sides: tuple[Side, Side], of_a: Iterable[str], of_b: Iterable[str]
) -> InputError:
    """Return the error for two sides without a common query; `of_a` and `of_b` are theirs."""
    said = [next(iter(names), None) for names in (of_a, of_b)]
    named = [one_line(repr(name), 120) if name is not None else "nothing" for name in said]
    return InputError(
        f"A and B are compared over queries that both have, by name; {sides[0].label} has "
        f"{named[0]} and so on, {sides[1].label} {named[1]} and so on, none of them in both: "
        "compare what was asked the same queries"
    )


def cut(query: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return as much of a ranking as is compared."""
    return tuple(name for name in names[: DEPTH + 1] if name != query)[:DEPTH]


def tell(place: Place, label: str, done: int, total: int) -> None:
    """Say how many queries a side has answered."""
    place.progress(Progress(f"answer {label}", done, total, done, total))
