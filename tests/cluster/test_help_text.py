"""Help folds at the width of the terminal, and not where docstrings do."""

from lamella.cluster.commands.help_text import unfolded
from tests.command_line import lamella


def test_a_paragraph_is_a_line_and_an_example_another() -> None:
    text = "First.\n\nBy one:\n[bold]lamella x[/]\n\nThis line\ngoes on\nand on."
    assert unfolded(text) == "First.\n\nBy one:\n[bold]lamella x[/]\n\nThis line goes on and on."


def test_no_line_of_help_ends_before_the_next_word_would_not_fit() -> None:
    told = lamella("index", "--help").stdout.partition("Arguments")[0].split("\n")
    paragraph = [line.strip() for line in told if "A store that has" in line or "knows of" in line]
    assert len(paragraph) == 2
    assert len(f"{paragraph[0]} {paragraph[1].split()[0]}") > 78
