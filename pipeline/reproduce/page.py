"""The page of a reproduction: what agrees, the tables, the figures, what was not run, settings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lamella.pipeline.evaluate.page import VERDICT_MARKS
from lamella.pipeline.page import kit
from lamella.pipeline.reproduce import paper
from lamella.pipeline.reproduce.charts import curves, heat
from lamella.pipeline.reproduce.planning import NotRun, Program
from lamella.pipeline.reproduce.signs import Records
from lamella.pipeline.reproduce.summary import facts, headline, sentences
from lamella.pipeline.reproduce.tables import (
    NAMES,
    Table,
    choice_tables,
    other_tables,
    paper_tables,
    transfer_tables,
)
from lamella.schemas.reproduced import Reproduced, ShownQuery, ShownWord

PACKAGE = "lamella.pipeline.reproduce"


@dataclass(frozen=True)
class Heat:
    """A map over (t, p), as SVG."""

    title: str
    svg: str


@dataclass(frozen=True)
class Shown:
    """Figs. 1 and 2 of one network and data set."""

    title: str
    query: ShownQuery | None
    words: dict[str, tuple[ShownWord, ...]]


@dataclass(frozen=True)
class Made:
    """How one data set was scored under one network."""

    title: str
    facts: tuple[tuple[str, str], ...]


def render(program: Program, records: Records, not_run: Sequence[NotRun]) -> str:
    """Return the page, self-contained.

    Args:
        program: what was asked for.
        records: what was scored, by network and data set.
        not_run: what was not, and why.
    """
    return kit.render(
        PACKAGE,
        "reproduce",
        headline=headline(records),
        sentences=sentences(records),
        facts=facts(records),
        tables=paper_tables(records),
        others=other_tables(records),
        choices=choice_tables(records),
        matrices=transfer_tables(records),
        curves=curves(),
        heats=tuple(_heats(records)),
        shown=tuple(_shown(records)),
        not_run=not_run,
        made=tuple(_made(program, records)),
        marks=VERDICT_MARKS,
    )


def _heats(records: Records) -> Iterator[Heat]:
    """Yield the map of the highest pair of each network on each data set."""
    for (network, data_set), record in records.items():
        fused = next((each for each in record.fused if each.grid), None)
        if fused is not None:
            title = f"{NAMES[network]}, {' + '.join(fused.layers)}, {paper.TITLES[data_set]}"
            yield Heat(title, heat(fused.grid, record.metric, title))


def _shown(records: Records) -> Iterator[Shown]:
    for (network, data_set), record in records.items():
        if record.shown is not None or record.patches:
            title = f"{NAMES[network]} on {paper.TITLES[data_set]}"
            # From high to low; the record has them by name.
            layers = [each.layer for each in record.alone if each.layer in record.patches]
            words = {layer: record.patches[layer] for layer in layers}
            yield Shown(title, record.shown, words)


def _made(program: Program, records: Records) -> Iterator[Made]:
    for (network, data_set), record in records.items():
        title = f"{NAMES[network]} on {paper.TITLES[data_set]}"
        yield Made(title, tuple(_facts(program, record)))


def _facts(program: Program, record: Reproduced) -> Iterator[tuple[str, str]]:
    drawn = record.bootstrap
    yield "protocol", f"{record.protocol}, {record.metric}"
    yield "queries", f"{record.queries:,}"
    yield "pictures indexed", f"{record.indexed:,}"
    if record.missing:
        yield "right answers that are not there", f"{record.missing:,}"
    yield (
        "intervals",
        f"{100 * drawn.level:g} %, {drawn.resamples:,} resamples of {drawn.units:,} "
        f"{'groups of queries' if drawn.unit == 'group' else 'single queries'}"
        if drawn
        else "none: too few queries",
    )
    published = paper.WORDS[record.data_set] if record.network in paper.LAYERS else None
    for layer, words in record.words.items():
        text = f"{words:,}"
        if published not in (None, words):
            text += f" (published: {published:,})"
        if rows := record.rows.get(layer):
            text += f", {rows / words:.1f} descriptors each to train on"
        yield f"words of {layer}", text
    for name, value in record.settings.items():
        if not name.startswith("words of"):
            yield name, value
    for name, digest in record.hashes.items():
        yield f"SHA-256 of {name}", digest
    yield "snapshot", record.snapshot


def tables_of(records: Records) -> tuple[Table, ...]:
    """Return all tables with anything run, for a terminal."""
    every = (*paper_tables(records), *other_tables(records), *transfer_tables(records))
    return tuple(table for table in every if table.run)
