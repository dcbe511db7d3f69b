"""Options that say what is right: a protocol with its files, or qrels."""

from pathlib import Path
from typing import Annotated, get_args

import typer

from lamella.cluster.commands.choices import choice
from lamella.schemas.report import BoxMode, Difficulty, Metric, Protocol

Rules = Annotated[
    Protocol | None,
    choice("--protocol", get_args(Protocol), help="Whose rules, or your own groups."),
]
Qrels = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="What is right, in place of a protocol: TREC qrels by names of pictures. Below 0 "
        "is junk, which leaves the ranking; what nobody judged is wrong, a query's own picture "
        "too.",
    ),
]
Truth = Annotated[
    Path | None,
    typer.Option(
        help="The official ground truth, or a folder with it: gt_files_170407, paris_120310, "
        "holidays_images.dat, gnd_roxford5k.pkl, retrieval_solution_v2.1.csv."
    ),
]
Box = Annotated[
    BoxMode | None,
    choice(
        "--box",
        get_args(BoxMode),
        help="Oxford, Paris: roi crops queries to their boxes, full does not.",
        show_default="roi; full of runs",
    ),
]
OneDifficulty = Annotated[
    Difficulty,
    choice("--difficulty", get_args(Difficulty), help="roxford, rparis: what is right."),
]
Part = Annotated[
    str | None,
    typer.Option(
        metavar="PART",
        help="copydays, gldv2: one part, such as 'strong', 'crops 10' or 'private'. `evaluate` "
        "reports on all of them by default.",
    ),
]
Within = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="The folder of the corpus with the data set, such as oxford/; all other pictures "
        "are distractors, whatever their names.",
    ),
]
Pattern = Annotated[
    str | None,
    typer.Option(
        help="groups: a regular expression with one group, which captures the group's name."
    ),
]
FirstMetric = Annotated[
    Metric, choice("--metric", get_args(Metric), help="groups: what is measured.")
]
