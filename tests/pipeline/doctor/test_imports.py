"""Libraries are imported apart: one that fails, crashes, hangs or talks is told by its name."""

from pathlib import Path

import pytest

from lamella.pipeline.doctor.imports import import_apart


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules a child imports as it does installed ones."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_module_that_is_not_there_is_told(modules: Path) -> None:
    found = import_apart(["json", "no_such_module"])
    assert found["json"].error == ""
    assert found["no_such_module"].error == "No module named 'no_such_module'"


def test_an_error_of_a_module_is_one_line(modules: Path) -> None:
    (modules / "torn.py").write_text("raise OSError('libcudnn.so:\\n  cannot open shared object')")
    assert import_apart(["torn"])["torn"].error == "libcudnn.so: cannot open shared object"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ends Python (SIGSEGV)"),
        ("import os; os._exit(3)", "ends Python (exit code 3)"),
        ("raise SystemExit(0)", "ends Python (exit code 0)"),
    ],
)
def test_a_module_that_ends_its_process_leaves_the_others_to_be_tried(
    modules: Path, code: str, said: str
) -> None:
    (modules / "deadly.py").write_text(code)
    found = import_apart(["json", "deadly", "csv"])
    assert [found[each].error for each in ("json", "csv")] == ["", ""]
    assert said in found["deadly"].error


def test_a_module_that_hangs_is_ended(modules: Path) -> None:
    (modules / "hanging.py").write_text("import time; time.sleep(600)")
    found = import_apart(["hanging", "json"], patience_s=1.0)
    assert found["hanging"].error == "importing it did not end within 1 s"
    assert found["json"].error == ""


def test_what_a_module_prints_is_no_answer(modules: Path) -> None:
    (modules / "loud.py").write_text(
        'print(\'{"module": "json"}\'); print("[1]"); print("hello"); print("{")'
    )
    assert {name: each.error for name, each in import_apart(["loud", "json"]).items()} == {
        "loud": "",
        "json": "",
    }


def test_numba_is_asked_where_it_keeps_what_it_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No settings are taken from the current folder: these would switch compiling off.
    (tmp_path / ".numba_config.yaml").write_text("disable_jit: 1\ncache_dir: .\n")
    monkeypatch.chdir(tmp_path)
    found = import_apart(["numba"])["numba"]
    assert found.error == ""
    assert Path(found.facts["cache"]).is_absolute()
