"""A store that a stranger made: whatever stands in it, sealed as it must be, is used or refused.

No command crashes, hangs, fills memory, shows a traceback, or writes outside of the store.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.end_to_end.commands import COMMANDS, Stores
from tests.fuzz.fuzzing import EDITS, ODD, Edit, drawn, edited, fuzz, replaced
from tests.fuzz.sealing import Forger
from tests.tiny import TINY

ROOT = Path(__file__).parents[2]
MOST_BYTES = 2 << 30
"""Torch and a network take half a gigabyte; a store of some kilobytes gives nobody more to hold."""


class Zygote:
    """A process that runs commands in forks of itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "COLUMNS": "200",
        }
        for name in ("home", "tmp"):
            (folder / name).mkdir()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.zygote"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def run(self, *calls: list[str]) -> dict[str, Any]:
        """Return what became of some commands."""
        assert self.process.stdin is not None
        question = {"arguments": calls, "folder": str(self.folder)}
        print(json.dumps(question), file=self.process.stdin, flush=True)
        return dict(json.loads(self._line()))


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    runner = Zygote(tmp_path_factory.mktemp("zygote"))
    yield runner
    runner.process.kill()
    runner.process.communicate()  # which closes its pipes


@pytest.fixture(scope="module")
def full(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with files of every kind."""
    store = Path(shutil.copytree(stores.two, tmp_path_factory.mktemp("full") / "store"))
    for name in ("query ids", "query pictures", "evaluate"):
        COMMANDS[name].run(stores, store)
    return store


def job_file(folder: Path) -> Path:
    """Write the settings that the store was made with."""
    settings = {key.replace("__", "."): value for key, value in TINY.items()}
    settings |= {"corpus.max_refused": 0.5, "profile": "paper"}
    path = folder / "job.toml"
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()))
    return path


def commands(store: Path, pictures: Path, folder: Path) -> dict[str, list[str]]:
    """Return calls that read, mend, clean and go on with a store."""
    at, serial = str(store), ["--engine", "serial"]
    job = ["--job", str(job_file(folder)), *serial]
    groups = ("--protocol", "groups", "--pattern", r"(\d)\d")
    return {
        "query": ["query", at, "--ids", "all", "-k", "3", *serial],
        "query pictures": ["query", at, str(pictures), "-k", "3", "--into", "mine", *serial],
        "run": ["query", at, "--into", "mine"],
        "evaluate": ["evaluate", at, *groups, *serial],
        "evaluate run": ["evaluate", at, "--run", "mine", *groups],
        "explain": ["explain", at, "00.png", "01.png"],
        "compare snapshots": ["compare", at, at, *serial],
        "duplicates": ["duplicates", at, "--page", str(folder / "out" / "same.html"), *serial],
        "export layers": ["export", at, "--to", str(folder / "out" / "layers")],
        "status": ["status", at],
        "snapshots": ["snapshots", at],
        "promote": ["snapshots", at, "--promote", "1"],
        "release": ["snapshots", at, "--release"],
        "verify": ["verify", at],
        "gc": ["gc", at, "--older-than", "0s", "--force"],
        "gc --intermediate": ["gc", at, "--intermediate", "--older-than", "0s", "--force"],
        "runs": ["runs", at],
        "repair": ["repair", at, *serial],
        "retry": ["retry", at, *serial],
        "index": ["index", str(pictures), "--into", at, *job],
        "show": ["vocabulary", "show", at, "--page", str(folder / "out" / "words.html")],
        "export": ["vocabulary", "export", at, "--into", str(folder / "out" / "words")],
        "compare": ["vocabulary", "compare", at, at],
    }


READING = (
    *("query", "evaluate", "status", "runs", "verify", "show"),
    *("evaluate run", "explain", "compare snapshots", "duplicates", "export layers"),
)


def everything(folder: Path) -> dict[str, int]:
    return {
        path.relative_to(folder).as_posix(): path.lstat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() or path.is_symlink()
    }


def try_store(
    zygote: Zygote, store: Path, pictures: Path, names: tuple[str, ...], outside: Path
) -> None:
    """Give a store to some commands, and see that all is well whatever they say of it."""
    (outside / "out").mkdir(exist_ok=True)
    calls = commands(store, pictures, outside)
    before = everything(pictures)
    found = zygote.run(*(calls[name] for name in names))
    assert found["code"] in (0, 1, 2, 3, 4), found
    assert "Traceback" not in found["said"], found["said"]
    assert found["peak_bytes"] < MOST_BYTES, found
    assert everything(pictures) == before
    assert {path.name for path in outside.iterdir()} <= {"job.toml", "out", "store"}
    written = {path.name for path in (outside / "out").iterdir()}
    assert written <= {"words.html", "words", "same.html", "layers"}
    shutil.rmtree(outside / "out")
    home = {path.name for path in zygote.folder.iterdir()}
    assert home <= {"home", "tmp", "log"}, home
    assert not any(path.is_file() for path in (zygote.folder / "tmp").rglob("*"))


def chosen(every: dict[str, Any]) -> Any:
    """Draw which commands are tried: one that reads, and any one that may write."""
    return st.tuples(st.sampled_from(READING), st.sampled_from(sorted(every)))


@drawn(25, few=3)
def test_stores_sealed_by_a_stranger_are_used_or_refused(
    zygote: Zygote, stores: Stores, full: Path, tmp_path: Path, examples: int
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    every = commands(full, stores.pictures, tmp_path)

    def strange(
        place: int, edits: list[Edit], where: int, odd: Any, names: tuple[str, ...], kind: str
    ) -> None:
        store = Path(shutil.copytree(full, outside / "store"))
        try:
            forger = Forger(store)
            if kind != "record":
                files = forger.data_files()
                path = files[place % len(files)]
                data = (store / path).read_bytes()
                if kind == "numbers":  # what follows the headers of an Arrow file
                    edits = [(len(data) // 3 + at % 2000, what, n) for at, what, n in edits]
                    edits = [e for e in edits if e[1] in ("byte", "word", "zero")]
                forger.put(path, edited(data, edits))
            else:
                path = sorted(forger.records)[place % len(forger.records)]
                forger.records[path] = replaced(forger.records[path], where, odd)
            try:
                forger.seal()
            except (UnicodeEncodeError, ValueError, TypeError, KeyError):
                return  # it cannot be written as JSON
            try_store(zygote, store, stores.pictures, names, outside)
        finally:
            shutil.rmtree(store, ignore_errors=True)

    fuzz(
        strange,
        st.integers(0, 10**6),
        EDITS.filter(bool),
        st.integers(0, 500),
        ODD,
        chosen(every),
        st.sampled_from(["numbers", "bytes", "record"]),
        examples=examples,
        a_round=50,
    )


def test_a_store_that_nobody_touched_is_used_by_every_command(
    zygote: Zygote, stores: Stores, full: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    (outside / "out").mkdir(parents=True)
    store = Path(shutil.copytree(full, outside / "store"))
    forger = Forger(store)
    before = {path: (store / path).read_bytes() for path in forger.records}
    forger.seal()
    assert {path: (store / path).read_bytes() for path in forger.records} == before
    # In one process, which opens the network once.
    found = zygote.run(*commands(store, stores.pictures, outside).values())
    assert found["code"] == 0, found["said"]
