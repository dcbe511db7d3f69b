"""Tables of passes that `lamella bench extract` compares: in several precisions, of many sizes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

import typer
from rich.console import Console
from rich.table import Table

from lamella.cluster.commands.option_values import words
from lamella.cluster.commands.show import plain
from lamella.pipeline.names import known_names, shown
from lamella.schemas.extraction import ExtractionSpec, Precision

if TYPE_CHECKING:
    from lamella.pipeline.bench.passes import PassTrial


def specs_of_precisions(spec: ExtractionSpec, text: str | None) -> list[ExtractionSpec]:
    """Return the spec, and it in each precision of a text such as `bfloat16,float16`.

    Raises:
        typer.BadParameter: one is no precision.
    """
    every: Sequence[Precision] = get_args(Precision)
    asked = [name for name in dict.fromkeys(words(text) or ()) if name != spec.precision]
    for name in asked:
        if name not in every:
            raise typer.BadParameter(
                f"there is no precision {shown(name)}: there are {known_names(name, every)}"
            )
    return [spec, *(spec.model_copy(update={"precision": each}) for each in asked)]


def specs_of_batch_sizes(spec: ExtractionSpec, text: str | None) -> list[ExtractionSpec]:
    """Return the spec with each batch size of a text such as `1,4,8`, rising.

    Raises:
        typer.BadParameter: one is no batch size.
    """
    asked = words(text) or []
    if not all(each.isascii() and each.isdecimal() and 1 <= int(each) <= 1024 for each in asked):
        raise typer.BadParameter(f"whole numbers from 1 to 1,024 are wanted; got {text!r}")
    sizes = sorted({int(each) for each in asked})
    return [spec.model_copy(update={"batch_size": each}) for each in sizes]


def show_precisions(console: Console, trials: Sequence["PassTrial"]) -> None:
    """Print what each precision wins, and what it does to vectors."""
    first = trials[0].precision
    table = Table("precision", "in hardware", "passes, pictures/s", f"times {first}")
    for name in trials[0].layers:
        table.add_column(f"{name}: mean cosine, least")
    for each in trials:
        row = [each.precision, _hardware(each), *_rates(each)]
        row += [f"{m.mean_cosine:.5f}, {m.least_cosine:.4f}" for m in each.layers.values()]
        table.add_row(*map(plain, row))
    _show(console, table, trials)
    slower = [each for each in trials[1:] if not each.fault and each.ratio < 1]
    for each in slower:
        console.print(
            plain(f"{each.precision} loses here: it takes {1 / each.ratio:.1f} times as long")
        )
    console.print("a precision is part of the extraction: another one changes digests and features")


def show_batch_sizes(console: Console, trials: Sequence["PassTrial"], best: int) -> None:
    """Print what batches of each size win, and the best size."""
    first = counted_pictures(trials[0].batch_size)
    table = Table("batch_size", "passes, pictures/s", f"times {first}")
    for each in trials:
        table.add_row(f"{each.batch_size:,}", *_rates(each))
    _show(console, table, trials)
    console.print(
        f"best here: batch_size = {best}, in {trials[0].precision} and full batches of one shape; "
        "other shapes pad their last batch, and another size is another extraction"
    )


def counted_pictures(size: int) -> str:
    """Return what a batch of that size is called."""
    return "one picture" if size == 1 else f"{size:,} pictures"


def _hardware(trial: "PassTrial") -> str:
    return trial.hardware or ("no" if trial.precision in ("bfloat16", "float16") else "")


def _rates(trial: "PassTrial") -> tuple[str, str]:
    if trial.fault:
        return "-", "-"
    return f"{trial.pictures_per_second:,.1f}", f"{trial.ratio:.2f}"


def _show(console: Console, table: Table, trials: Sequence["PassTrial"]) -> None:
    console.print(table)
    for each in trials:
        if each.fault:
            console.print(plain(each.fault))
