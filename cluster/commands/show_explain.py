"""An explanation for people: tables of layers, ranks and neighbours, and the weightiest words."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lamella.cluster.commands.show import plain
from lamella.pipeline.evaluate.figures import map_text
from lamella.pipeline.evaluate.pair import Explanation, PairLayer, moves
from lamella.pipeline.text import counted, printable

TOP_WORDS = 5


def show_explanation(console: Console, explanation: Explanation, page: Path | None) -> None:
    """Print why a result has its rank, and where the page is, if there is one."""
    console.print(
        Text.assemble(
            (printable(explanation.result.name), "bold"),
            f" is at rank {explanation.rank:,} of {explanation.images:,} for ",
            (printable(explanation.query.name), "bold"),
        ),
        soft_wrap=True,
    )
    for side in (explanation.query, explanation.result):
        if side.note:
            note = plain(f"{side.name}: {side.note}")
            console.print(note, style="yellow", soft_wrap=True)
    console.print(_layers(explanation))
    console.print(_ranks(explanation))
    for layer in explanation.local_layers:
        _show_words(console, explanation, layer)
    if not explanation.local_layers:
        console.print("The fusion has no local layer, so there are no words to show.")
    console.print("Beside it")
    console.print(_beside(explanation))
    for said in moves(explanation):
        console.print(plain(f"- {said}"), soft_wrap=True)
    if page is not None:
        console.print(Text.assemble("page: ", (printable(str(page)), "bold")), soft_wrap=True)


def _numbers(*columns: str, first: str) -> Table:
    table = Table(first)
    for column in columns:
        table.add_column(plain(column), justify="right")
    return table


def _layers(explanation: Explanation) -> Table:
    table = _numbers("S", "f(S)", "w f(S)", "map", first="layer")
    for layer in explanation.layers:
        values = (layer.similarity, layer.mapped, layer.part)
        said = map_text(layer.t, layer.p, layer.weight) or "as it is"
        table.add_row(plain(layer.layer), *(f"{value:.4f}" for value in values), said)
    table.add_section()
    table.add_row("F, the sum", "", "", f"{explanation.score:.4f}", "")
    return table


def _ranks(explanation: Explanation) -> Table:
    table = _numbers("rank", "score", first="ranking")
    for each in explanation.ranks:
        rank = f"{each.rank:,} of {explanation.images:,}"
        table.add_row(plain(each.label), rank, f"{each.score:.4f}")
    return table


def _show_words(console: Console, explanation: Explanation, layer: PairLayer) -> None:
    matches = explanation.matches_of(layer.layer)
    console.print(
        plain(
            f"{layer.layer}: {counted(layer.shared, 'word')} in common, of {layer.query_words:,} "
            f"of the query and {layer.result_words:,} of the result"
        ),
        soft_wrap=True,
    )
    if not matches:
        return
    table = _numbers("adds to S", "share of S", first="word")
    for match in matches[:TOP_WORDS]:
        share = f"{100 * match.weight / layer.similarity:.0f} %"
        table.add_row(f"{match.word:,}", f"{match.weight:.4f}", share)
    if rest := matches[TOP_WORDS:]:
        adds = sum(match.weight for match in rest)
        share = f"{100 * adds / layer.similarity:.0f} %"
        table.add_row(f"{len(rest):,} more", f"{adds:.4f}", share)
    console.print(table)


def _beside(explanation: Explanation) -> Table:
    layers = [f"S {layer.layer}" for layer in explanation.layers]
    table = _numbers("rank", "F", *layers, first="picture")
    for near in explanation.above:
        row = (f"{value:.4f}" for value in (near.score, *near.similarities))
        table.add_row(plain(near.name), f"{near.rank:,}", *row)
    own = (explanation.score, *(layer.similarity for layer in explanation.layers))
    row = (f"{value:.4f}" for value in own)
    table.add_row(plain(explanation.result.name), f"{explanation.rank:,}", *row, style="bold")
    for near in explanation.below:
        row = (f"{value:.4f}" for value in (near.score, *near.similarities))
        table.add_row(plain(near.name), f"{near.rank:,}", *row)
    return table
