"""Read and check the text files of published ground truths."""

from math import inf
from pathlib import Path

from lamella.pipeline.errors import InputError
from lamella.pipeline.evaluate.truth import Box


def read_text(file: Path) -> str:
    """Return a file's text.

    Raises:
        InputError: it cannot be read, or is not text.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"a ground truth file is readable text; {file}: {error}") from None


def read_lines(file: Path) -> list[str]:
    """Return the lines of a file that are not blank, stripped. Raises as `read_text`."""
    return [line.strip() for line in read_text(file).splitlines() if line.strip()]


def read_list(query_file: Path, kind: str) -> list[str]:
    """Return the names of the list (good, ok or junk) beside `<landmark>_<n>_query.txt`."""
    prefix = query_file.name.removesuffix("query.txt")
    return read_lines(query_file.with_name(f"{prefix}{kind}.txt"))


def read_query(file: Path) -> tuple[str, Box]:
    """Return the stem (without the prefix `oxc1_`) and the box of a query file.

    Raises:
        InputError: it is not one line `name x1 y1 x2 y2` with corners in this order.
    """
    lines = read_lines(file)
    words = lines[0].split() if len(lines) == 1 else []
    try:
        stem, (x1, y1, x2, y2) = words[0], map(float, words[1:])
    except (IndexError, ValueError):
        raise InputError(
            f"a query file is one line `name x1 y1 x2 y2`; {file} is {lines!r}"
        ) from None
    if not (0 <= x1 < x2 < inf and 0 <= y1 < y2 < inf):
        raise InputError(f"a box is two corners, x1 < x2 and y1 < y2; {file} has {words[1:]}")
    return stem.removeprefix("oxc1_"), (x1, y1, x2, y2)
