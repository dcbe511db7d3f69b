"""The names of what a network from elsewhere gives: modules, and parts of what they give."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

OUTPUT = "output"
"""The node of what the network itself returns."""

_NODE = re.compile(r"(?P<module>[^\[\]]+)(?:\[(?P<part>\w+)\])?")


def node_parts(node: str) -> tuple[str, str | None]:
    """Return the module of a node and the part of its output that is meant.

    >>> node_parts("encoder[0]"), node_parts("encoder")
    (('encoder', '0'), ('encoder', None))
    """
    found = _NODE.fullmatch(node)
    return (found["module"], found["part"]) if found else (node, None)


def part_of(output: Any, part: str | None) -> Any:
    """Return a part of a tuple by its number, or of a dict by its name; all of it for None.

    None where there is no such part.
    """
    if part is None:
        return output
    if isinstance(output, Mapping):
        return output.get(part)
    if isinstance(output, Sequence) and part.isdecimal() and int(part) < len(output):
        return output[int(part)]
    return None
