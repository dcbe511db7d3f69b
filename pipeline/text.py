"""Text for people: names may come from strangers, so they must not control a terminal."""


def printable(text: str) -> str:
    """Return text with control, direction and other unprintable characters escaped.

    >>> printable("a\\x1b[31mb")
    'a\\\\x1b[31mb'
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
