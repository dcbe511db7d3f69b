"""`lamella query` as it is typed: what may be asked, what is kept, what is written, how it ends."""

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from lamella.cluster.commands import query
from lamella.pipeline.jobs import ranking_copies
from tests.command_line import Said, complaint, lamella
from tests.end_to_end.commands import Stores, current
from tests.tiny import ids_by_name

SERIAL = ("--engine", "serial")


@pytest.fixture
def store(stores: Stores, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stores.one, tmp_path / "store"))


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def asked(store: Path, *arguments: object, piped: bytes | None = None) -> dict[str, Any]:
    """Return what a query says in JSON."""
    said = ask(store, *arguments, "--json", piped=piped)
    assert said.returncode == 0, said.stderr
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def ask(store: Path, *arguments: object, piped: bytes | None = None) -> Said:
    given = io.TextIOWrapper(io.BytesIO(piped or b""), "utf-8")
    with mock.patch.object(sys, "stdin", given):
        return lamella("query", store, *arguments, "-k", 2, *SERIAL)


def queries(found: dict[str, Any]) -> list[str]:
    return [row["query_name"] for row in found["rankings"] if row["rank"] == 1]


def test_few_queries_leave_nothing_in_the_store_unless_a_run_is_named(
    store: Path, stores: Stores
) -> None:
    before = files(store)
    found = asked(store, stores.pictures / "00.png", stores.pictures / "01.png")
    assert queries(found) == [str(stores.pictures / name) for name in ("00.png", "01.png")]
    assert found["run"]["stored"] is None
    said = ask(store, "--ids", "all")
    assert (
        "5 queries answered, 5 certified complete, 0 refused: not kept; --into NAME" in said.stdout
    )
    assert files(store) == before

    kept = asked(store, stores.pictures / "00.png", stores.pictures / "01.png", "--into", "mine")
    assert kept["run"]["stored"] == f"{store}/runs/mine/run.json"
    assert kept["rankings"] == found["rankings"]
    assert (store / "runs/mine/run.json").is_file()


def test_many_queries_are_kept_as_a_run(
    store: Path, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "FEW", 4)
    found = asked(store, "--ids", "all")
    path = found["run"]["stored"]
    assert Path(path).is_file()
    said = ask(store, "--ids", "all")
    assert f"its files are named by {path}" in said.stdout
    assert "nothing was left to answer" in said.stdout


def test_what_is_piped_in_is_asked(store: Path, stores: Stores) -> None:
    picture = stores.pictures / "03.png"
    ids = ids_by_name(store, current(store))
    assert queries(asked(store, "-", piped=picture.read_bytes())) == ["standard-input"]
    listed = f"{picture}\n{stores.pictures / '00.png'}\n".encode()
    names = [str(stores.pictures / "00.png"), str(picture)]
    assert queries(asked(store, "--queries", "-", piped=listed)) == names
    assert queries(asked(store, "--names", "-", piped=b"03.png\n00.png\n")) == ["03.png", "00.png"]
    by_id = f"{ids['04.png']}\n{ids['01.png']}\n".encode()
    assert queries(asked(store, "--ids", "-", piped=by_id)) == ["04.png", "01.png"]
    both = ask(store, "-", picture, piped=b"")
    assert "`-` is asked alone; to name a file, write ./-" in complaint(both)


def test_a_person_at_the_keyboard_is_told_what_is_waited_for(store: Path) -> None:
    with mock.patch.object(sys, "stdin", mock.Mock(isatty=lambda: True)):
        said = lamella("query", store, "-", *SERIAL)
    assert "`-` reads standard input, and nothing is piped in" in complaint(said)


@pytest.mark.parametrize("how", [("--ids", "all"), ("snapshot",), ("--names", "00.png,03.png")])
def test_pictures_are_left_out_of_their_own_answers(store: Path, how: tuple[str, ...]) -> None:
    found = asked(store, *how, "--exclude-self")
    assert found["run"]["exclude_self"]
    assert found["run"]["certified"] == found["run"]["answered"] == len(queries(found))
    assert all(row["query"] != row["image_id"] for row in found["rankings"])
    assert len(found["rankings"]) == 2 * found["run"]["answered"]


def test_several_queries_are_one_table(store: Path, tmp_path: Path) -> None:
    said = ask(store, "--ids", "all")
    assert said.stdout.count("best other picture") == 1
    assert said.stdout.count("━┓") == 1  # the top of a table
    assert "all ranks: --out FILE.csv, .json or .parquet" in said.stdout
    assert "all ranks" not in ask(store, "--ids", "all", "--out", tmp_path / "r.csv").stdout
    one = ask(store, "--names", "00.png")
    assert "rank" in one.stdout
    assert "best" not in one.stdout


@pytest.mark.parametrize("kind", ["cut", "listed", "text", "missing"])
def test_a_query_of_which_nothing_is_answered_ends_with_2(
    kind: str, store: Path, stores: Stores, tmp_path: Path
) -> None:
    asks = {
        "cut": (stores.pictures / "05.png", "(1 truncated): mend them, or ask by others"),
        "listed": (tmp_path / "list.txt", "2 of 2 were refused (2 missing)"),
        "text": (tmp_path / "text.dat", "holds no query pictures"),
        "missing": (tmp_path / "gone.jpg", "cannot be opened"),
    }
    (tmp_path / "list.txt").write_text("nowhere.jpg\nneither.jpg\n")
    (tmp_path / "text.dat").write_text("no picture")
    picture, message = asks[kind]
    assert message in complaint(ask(store, picture))
    said = ask(store, picture, "--json")
    assert message in complaint(said)
    error = json.loads(said.stdout)["error"]
    assert (error["code"], error["kind"]) == (2, "InputError")
    assert message in error["message"]


def test_a_run_without_answers_is_shown_again_with_the_same_end(
    store: Path, stores: Stores
) -> None:
    first = ask(store, stores.pictures / "05.png", "--into", "none", "--json")
    again = lamella("query", store, "--into", "none", "--json")
    assert first.returncode == again.returncode == 2
    assert json.loads(first.stdout) == json.loads(again.stdout)
    assert json.loads(again.stdout)["refusals"][0]["reason"] == "truncated"


def test_some_answers_are_an_answer(store: Path, stores: Stores) -> None:
    said = ask(store, stores.pictures)
    assert said.returncode == 0
    assert "5 queries answered, 5 certified complete, 1 refused (1 truncated)" in said.stdout


@pytest.mark.parametrize("name", ["r.xlsx", "r", "nowhere/r.csv"])
def test_a_file_that_cannot_be_written_is_refused_before_the_work(
    name: str, stores: Stores, tmp_path: Path
) -> None:
    with mock.patch.object(query, "prepare_queries", side_effect=AssertionError):
        complaint(ask(stores.one, "--ids", "all", "--out", tmp_path / name))
        assert "--trec FILE" in complaint(ask(stores.one, "--ids", "all", "--trec-ids"))


def test_a_full_disk_is_told_with_the_way_to_have_the_file_later(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = mock.Mock(side_effect=OSError(28, "No space left on device"))
    monkeypatch.setattr(ranking_copies, "write_parquet_parts", full)
    out = tmp_path / "r.parquet"
    said = complaint(ask(store, "--ids", "all", "--out", out), code=1)
    assert said.endswith("make room, then give the same command again")
    said = complaint(ask(store, "--ids", "all", "--out", out, "--into", "mine"), code=1)
    assert f"the answers are kept: lamella query {store} --into mine --out {out}" in said
