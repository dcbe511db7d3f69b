"""Keep the current folder, and the folder of the script, off the path that Python imports from.

Users run commands in folders of pictures that others made, and a `pydantic.py` or `PIL/` in there
would be imported instead of the real one. Python puts the current folder first on its path, and so
does an empty or relative part of PYTHONPATH. An absolute part of PYTHONPATH is the user's choice.
"""

import contextlib
import importlib
import os
import site
import sys
from collections.abc import Sequence

PACKAGES = ("lamella", "lamella.schemas", "lamella.pipeline", "lamella.cluster")

LISTS_OF_FOLDERS = ("PYTHONPATH", "LD_LIBRARY_PATH", "PATH")
"""Variables that list folders of code; an empty part means the current folder."""


def safe_path(path: Sequence[str]) -> list[str]:
    """Return an import path without the current folder and the folder of the script.

    They stay if PYTHONPATH has their absolute path, or if packages are installed in them.
    """
    parts = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    named = {*_installed(), *(part for part in parts if os.path.isabs(part))}
    here = {os.path.dirname(os.path.realpath(sys.argv[0]))}
    with contextlib.suppress(FileNotFoundError):  # the current folder was deleted
        here |= {os.getcwd(), *(os.path.abspath(part) for part in parts if part not in named)}
    return [part for part in path if os.path.isabs(part) and part not in here - named]


def leave_current_folder() -> None:
    """Take the current folder off the import path of this process and of its future children."""
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

    In the child, `lamella` is this package, even if its path (`path_of_children`) has another.
    """
    packages = [
        (package.__name__, package.__file__, list(package.__path__))
        for package in map(importlib.import_module, PACKAGES)
    ]
    return [sys.executable, *options, "-P", "-c", f"{_OURS.format(packages=packages)}\n{code}"]


def path_of_children() -> dict[str, str]:
    """Return the variables with which a child imports the same packages as this process."""
    return {"PYTHONPATH": os.pathsep.join(safe_path(sys.path))}


def _installed() -> set[str]:
    return {*site.getsitepackages(), site.getusersitepackages()}
