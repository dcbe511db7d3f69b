"""What TREC's runs and qrels share: names as words, and lines of a fixed number of words."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.compute as pc

from lamella.pipeline.errors import InputError, one_line

_SPLITS = re.compile(r"[\s\x00-\x1f\x7f\ufeff%]")
"""What ends a column or a line for some reader of TREC files, or is dropped as the mark that begins
a file, and the sign of its encoding."""


def as_word(name: str) -> str:
    """Return a name without what splits it: white space, control characters and `%` are encoded.

    >>> as_word("cats/my cat.jpg")
    'cats/my%20cat.jpg'
    """
    return _SPLITS.sub(lambda found: quote(found[0], safe=""), name)


def as_words(column: Any) -> Any:
    """Return a pyarrow column of large strings, each as `as_word`."""
    if not pc.any(pc.match_substring_regex(column, r"[\s%\pZ\pC]")).as_py():
        return column
    return pa.chunked_array([pa.array(map(as_word, column.to_pylist()), pa.large_string())])


def as_name(word: str) -> str:
    """Return the name that a word stands for; what is no encoding of text stays as it is."""
    if "%" not in word:
        return word
    try:
        return unquote(word, errors="strict")
    except UnicodeDecodeError:
        return word


def lines_of(path: Path, what: str, form: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number, from 1, and the words of each line that is not blank.

    Args:
        what: what the file is, such as "qrels", for messages.
        form: the words of a line, such as "qid 0 docid rel".

    Raises:
        InputError: it cannot be read, is not text, or a line has another number of words.
    """
    count = len(form.split())
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                words = line.split()
                if len(words) == count:
                    yield number, words
                elif words:
                    raise malformed(path, what, form, number, line)
    except OSError as error:
        said = error.strerror or type(error).__name__
        raise InputError(
            f"lines `{form}` of {what} are read from a file; {path}: {said}: give another"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"lines `{form}` of {what} are text in UTF-8; {path} is not ({error.reason}): give "
            "another file"
        ) from None


def malformed(path: Path, what: str, form: str, number: int, line: str) -> InputError:
    """Return the error for a line that is not of its form."""
    return InputError(
        f"a line of {what} is `{form}`; line {number} of {path} is {one_line(repr(line), 120)}: "
        "mend it, or give another file"
    )
