"""What is printed folds at the width of a terminal, cuts nothing, and stays whole in a pipe."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from lamella.cluster.commands.output import unfolded
from lamella.cluster.commands.show_query import ranking_table, show_account
from lamella.pipeline.jobs.query_run import Answered
from lamella.pipeline.store.local import LocalStore
from lamella.schemas.query import FusionSpec, LayerMap
from lamella.schemas.rankings import QueryRun

LAYERS = ("fc1", "c5_3", "c5_1", "c4_3", "c4_1")
NAME = "a folder with a rather long name/" * 6 + "1.jpg"


class Terminal(io.StringIO):
    """A text that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("out", "lines"), [(io.StringIO(), 1), (Terminal(), 7)])
def test_lines_are_folded_on_a_terminal_alone(out: io.StringIO, lines: int) -> None:
    console = unfolded(Console(file=out, force_terminal=out.isatty(), width=80))
    console.print("word " * 100)  # 16 of them fit in 80 columns
    assert len(out.getvalue().splitlines()) == lines


ROW = {"query": 0, "query_name": NAME, "rank": 1, "image_id": 4023767558797334439, "name": NAME}
ROW |= {"score": 12.3456, "certified": True, **{f"S.{name}": 0.1234 for name in LAYERS}}
RUN = QueryRun.model_construct(
    run="r",
    k=1,
    images=1,
    answered=1,
    certified=1,
    refused=0,
    expand=0,
    fusion=FusionSpec(layers=tuple(LayerMap(layer=name, t=1.0, p=1.0) for name in LAYERS)),
)


def test_a_ranking_of_many_layers_folds_at_80_columns_and_loses_no_digit() -> None:
    out = io.StringIO()
    Console(file=out, width=80, color_system=None).print(ranking_table(RUN, [ROW]))
    table = [line for line in out.getvalue().splitlines() if line.startswith("│")]
    assert {len(line) for line in table} == {80}
    columns = zip(*(line.strip("│").split("│") for line in table), strict=True)
    whole = ["".join(cell.strip() for cell in column) for column in columns]
    assert whole[2:] == ["4023767558797334439", "12.3456", *["0.1234"] * len(LAYERS)]
    assert whole[1].replace(" ", "") == NAME.replace(" ", "")


def test_a_ranking_is_a_line_a_picture_in_a_pipe(tmp_path: Path) -> None:
    out = io.StringIO()
    console = unfolded(Console(file=out))
    console.print(ranking_table(RUN, [ROW]))
    show_account(console, Answered(RUN, 1, 0.5, LocalStore(tmp_path), kept=False))
    told = out.getvalue().splitlines()
    assert sum(NAME in line for line in told) == 2  # the title, and the one answer
    account = "1 query answered, 1 certified complete, 0 refused: not kept; "
    assert any(line.startswith(account) for line in told)
