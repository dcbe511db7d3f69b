"""Where code may be imported from: never the folder one stands in, nor that of the script.

People stand in folders of pictures that others made, and a `pydantic.py` or `PIL/` there would be
imported in place of the real one. Python puts the current folder first by itself, and so does an
empty or relative part of PYTHONPATH. An absolute part of PYTHONPATH is the user's own choice.
"""

import contextlib
import importlib
import os
import site
import sys
from collections.abc import Sequence

PACKAGES = ("lamella", "lamella.schemas", "lamella.pipeline", "lamella.cluster")

LISTS_OF_FOLDERS = ("PYTHONPATH", "LD_LIBRARY_PATH", "PATH")
"""Variables that say where code is looked for; an empty part means the current folder."""


def safe_path(path: Sequence[str]) -> list[str]:
    """Return a search path of Python without the current folder and the script's.

    They stay where PYTHONPATH names them in full, or where packages are installed in them.
    """
    parts = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    named = {*_installed(), *(part for part in parts if os.path.isabs(part))}
    here = {os.path.dirname(os.path.realpath(sys.argv[0]))}
    with contextlib.suppress(FileNotFoundError):  # the current folder was deleted
        here |= {os.getcwd(), *(os.path.abspath(part) for part in parts if part not in named)}
    return [part for part in path if os.path.isabs(part) and part not in here - named]


def leave_current_folder() -> None:
    """Take the current folder off the path of this process and of those that it will start."""
    sys.path[:] = safe_path(sys.path)
    for name in LISTS_OF_FOLDERS:
        parts = os.environ.get(name, "").split(os.pathsep)
        if kept := [part for part in parts if os.path.isabs(part)]:
            os.environ[name] = os.pathsep.join(kept)
        else:
            os.environ.pop(name, None)


_OURS = """
import importlib.util, sys
for name, file, folders in {packages!r}:
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=folders)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
"""


def python_running(code: str, *options: str) -> list[str]:
    """Return the command of a child process that runs this code.

    `lamella` is this package there, whatever else of that name is on its path, which
    `path_of_children` gives.
    """
    packages = [
        (package.__name__, package.__file__, list(package.__path__))
        for package in map(importlib.import_module, PACKAGES)
    ]
    return [sys.executable, *options, "-P", "-c", f"{_OURS.format(packages=packages)}\n{code}"]


def path_of_children() -> dict[str, str]:
    """Return what the environment of a child must hold to import what this process does."""
    return {"PYTHONPATH": os.pathsep.join(safe_path(sys.path))}


def _installed() -> set[str]:
    return {*site.getsitepackages(), site.getusersitepackages()}
