"""Text that a person sees: names come from anyone, and are shown, never obeyed."""


def printable(text: str) -> str:
    """Return text with control, direction and other unprintable characters spelled out.

    >>> printable("a\\x1b[31mb")
    'a\\\\x1b[31mb'
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
