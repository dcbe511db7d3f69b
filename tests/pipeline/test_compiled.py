"""Where compiled loops are kept, and that there need be no such place."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from lamella.pipeline.compiled import cached


def test_a_function_that_can_be_cached_nowhere_is_compiled_all_the_same() -> None:
    space: dict[str, Any] = {}
    exec("def double(value):\n    return 2 * value", space)  # has no file to keep a cache beside
    assert cached(space["double"], nogil=True)(21) == 42


CALL = """
import numpy as np
from lamella.pipeline.vocabulary.compare import squared_norms_of
print(squared_norms_of(np.ones((2, 3), np.float32)).tolist(), squared_norms_of.stats.cache_hits)
"""


ROOT = Path(__file__).parents[2]


def said_with(folder: Path, code: str = CALL, **environment: str) -> str:
    """Return what a new process in a folder says."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_a_second_process_takes_what_the_first_compiled(tmp_path: Path) -> None:
    said = [said_with(ROOT, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2)]
    assert said[0] == "[3.0, 3.0] Counter()\n"
    assert said[1].startswith("[3.0, 3.0] Counter({")


def test_a_cache_that_others_can_change_is_not_run(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    for mode, hits in ((0o777, 0), (0o777, 0), (0o755, 0), (0o755, 1)):
        cache = tmp_path / f"{mode:o}"
        cache.mkdir(exist_ok=True)
        cache.chmod(mode)
        assert said_with(tmp_path, NUMBA_CACHE_DIR=str(cache)).count("): 1") == hits


def test_no_settings_are_taken_from_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / ".numba_config.yaml").write_text("disable_jit: 1\ncache_dir: here\n")
    assert said_with(tmp_path).startswith("[3.0, 3.0] Counter(")  # compiled: it counts its calls
    assert [path.name for path in tmp_path.iterdir()] == [".numba_config.yaml"]
    loaded = "print(yaml.safe_load('1'), 'numba' in sys.modules)"
    code = f"import lamella.pipeline.compiled, sys, yaml; {loaded}"
    assert said_with(tmp_path, code) == "1 True\n"
