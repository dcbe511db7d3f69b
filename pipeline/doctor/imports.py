"""Import libraries in a process of their own, so that one that crashes or hangs is told by name."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lamella.pipeline.errors import one_line
from lamella.pipeline.import_path import path_of_children, python_running

PATIENCE_S = 120.0
"""How long all imports of a process may take; a cold disk needs tens of seconds for torch."""

DRIVER = Path("/dev/nvidiactl")
"""Exists where a driver for NVIDIA's cards is loaded."""


@dataclass(frozen=True)
class Imported:
    """How an import went: `error` is "" where it did; `facts` are what the module was asked."""

    error: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


def import_apart(modules: Sequence[str], patience_s: float = PATIENCE_S) -> dict[str, Imported]:
    """Return how each module imports, in processes of their own.

    One that ends its process is told as broken; those after it are tried in another one.
    """
    found: dict[str, Imported] = {}
    left = list(modules)
    while left:
        answers, ended = _run(left, patience_s)
        found |= answers
        left = [module for module in left if module not in answers]
        if left:
            found[left.pop(0)] = Imported(ended)
    return found


def _run(modules: Sequence[str], patience_s: float) -> tuple[dict[str, Imported], str]:
    """Return the answers of one process, and how it ended where some are wanting."""
    command = python_running("from lamella.pipeline.doctor.imports import main; main()")
    environment = os.environ | path_of_children()
    with subprocess.Popen(
        [*command, *modules],
        env=environment,
        cwd="/",  # numba, matplotlib and others take settings from files in the current folder
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=patience_s)
            ended = f"importing it ends Python ({_how(process.returncode)})"
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
            ended = f"importing it did not end within {patience_s:g} s"
        except BaseException:
            process.kill()
            raise
    answers = {}
    for line in said.splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):  # a library's own line
            answer = json.loads(line)
            answers[answer["module"]] = Imported(answer["error"], answer["facts"])
    return answers, ended


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def main() -> None:
    """Import what the arguments name, and print a line of JSON for each."""
    for module in sys.argv[1:]:
        error, facts = "", {}
        try:
            import_module(IMPORTED_BY.get(module, module))
            facts = ASKED[module]() if module in ASKED else {}
        except Exception as raised:
            error = one_line(raised) or type(raised).__name__
        print(json.dumps({"module": module, "error": error, "facts": facts}), flush=True)


IMPORTED_BY = {"numba": "lamella.pipeline.compiled"}
"""The module of ours that imports a library with care."""


def _of_torch() -> dict[str, Any]:
    """Return the CUDA that torch was built for, and the cards that it can use, if there is any."""
    import torch

    cards: list[dict[str, Any]] = []
    if DRIVER.exists() and torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(number)
            cards.append({"name": facts.name, "memory_bytes": facts.total_memory})
    return {"cuda": torch.version.cuda, "cards": cards, "torchvision": _torchvision_beside_it()}


def _torchvision_beside_it() -> str:
    """Return why torchvision's compiled part does not load with this torch, "" if it does.

    That is what fails where the two are for different devices; to import all of torchvision takes
    two seconds.
    """
    import torch

    spec = find_spec("torchvision")
    folder = Path(spec.origin).parent if spec is not None and spec.origin else None
    load: Callable[[str], None] = torch.ops.load_library  # typed by nobody
    try:
        for library in folder.glob("_C*.so") if folder is not None else ():
            load(str(library))
    except OSError as error:
        return one_line(error.__cause__ or error)
    return ""


def _of_numba() -> dict[str, Any]:
    """Return where compiled loops are kept, None if nowhere."""
    from lamella.pipeline.compiled import cache_folder
    from lamella.pipeline.vocabulary.compare import squared_norms_of

    return {"cache": cache_folder(squared_norms_of)}


def _of_products() -> dict[str, Any]:
    from lamella.pipeline.products.trial import facts

    return facts()


PRODUCTS = "lamella.pipeline.products.trial"

ASKED: Mapping[str, Callable[[], dict[str, Any]]] = {
    "torch": _of_torch,
    "numba": _of_numba,
    PRODUCTS: _of_products,
}
