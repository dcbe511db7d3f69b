"""Which products this process uses: what was asked for, what works, and what is worth PyTorch."""

import sys
from functools import cache
from threading import Lock
from typing import Literal

from lamella.pipeline import events
from lamella.pipeline.errors import one_line
from lamella.pipeline.products.cpu import this_cpu
from lamella.pipeline.products.trial import gflops_of_rows, what_is_wrong
from lamella.schemas.job import ProductKind

Choice = ProductKind | Literal["auto"]

IMPORTED_FROM = 1 << 38
"""Multiplications after which PyTorch is imported if nothing else has: they take as long in float32
on two cores, some 3 s, as the import. Whoever asks little never waits for it."""

FASTER = 1.2
"""Another kind than float32 is chosen for words if it is that much as fast."""

TRIED_WORDS = (1_024, 512, 1_024)
"""Rows, dimensions and words of the products that are timed: 14 ms in float32 on two cores."""

_LOCK = Lock()
_asked: Choice = "auto"
_multiplied = 0


def use(choice: Choice) -> None:
    """Have this process propose by products of a kind from now on; no answer changes.

    Args:
        choice: a kind, or "auto" for what is fastest here.
    """
    global _asked
    _asked = choice


def asked() -> Choice:
    """Return what `use` said last, "auto" at first."""
    return _asked


def torch_is_worth(multiplications: int) -> bool:
    """Count products that are to be computed, and say whether PyTorch may compute some.

    It may if it is imported already, or was asked for, or after so many that it would have paid.
    """
    global _multiplied
    with _LOCK:
        _multiplied += multiplications
        return "torch" in sys.modules or _asked != "auto" or _multiplied >= IMPORTED_FROM


def works(kind: ProductKind) -> bool:
    """Say whether products of a kind keep their bounds on this CPU; if not, that is told once."""
    with _LOCK:
        return _works(kind)


def for_words(multiplications: int) -> ProductKind:
    """Return the kind of products of rows with words, of which so many are to be computed.

    float32 or bfloat16: rounded to 8 bits, rows and words would leave many times as many words to
    compare closely.
    """
    if _asked in ("float32", "int8") or not torch_is_worth(multiplications):
        return "float32"
    if _asked == "auto" and not this_cpu().bfloat16:
        return "float32"
    if not works("bfloat16") or (_asked == "auto" and not _faster_for_words()):
        return "float32"
    return "bfloat16"


def forget() -> None:
    """Forget what was found, counted and asked for, as at the begin of a process."""
    global _multiplied
    use("auto")
    _multiplied = 0
    _works.cache_clear()
    _faster_for_words.cache_clear()


@cache
def _works(kind: ProductKind) -> bool:
    if kind == "float32":
        return True
    try:
        wrong = what_is_wrong(kind)
    except Exception as error:
        wrong = one_line(error) or type(error).__name__
    if wrong:
        reason = f"{wrong}; float32 is used, which gives the same answers and takes longer"
        events.warning("products-fall-back", reason, products=kind, cpu=this_cpu().model)
    return not wrong


@cache
def _faster_for_words() -> bool:
    return gflops_of_rows("bfloat16", *TRIED_WORDS) >= FASTER * gflops_of_rows(
        "float32", *TRIED_WORDS
    )
