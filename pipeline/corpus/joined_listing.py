"""List the source of a corpus, which may be several, and say which columns of it are kept."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from lamella.pipeline.corpus.entries import Entries, Entry
from lamella.pipeline.corpus.joined import joined, parts_of
from lamella.pipeline.corpus.kept_columns import find_kept
from lamella.pipeline.corpus.listing import Listing, storable
from lamella.pipeline.corpus.parquet_columns import column_of
from lamella.pipeline.corpus.passed_over import few_kinds
from lamella.pipeline.corpus.sources import OnEntries, list_source, quietly
from lamella.pipeline.errors import InputError


def list_corpus(
    source: str,
    column: str | None = None,
    on_entries: OnEntries = quietly,
    columns: Sequence[str] = (),
) -> Listing:
    """Return what a source holds, in a fixed order, as `list_source` does.

    The entries of several sources follow each other in the order of the sources' names; their names
    and containers begin with that of their source.

    Args:
        source: one, or several as `joined.source_of` gives them.
        column: of Parquet sources; others may stand beside them.
        on_entries: called now and then with the number of entries so far.
        columns: of Parquet sources, those that are kept beside the pictures.

    Raises:
        InputError: as `list_source`, of any of them; or a column is named and none is Parquet; or
            as `find_kept`.
    """
    parts = parts_of(source)
    if parts:
        listing = _list_parts(parts, column, on_entries)
    else:
        listing = list_source(source, column, on_entries)
    return replace(listing, kept=find_kept(listing, columns))


def _list_parts(parts: Mapping[str, str], column: str | None, on_entries: OnEntries) -> Listing:
    listings: dict[str, Listing] = {}
    found = 0
    for name, place in parts.items():
        said = partial(_say_more, on_entries, found)
        listings[name] = list_source(place, column, said, for_parquet_alone=True)
        found += len(listings[name].entries)
    if column is not None and not any(column_of(each.kind) for each in listings.values()):
        raise InputError(
            f"a column (--column, corpus.column) is one of Parquet files; none of the sources "
            f"{', '.join(parts)} holds any: leave the column out"
        )
    return Listing(
        joined({name: each.kind for name, each in listings.items()}),
        joined({name: each.root for name, each in listings.items()}),
        Entries(entry for name, each in listings.items() for entry in _within(name, each)),
        few_kinds(sum((Counter(each.passed_over) for each in listings.values()), Counter[str]())),
        min(each.listed_ns for each in listings.values()),
    )


def _say_more(on_entries: OnEntries, before: int, number: int) -> None:
    on_entries(before + number)


def _within(source: str, listing: Listing) -> Iterator[Entry]:
    """Yield the entries of a source under its name."""
    for entry in listing.entries:
        name, fault = storable(f"{source}/{entry.name}")
        container = f"{source}/{entry.container}" if entry.container else ""
        yield entry._replace(name=name, container=container, fault=entry.fault or fault)
