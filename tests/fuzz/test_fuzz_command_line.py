"""Whatever is typed behind a command: it is done, or refused in a line that says why."""

import functools
import itertools
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from lamella.cluster.commands.cli import app
from lamella.cluster.commands.main import main
from tests.tiny import seeded, tiny_index, tiny_pictures

TEXTS = (
    *("", " ", ".", "..", "../x", "/", "//", "~", "~nobody/x", "-", "--", "-1", "0", "1e999"),
    *("a" * 5_000, "9" * 4_400, "9" * 30, "nan", "\0", "a\0b", "a\nb", "\x1b[31m", "\udcff"),
    *("\u202eabc", "[bold]", "s3://", "s3://b", "s3:///x", "s3://UPPER/x", "s3://b/../x"),
    *("http://x/y", "file:///etc/passwd", "/dev/null", "/dev/zero", "/proc/self/mem"),
    *("/etc/passwd", "{}", "%s", "$(id)", "`id`", "1,2,", ",", "0.5,0.5", "head", "head,head"),
    *("nobody", "None", "true", "127.0.0.1:1", "[::1]:1"),
)
"""What people, scripts and strangers type where a name, a number, a path or an address belongs."""

STORE, PICTURES = "STORE", "PICTURES"
PLAIN: dict[str, list[str]] = {
    "index": [PICTURES, "--into", "OUT", "--engine", "serial"],
    "query": [STORE, "--ids", "0", "--engine", "serial"],
    "evaluate": [STORE, "--protocol", "groups", "--engine", "serial"],
    "plan": [PICTURES, "--sample", "2"],
    "explain": [STORE, "00.png", "01.png"],
    "compare": [STORE, STORE, "--engine", "serial"],
    "duplicates": [STORE, "--engine", "serial"],
    "export": [STORE, "--to", "OUT"],
    # A snapshot that is not there: what can be served is served without end.
    "serve": [STORE, "--port", "0", "--snapshot", "99"],
    "reproduce": ["--data", PICTURES, "--into", "OUT", "--engine", "serial"],
    "status": [STORE],
    "snapshots": [STORE],
    "runs": [STORE],
    "verify": [STORE],
    "gc": [STORE],
    "repair": [STORE, "--engine", "serial"],
    "retry": [STORE, "--engine", "serial"],
    "doctor": [],
    "vocabulary show": [STORE],
    "vocabulary compare": [STORE, STORE],
    "vocabulary export": [STORE, "--into", "OUT"],
}
"""A call of each command that does something."""

SLOW = ("plan", "index", "evaluate", "explain", "compare", "reproduce", "doctor")
"""Commands that take a second or two even here: fewer of their calls are among the sampled."""


WRITTEN = (
    *("OUT", "--into", "--out", "--trec", "--page", "--to", "--groups"),
    *("--scores", "--qrels-out", "--run-out"),
    "--store",
)
"""Arguments and options that name what is written: no text may lead out of the test's folder."""


def may_stand(text: str, place: str) -> bool:
    """Say whether a text may be tried there: what it names may be written, or listed whole."""
    if place in WRITTEN:
        return not text.startswith(("/", "~", "file:"))
    return text not in ("/", "//") or place not in (PICTURES, "--pictures", "--queries")


@functools.cache
def all_commands() -> Any:
    """Return the commands as typer makes them, which takes a tenth of a second."""
    return typer.main.get_command(app)


def options(command: str) -> list[str]:
    """Return the options of a command that take a value."""
    found = all_commands()
    for part in command.split(" "):
        found = found.commands[part]
    return [
        parameter.opts[0]
        for parameter in found.params
        if parameter.param_type_name == "option" and not parameter.is_flag
    ]


@functools.cache
def calls() -> list[tuple[str, ...]]:
    """Return every command with a strange text in the place of each argument and option."""
    found: list[tuple[str, ...]] = []
    for command, plain in PLAIN.items():
        for text in TEXTS:
            for place, value in enumerate(plain):
                if value in (STORE, PICTURES, "OUT") and may_stand(text, value):
                    found.append((*command.split(), *plain[:place], text, *plain[place + 1 :]))
            for option in filter(lambda option: may_stand(text, option), options(command)):
                found.append((*command.split(), *plain, option, text))
    return found


def chosen(every: bool) -> list[tuple[str, ...]]:
    if every:
        return seeded("many calls").sample(calls(), 1_000)
    return seeded("calls").sample([call for call in calls() if call[0] not in SLOW], 40)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tiny store and its pictures."""
    folder = tmp_path_factory.mktemp("typed")
    pictures = tiny_pictures(folder / "pictures")
    tiny_index(folder / "store", pictures)
    return {STORE: str(folder / "store"), PICTURES: str(pictures), "OUT": "out"}


@pytest.mark.parametrize(
    "every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_no_text_on_the_command_line_ends_in_a_traceback(
    every: bool,
    places: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "fonts"))  # a list that it keeps of them
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("LAMELLA_S3_PATIENCE_S", "0.1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    codes: dict[int, int] = {}
    wrong: list[str] = []
    for number, call in enumerate(chosen(every)):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        monkeypatch.chdir(folder)
        arguments = [places.get(part, part) for part in call]
        monkeypatch.setattr(sys, "argv", ["lamella", *arguments])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        out = capfd.readouterr()
        said = out.out + out.err
        complaint = [line for line in out.err.splitlines() if line.startswith("lamella: ")]
        if (
            code not in (0, 1, 2, 4)
            or "Traceback" in said
            or "\x1b[31m" in said
            or any(len(line) > 3_000 for line in complaint)
        ):
            wrong.append(f"{arguments}: code {code}, {said[-2_000:]}")
        codes[code] = codes.get(code, 0) + 1
    assert not wrong, "\n".join(wrong)
    assert list(home.iterdir()) == []
    print(f"{sum(codes.values())} calls: {codes}")


def test_there_is_something_to_try() -> None:
    assert len(calls()) > 2_000
    assert {call[0] for call in calls()} == {name.split()[0] for name in PLAIN}
    assert len(set(itertools.chain(*(options(command) for command in PLAIN)))) > 15
    assert random.Random(0).choice(calls())
