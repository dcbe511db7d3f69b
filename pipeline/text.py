"""Text for people: names may come from strangers, so they must not control a terminal.

Counts, bytes and times are said the same way everywhere; JSON has bytes and seconds instead.
"""

from collections.abc import Sequence

SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
TIMES = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"))


def printable(text: str) -> str:
    """Return text with control, direction and other unprintable characters escaped.

    >>> printable("a\\x1b[31mb")
    'a\\\\x1b[31mb'
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def counted(number: float, what: str) -> str:
    """Return a whole number of things: "1 query", "2,000 queries".

    Args:
        what: one of them.
    """
    whole = round(number)
    if whole == 1:
        return f"1 {what}"
    if what.endswith("y") and what[-2:-1] not in "aeiou":
        return f"{whole:,} {what[:-1]}ies"
    return f"{whole:,} {what}{'es' if what.endswith(('s', 'x', 'ch', 'sh')) else 's'}"


def byte_size(size: float) -> str:
    """Return bytes in three digits: "60 GB" for 60,000,000,000, "512 B"."""
    return _in_units(size, SIZES)


def duration(seconds: float) -> str:
    """Return a time in three digits: "2.5 h" for 9,000 seconds."""
    return _in_units(seconds, TIMES)


def three_digits(value: float) -> str:
    """Return a number with three digits, or all before the point: "1,230", "60", "0.05"."""
    for places, below in ((0, 99.95), (1, 9.995), (2, 0.9995)):
        if value >= below:
            return _short(f"{value:,.{places}f}")
    return _short(f"{value:.3f}")


def _short(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def _in_units(value: float, units: Sequence[tuple[float, str]]) -> str:
    """Return a value in the largest unit of which it is at least one."""
    for size, unit in units[:-1]:
        if value >= 0.9995 * size:
            return f"{three_digits(value / size)} {unit}"
    return f"{three_digits(value)} {units[-1][1]}"
