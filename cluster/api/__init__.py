"""Lamella: batch indexing and bulk queries for image retrieval.

    import lamella

    lamella.index("~/Pictures", into="./index")
    with lamella.open("./index") as index:
        found = index.query("photo.jpg", k=10)
        print(found.names[0], found.scores[0])

Nothing is imported before it is asked for: every process that decodes pictures runs this file.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lamella import errors
    from lamella.indexing import index
    from lamella.opened import Index, open
    from lamella.pictures import Picture
    from lamella.pipeline.evaluate.pair import Explanation
    from lamella.result import Refusal, Result

__all__ = ["Explanation", "Index", "Picture", "Refusal", "Result", "errors", "index", "open"]

_HOMES = {
    "Explanation": "lamella.pipeline.evaluate.pair",
    "Index": "lamella.opened",
    "Picture": "lamella.pictures",
    "Refusal": "lamella.result",
    "Result": "lamella.result",
    "index": "lamella.indexing",
    "open": "lamella.opened",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name == "errors":
        return importlib.import_module("lamella.errors")
    if name == "__version__":
        from importlib import metadata

        return metadata.version("lamella")
    if name not in _HOMES:
        raise AttributeError(f"module 'lamella' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
