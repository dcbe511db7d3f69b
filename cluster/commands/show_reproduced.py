"""What `lamella reproduce` prints: the plan, or the tables, and what was not run."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lamella.cluster.commands.show import plain
from lamella.pipeline.reproduce.estimates import Estimate
from lamella.pipeline.reproduce.page import tables_of
from lamella.pipeline.reproduce.planning import NotRun, Program
from lamella.pipeline.reproduce.signs import Records
from lamella.pipeline.reproduce.summary import headline, sentences
from lamella.pipeline.reproduce.tables import Cell
from lamella.pipeline.reproduce.tables import Table as Figures
from lamella.pipeline.text import byte_size, duration, printable

COLOURS = {"agree": "green", "disagree": "red", "paper": "dim", "none": "dim"}


def show_program(console: Console, program: Program, estimates: Sequence[Estimate]) -> None:
    """Print what was found, what each index takes, and what cannot be run."""
    for data_set in program.data_sets:
        truth = f", ground truth {data_set.truth}" if data_set.truth else ""
        console.print(plain(f"{data_set.name}: {data_set.pictures}{truth}"), soft_wrap=True)
        for folder in data_set.distractors:
            console.print(plain(f"  with distractors {folder}"), soft_wrap=True)
    table = Table("index", "layers", "words", "pictures", "takes", "stores")
    for each in estimates:
        index = each.index
        table.add_row(
            plain(index.title),
            plain(", ".join(index.network.layers)),
            f"{index.job.vocabulary.words or 0:,}",
            "" if each.done else f"{each.pictures:,}",
            "is there" if each.done else duration(3600 * each.hours),
            "" if each.done else byte_size(each.stored_bytes),
        )
    console.print(table)
    for each in estimates:
        for refusal in each.refusals:
            console.print(plain(f"{each.index.title}: {refusal}"), style="red", soft_wrap=True)
    _show_not_run(console, program.not_run)


def show_reproduced(
    console: Console, records: Records, not_run: Sequence[NotRun], page: Path
) -> None:
    """Print the story, the tables of which anything was run, and where the page is."""
    for text in (headline(records), *sentences(records)):
        console.print(plain(text), soft_wrap=True)
    for table in tables_of(records):
        console.print(_table(table))
    _show_not_run(console, not_run)
    console.print(Text.assemble("page: ", (printable(str(page)), "bold")), soft_wrap=True)


def _table(figures: Figures) -> Table:
    titles = [title for title, count in figures.groups for _ in range(count)]
    table = Table(title=plain(figures.title), title_justify="left")
    table.add_column("")
    for place, column in enumerate(figures.columns):
        table.add_column(plain(f"{titles[place]}, {column}" if titles else column), justify="right")
    for label, cells in figures.rows:
        table.add_row(plain(label), *(_cell(cell) for cell in cells))
    return table


def _cell(cell: Cell) -> Text:
    said = Text(printable(cell.text), style=COLOURS.get(cell.kind, ""))
    return said.append(f"\n{printable(cell.note)}", style="dim") if cell.note else said


def _show_not_run(console: Console, not_run: Sequence[NotRun]) -> None:
    for each in not_run:
        console.print(plain(f"not run: {each.what}: {each.why}"), soft_wrap=True)
        console.print(plain(f"  {each.command}"), style="dim", soft_wrap=True)
