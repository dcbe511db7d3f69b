"""Where compiled loops are kept, and that there need be no such place."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline.compiled import cached


def test_a_function_that_can_be_cached_nowhere_is_compiled_all_the_same() -> None:
    space: dict[str, Any] = {}
    exec("def double(value):\n    return 2 * value", space)  # has no file to keep a cache beside
    assert cached(space["double"], nogil=True)(21) == 42


CALL = """
import numpy as np
from pipeline.vocabulary.compare import squared_norms_of
print(squared_norms_of(np.ones((2, 3), np.float32)).tolist(), squared_norms_of.stats.cache_hits)
"""


def test_a_second_process_takes_what_the_first_compiled(tmp_path: Path) -> None:
    said = [
        subprocess.run(
            [sys.executable, "-c", CALL],
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    assert said[0] == "[3.0, 3.0] Counter()\n"
    assert said[1].startswith("[3.0, 3.0] Counter({")
