"""Options with a choice of names: in any case, with the nearest name, known to help and shells."""

import os
from typing import Any
from unittest import mock

import pytest
import typer

from lamella.cluster.commands.cli import app
from tests.command_line import complaint, lamella, lamella_apart


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("evaluate s --protocol okford", "--protocol 'okford' is none of ukb, .*mean oxford?"),
        (
            "evaluate s --protocol ukb --box rio",
            "--box 'rio' is none of roi, full: did you mean roi?",
        ),
        ("index p --into s --profile pper", "--profile 'pper' is none of .*: did you mean paper?"),
        ("index p --into s --engine spark", "--engine 'spark' is none of ray, serial"),
        ("index p --into s --fusion scald", "--fusion .* did you mean scaled?"),
        ("index p --into s --keep-activations al", "--keep-activations .* did you mean all?"),
        ("query s --ids 1 --mode exat", "--mode .*: did you mean exact?"),
        ("serve s --products int9", "--products 'int9' is none of auto, .*: did you mean int8?"),
    ],
)
def test_a_wrong_choice_is_answered_with_the_nearest(call: str, said: str) -> None:
    first, _, last = said.partition(".*")
    line = complaint(lamella(*call.split()))
    assert first in line
    assert line.endswith(last)


def test_a_choice_is_taken_in_any_case() -> None:
    said = complaint(lamella("evaluate", "nowhere", "--protocol", "UKB", "--box", "ROI"))
    assert "there is no store" in said


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("lamella evaluate s --protocol ro", {"roxford"}),
        ("lamella index p --network efficientnet_l", {f"efficientnet_lite{n}" for n in range(3)}),
        ("lamella index p --engine ", {"ray", "serial"}),
        ("lamella do", {"doctor"}),
    ],
)
def test_shells_are_offered_the_names(words: str, offered: set[str]) -> None:
    asked = {
        "_LAMELLA_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    with mock.patch.dict(os.environ, asked):
        assert set(lamella().stdout.split()) == offered


def test_shells_are_offered_every_command() -> None:
    asked = {"_LAMELLA_COMPLETE": "complete_bash", "COMP_WORDS": "lamella ", "COMP_CWORD": "1"}
    commands: Any = typer.main.get_command(app)
    with mock.patch.dict(os.environ, asked):
        assert set(lamella_apart().stdout.split()) == set(commands.commands)


def test_help_shows_the_names() -> None:
    assert "published|scaled" in lamella("index", "--help").stdout
