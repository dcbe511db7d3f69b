"""Read published pickles as data: nothing in them is called or imported.

The official files hold numbers, strings, lists and dictionaries. Pickles that need anything else,
`os.system` or a numpy array, are refused by its name before it is looked up.
"""

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

from lamella.pipeline.errors import InputError

LARGEST_BYTES = 64 * 1024**2
"""The largest file; the official ones have some 200 kB."""

_PLAIN = """
PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE
INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8
UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
EMPTY_DICT DICT SETITEM SETITEMS
GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE
"""
PLAIN = frozenset(_PLAIN.split())
"""Pickle instructions that make plain values."""

NAMING = frozenset({"GLOBAL", "STACK_GLOBAL", "INST"})
"""Instructions that look up a name in a module; `find_class` refuses and names it."""


class _Refused(Exception):
    """A pickle needs more than plain values; the text says what."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise _Refused(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a persistent id")


def read_plain_pickle(file: Path) -> Any:
    """Return what a pickle holds, if that is plain values.

    Raises:
        InputError: it cannot be read, is cut short or too large, or needs anything else.
    """
    try:
        with file.open("rb") as opened:
            data = opened.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise InputError(f"a ground truth is a readable file; {file}: {error}") from None
    if len(data) > LARGEST_BYTES:
        raise InputError(
            f"a ground truth has at most {LARGEST_BYTES:,} bytes; {file} has more: "
            "give the official file"
        )
    try:
        _check_instructions(data)
        # latin1 reads the byte strings of Python 2 without loss.
        return _PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
    except _Refused as error:
        raise InputError(
            f"a ground truth holds only numbers, strings, lists and dictionaries; {file} asks "
            f"for {error}, which was not looked up: give the official file, or the same as .json"
        ) from None
    except Exception as error:
        # Damaged pickles may raise anything: ValueError, EOFError, IndexError, MemoryError.
        detail = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(f"{file} is no whole pickle ({detail}): fetch it again") from None


def _check_instructions(data: bytes) -> None:
    """Raise if the pickle does more than make plain values, without running it."""
    for count, (instruction, argument, _) in enumerate(pickletools.genops(data)):
        if instruction.name in NAMING:
            return  # the unpickler stops here as well, and knows the name
        if instruction.name not in PLAIN:
            raise _Refused(f"the instruction {instruction.name}")
        # The unpickler's memo is an array, so one high index would take all memory.
        if instruction.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > count:
            raise ValueError(f"memo {argument} at instruction {count}")
