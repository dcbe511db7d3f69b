"""Ray and the command line: spreads the pipeline's work over processes and machines."""

import importlib
import os
import sys


def _import_ours() -> None:
    """Import `pipeline` and `schemas` from the folder that holds this package.

    The names are common, and a folder on PYTHONPATH may hold others.
    """
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    try:
        for name in ("pipeline", "schemas"):
            importlib.import_module(name)
    finally:
        del sys.path[0]


_import_ours()
