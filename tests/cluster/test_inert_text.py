"""Stored text does nothing: not in tables, not in lines, not in errors, not on the page."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from lamella.cluster.commands.cli import app
from lamella.cluster.commands.progress import ProgressLines
from lamella.cluster.commands.show import plain, show_status
from lamella.pipeline.run.drive import Progress
from tests.command_line import lamella, lamella_apart

EVIL = (
    "line\nbreak",
    "\x1b[2J\x1b[31mred",
    "\x1b]0;title\x07",
    "[bold]mark[/red]up",
    "[link=https:example]link[/link]",
    "\u202egnp.back",
    ":skull:",
    "<img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}",
    "back\\slash\\",
)
SHOWN = (
    "line\\nbreak",
    "\\x1b[2J\\x1b[31mred",
    "\\x1b]0;title\\x07",
    "[bold]mark[/red]up",
    "[link=https:example]link[/link]",
    "\\u202egnp.back",
    ":skull:",
    "<img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}",
    "back\\slash\\",
)
"""How each of them is to be read on a terminal."""


def printed(*what: object) -> str:
    out = io.StringIO()
    Console(file=out, width=400).print(*what)
    return out.getvalue()


def assert_inert(output: str) -> None:
    """Fail where a character of the output would do anything but stand there."""
    doing = {char for char in output if not char.isprintable() and char != "\n"}
    assert not doing, doing


@pytest.mark.parametrize(("evil", "shown"), list(zip(EVIL, SHOWN, strict=True)))
def test_a_name_stands_on_one_line_as_it_is(evil: str, shown: str) -> None:
    assert printed(plain(evil)) == f"{shown}\n"


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("evil", EVIL)
def test_progress_shows_the_name_of_a_layer_and_no_more(evil: str, terminal: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, width=400, force_terminal=terminal, color_system=None)
    with ProgressLines(console) as lines:
        lines.stage(Progress(f"vocabulary {evil}", 1, 1, 5, 5))
    text = out.getvalue()
    assert SHOWN[EVIL.index(evil)] in text
    assert evil not in text or evil.isprintable()


def test_status_shows_what_a_store_says_and_no_more() -> None:
    text = "|".join(EVIL)
    corpus = {
        "name": text,
        "states": {text: 1},
        "sources": {text: 1},
        "columns": [{"name": text, "type": text, "known": 1, "sources": {text: 1}}],
        "images": 1,
        "remarks": {},
        "duplicates": 0,
        "repeated": {"contents": 0, "pictures": 0},
        "passed_over": {text: 1},
        "refused": [{"reason": text, "name": text, "detail": text}],
    }
    out = io.StringIO()
    found = {
        "corpora": [corpus],
        "stages": [{"folder": text, "done": 1}],
        "current": {
            "number": 1,
            "root_digest": text,
            "indexed": 1,
            "words_fit": [{"far": True, "ratio": 2.0, "text": text}],
        },
    }
    show_status(Console(file=out, width=2000), found)
    assert_inert(out.getvalue())
    assert out.getvalue().count("|".join(SHOWN)) == 12


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of pictures with hostile names, and one more file that is no picture."""
    source = tmp_path_factory.mktemp("hostile") / "[red]\x1b[31mpictures"
    for name, size in ((EVIL[0], 40), (EVIL[3], 56)):
        group = source / name.replace("/", "|")
        group.mkdir(parents=True)
        for number, evil in enumerate(EVIL[(size == 40) :: 2]):
            noise = np.random.default_rng(number).integers(0, 256, (size, 60, 3), dtype=np.uint8)
            Image.fromarray(noise).save(group / f"{evil.replace('/', '|')}.png", "PNG")
    (source / f"{EVIL[1]}{EVIL[2]}.jpg").write_bytes(b"no picture")
    return source


def test_a_journey_over_hostile_names_prints_nothing_that_acts(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, page = str(tmp_path / "[bold]store[/red]\x1b[0m"), tmp_path / "page.html"
    monkeypatch.setenv("COLUMNS", "200")
    serial = ["--engine", "serial"]
    said = ""
    for arguments in (
        ["index", str(hostile), "--into", store, "--layers", "head", *serial],
        ["status", store],
        ["snapshots", store],
        ["query", store, str(hostile), "-k", "3", *serial],
        ["evaluate", store, "--protocol", "groups", "--sweep", "--page", str(page), *serial],
    ):
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        said += done.output
    assert_inert(said)
    for shown in (SHOWN[0], SHOWN[1], "[bold]mark[|red]up"):
        assert shown in said
    html = page.read_text()
    assert_inert(html)
    assert "<img" not in html
    assert "\\u003cimg src=x" in html  # in the data of its script, as JSON
    assert "{{ 7 * 7 }}" in html


@pytest.mark.parametrize("command", ["status", "query", "evaluate"])
def test_an_error_names_what_is_wrong_on_one_line_that_does_nothing(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    evil = str(tmp_path / "".join(EVIL).replace("/", "|"))
    serial = ["--engine", "serial"]
    more = {"query": ["x", *serial], "evaluate": ["--protocol", "groups", *serial]}
    done = lamella(command, evil, *more.get(command, []))
    assert done.returncode == 2
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("opening ")]
    assert len(lines) == 1
    assert_inert(done.stderr)
    shown = "".join(SHOWN).replace("/", "|")
    assert shown.replace("line\\nbreak", "line break") in done.stderr


def test_a_traceback_does_nothing_either(tmp_path: Path) -> None:
    evil = str(tmp_path / "".join(EVIL).replace("/", "|"))
    done = lamella_apart("status", evil, "--debug")
    assert done.returncode == 1
    assert "Traceback (most recent call last):" in done.stderr
    assert SHOWN[1] in done.stderr
    assert_inert(done.stderr)
